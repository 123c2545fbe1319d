from pathlib import Path

import cv2
import numpy as np
import pytest
from inspections import files, finding_with, look_at, rewrite, scene

from mwam_det.data.inspection.views import (
    CLEAR,
    SIDE,
    TURNS,
    agree_on_shift,
    correlate,
    edges_of,
    find_peak,
    find_view,
    remedy_for,
    translation,
)
from mwam_det.data.pairing import list_images


def view_of(image):
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).clip(0, 255).astype(np.uint8)


def peak_of(first, second):
    return find_peak(correlate([edges_of(view_of(first).astype(np.float32))], [edges_of(second.astype(np.float32))]))


@pytest.mark.parametrize("contrast", [1, -0.5])
@pytest.mark.parametrize("shift", [(20, 0), (0, -20), (-7, 13), (0, 0)])
def test_a_shift_is_told_whatever_the_sign_of_the_contrast(shift, contrast):
    (x, y), inner = shift, slice(30, 30 + SIDE)
    whole = scene(0, (SIDE + 60, SIDE + 60))
    first = whole[inner, inner]
    second = np.roll(whole, (y, x), (0, 1))[inner, inner] * contrast + 130
    found = peak_of(first, second)
    assert np.abs(np.array(found[:2]) - shift).max() < 0.5
    assert found[2] > 2 * CLEAR


def test_different_scenes_have_no_clear_peak():
    first, second = ([edges_of(view_of(scene(seed + i)).astype(np.float32)) for seed in range(12)] for i in (0, 100))
    clarities = [find_peak(correlate([a], [b]))[2] for a, b in zip(first, second, strict=True)]
    assert max(clarities) < CLEAR
    assert find_peak(correlate(first, second))[2] < CLEAR


def test_an_even_image_tells_no_shift():
    assert edges_of(np.zeros((SIDE, SIDE), np.float32)) is None
    assert find_peak(correlate([None], [edges_of(view_of(scene(0)).astype(np.float32))])) == (0, 0, 0)


def test_shifts_are_joined_only_where_enough_pairs_tell_and_agree():
    clear = np.array([[20.0, 1, 12]] * 6 + [[90.0, -70, 5]] * 4)
    assert agree_on_shift(clear, 4)[0] == (20.0, 1.0)
    assert agree_on_shift(clear, 4)[2:] == (6, 6)
    few = np.array([[20.0, 1, 12]] * 2 + [[90.0, -70, 5]] * 8)
    assert agree_on_shift(few, 4)[0] is None
    scattered = np.array([[10.0 * i, -10.0 * i, 12] for i in range(10)])
    shift, spread, told, _ = agree_on_shift(scattered, 4)
    assert (shift, told) == (None, 10)
    assert spread[0] == pytest.approx(22.5)
    assert agree_on_shift(np.array([[1.0, 1, 0]]), 4) == (None, None, 0, 0)


def other_sensor(image):
    return 140 - 0.4 * image


SCENES = [scene(seed, (480, 640)) for seed in range(8)]


@pytest.mark.parametrize(
    ("top", "left", "height", "width"), [(96, 128, 288, 384), (24, 0, 432, 576), (0, 200, 240, 320)], ids=str
)
@pytest.mark.parametrize("size", [(480, 640), (240, 320)])
def test_a_narrower_view_is_found_with_its_matrix(top, left, height, width, size):
    parts = [
        cv2.resize(other_sensor(one)[top : top + height, left : left + width], size[::-1], interpolation=cv2.INTER_AREA)
        for one in SCENES
    ]
    given, view = find_view([view_of(one) for one in SCENES], [view_of(one) for one in parts])
    assert view.turn is None
    assert view.clarity > 1.5 * given[2]
    assert view.scale == pytest.approx(640 / width, rel=0.02)
    matrix = np.array(remedy_for(view.in_pixels((480, 640)), None, (480, 640), size))
    corners = (matrix @ np.array([[0, 0, 1], [size[1], 0, 1], [0, size[0], 1]], float).T)[:2].T
    assert np.abs(corners - [[left, top], [left + width, top], [left, top + height]]).max() < 10
    assert view.displacement((480, 640)) > 20


def test_a_view_of_another_shape_is_found_as_its_pixels_are_square():
    parts = [other_sensor(one)[:, 80:560] for one in SCENES]
    _, view = find_view([view_of(one) for one in SCENES], [view_of(one) for one in parts], shapes=480 / 640)
    matrix = np.array(remedy_for(view.in_pixels((480, 640)), None, (480, 640), (480, 480)))
    assert matrix == pytest.approx(np.array([[1, 0, 80], [0, 1, 0], [0, 0, 1]]), abs=4)
    assert matrix[0, 0] == pytest.approx(matrix[1, 1], rel=1e-3)


TURNED = {
    "is turned by 90° clockwise": lambda image: np.rot90(image, -1),
    "is turned by 180°": lambda image: np.rot90(image, 2),
    "is turned by 90° counter-clockwise": np.rot90,
    "is mirrored left to right": lambda image: image[:, ::-1],
    "is mirrored upside down": lambda image: image[::-1],
    "is transposed": lambda image: image.T,
    "is transposed and turned by 180°": lambda image: np.rot90(image, 2).T,
}


@pytest.mark.parametrize("turn", TURNED)
def test_a_turn_is_found_and_the_matrix_takes_it_back_exactly(turn):
    assert list(TURNED) == list(TURNS)
    turned = [np.ascontiguousarray(TURNED[turn](other_sensor(one))) for one in SCENES]
    _, view = find_view([view_of(one) for one in SCENES], [view_of(one) for one in turned], shapes=1.0)
    assert view.turn == turn
    matrix = np.array(remedy_for(view.in_pixels((480, 640)), None, (480, 640), turned[0].shape))
    back = cv2.warpPerspective(turned[0], matrix, (640, 480), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    assert np.abs(back - other_sensor(SCENES[0])).max() < 0.1


def test_pairs_that_lie_as_they_should_have_no_other_view():
    given, view = find_view([view_of(one) for one in SCENES], [view_of(other_sensor(one)) for one in SCENES])
    assert given[2] > 3 * CLEAR
    assert given[:2] == pytest.approx((0, 0), abs=0.3)
    assert view is None
    mixed = [view_of(other_sensor(one)) for one in SCENES[3:] + SCENES[:3]]
    given, view = find_view([view_of(one) for one in SCENES], mixed)
    assert given[2] < CLEAR
    assert view is None


def shifted_set(
    source: Path, folder: Path, names: dict[str, str], shift: tuple[int, int], suffix: str = ".png"
) -> dict:
    """Write a set of 12 pairs whose second modality lies `shift` pixels to the right and down."""
    x, y = shift
    for number, file in enumerate(list_images(source / names["rgb"] / "train")[::9][:12]):
        first = cv2.imread(file)
        (partner,) = [f for f in list_images(source / names["ir"] / "train") if Path(f).stem == Path(file).stem]
        second = cv2.imread(partner, cv2.IMREAD_GRAYSCALE)
        height, width = first.shape[:2]
        view = slice(max(y, 0), height + min(y, 0)), slice(max(x, 0), width + min(x, 0))
        moved = slice(max(-y, 0), height - max(y, 0)), slice(max(-x, 0), width - max(x, 0))
        split = "val" if number % 4 == 0 else "train"
        for name, pixels in (("rgb", first[view]), ("ir", second[moved])):
            (folder / name / split).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / name / split / f"{number:03}{suffix}"), pixels)
        (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / split / f"{number:03}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    return {
        "path": str(folder),
        "modalities": {"rgb": "rgb", "ir": "ir"},
        "labels": "labels",
        "train": "train",
        "val": "val",
        "names": ["object"],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "suffix", "shift"),
    [
        ("llvip_silver", ".png", (20, 0)),
        ("llvip_silver", ".jpg", (-20, 5)),
        ("harbour_rgbt", ".jpg", (12, -20)),
        ("harbour_rgbt", ".jpg", (20, 0)),
    ],
)
def test_a_shift_between_real_pairs_is_found_with_its_sign_and_size(shared_data, tmp_path, name, suffix, shift):
    names = {"rgb": "visible", "ir": "infrared"}
    own = look_at(shifted_set(shared_data / name, tmp_path / "own", names, (0, 0), suffix), 320)
    inspection = look_at(shifted_set(shared_data / name, tmp_path / "shifted", names, shift, suffix), 320)
    found = np.array(inspection.alignment["ir"].shift) - own.alignment["ir"].shift  # fields of view differ by a little
    assert np.abs(found - shift).max() <= 4
    finding = finding_with(inspection, "is shifted")
    assert ("px right of" if shift[0] > 0 else "px left of") in finding


@pytest.mark.slow
def test_the_remedy_that_is_offered_takes_the_shift_back(shared_data, tmp_path):
    section = shifted_set(shared_data / "llvip_silver", tmp_path, {"rgb": "visible", "ir": "infrared"}, (20, 8))
    remedy = look_at(section, 256).alignment["ir"].remedy
    mended = look_at({**section, "align": {"ir": remedy}}, 256)
    assert np.abs(mended.alignment["ir"].shift).max() < 1
    assert not [sentence for sentence in mended.findings if "shifted" in sentence]


def test_a_remedy_on_top_of_a_homography_keeps_every_pixel_of_a_large_image_in_its_place():
    calibrated = ((0.91234567, 0.0213, -31.77), (-0.0131, 0.93456789, 12.34), (3.21e-5, -1.27e-5, 1.0))
    remedy = np.array(remedy_for(translation(-3.25, 7.5), calibrated, (1080, 1920), (1080, 1920)))
    corners = np.array([[0, 0, 1], [1919, 0, 1], [0, 1079, 1], [1919, 1079, 1]], float).T
    exact, offered = (matrix @ corners for matrix in (np.array(calibrated), remedy))
    moved = exact[:2] / exact[2] - np.array([[3.25], [-7.5]])
    assert np.abs(offered[:2] / offered[2] - moved).max() < 1e-3


@pytest.mark.slow
def test_the_remedy_is_for_the_pixels_of_a_partner_of_another_size(shared_data, tmp_path):
    section = shifted_set(shared_data / "llvip_silver", tmp_path, {"rgb": "visible", "ir": "infrared"}, (20, 0))
    for split in ("train", "val"):
        for file in files(section, "ir", split):
            pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            rewrite(file, cv2.resize(pixels, (2 * pixels.shape[1], 2 * pixels.shape[0])))
    found = look_at(section, 256).alignment["ir"]
    assert abs(found.shift[0] - 20) <= 4
    mended = look_at({**section, "align": {"ir": found.remedy}}, 256)
    assert np.abs(mended.alignment["ir"].shift).max() < 1


@pytest.mark.slow
def test_a_shifted_demo_set_is_named(section):
    for split in ("train", "val"):
        for file in files(section, "ir", split):
            rewrite(file, np.roll(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), 20, 1), ".png")
    inspection = look_at(section, 128)
    assert np.abs(np.array(inspection.alignment["ir"].shift) - (20, 0)).max() <= 4
    assert "its content lies 20 px right of that of rgb" in finding_with(inspection, "is shifted")


@pytest.mark.slow
def test_mixed_up_pairs_tell_no_shift(shared_data, tmp_path):
    section = shifted_set(shared_data / "harbour_rgbt", tmp_path, {"rgb": "visible", "ir": "infrared"}, (0, 0))
    infrared = files(section, "ir") + files(section, "ir", "val")
    contents = [file.read_bytes() for file in infrared]
    for file, content in zip(infrared, contents[4:] + contents[:4], strict=True):
        file.write_bytes(content)
    inspection = look_at(section, 320)
    assert inspection.alignment["ir"].shift is None
    assert "perhaps pairs are mixed up" in finding_with(inspection, "common edges in only")
