# SPDX-License-Identifier: AGPL-3.0-or-later
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mwam_det.data import synthetic
from mwam_det.data.synthetic import CLASS_NAMES, SceneObject, render_pair, write_demo

SIZE = (256, 320)
VISIBLE_CONTRAST = 10  # grey levels between the two sides of a vehicle's outline


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray, list[SceneObject]]]:
    return [render_pair(np.random.default_rng(seed), SIZE) for seed in range(60)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def rectangle(corners: np.ndarray) -> tuple:
    return cv2.minAreaRect(corners.astype(np.float32))


def shared_area(a: tuple, b: tuple) -> float:
    kind, region = cv2.rotatedRectangleIntersection(a, b)
    return cv2.contourArea(cv2.convexHull(region)) if kind != cv2.INTERSECT_NONE else 0.0


def outline_contrast(image: np.ndarray, corners: np.ndarray, depth: float = 3.0) -> float:
    """Mean over the sides of the difference across a side, of the channel that shows it best; nan where cut off."""
    image = cv2.GaussianBlur(image, (0, 0), 1).astype(np.float32).reshape(*image.shape[:2], -1)
    sides = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        side = a + (b - a) * np.linspace(0.2, 0.8, 9)[:, None]
        normal = depth * (b - a)[::-1] * (1, -1) / np.linalg.norm(b - a)
        pairs = np.stack((side + normal, side - normal))
        if (pairs >= 0).all() and (pairs < image.shape[1::-1]).all():
            column, row = np.moveaxis(pairs.astype(int), -1, 0)
            sides.append(np.abs(np.diff(image[row, column].mean(axis=1), axis=0)))
    return float(np.mean(sides, axis=0).max()) if sides else np.nan


def frequency_ratio(image: np.ndarray) -> float:
    """Low over high frequencies: the 2 x 2 corners of the DCT of 8 x 8 blocks."""
    k = np.arange(8)
    basis = np.cos(np.pi * (2 * k + 1) * k[:, None] / 16) / 2
    basis[0] /= np.sqrt(2)
    h, w = (side // 8 for side in image.shape)
    blocks = image[: h * 8, : w * 8].reshape(h, 8, w, 8).transpose(0, 2, 1, 3).astype(float)
    spectrum = np.abs(basis @ blocks @ basis.T)
    return spectrum[..., :2, :2].sum() / spectrum[..., 6:, 6:].sum()


def test_pair_shapes_and_types(scenes):
    for rgb, ir, objects in scenes:
        assert rgb.shape == (*SIZE, 3) and rgb.dtype == np.uint8
        assert ir.shape == SIZE and ir.dtype == np.uint8
        assert 4 <= len(objects) <= 12
        for item in objects:
            assert item.label in CLASS_NAMES
            assert item.corners.shape == (4, 2) and item.corners.dtype == np.float32
            assert item.visible_in and set(item.visible_in) <= {"rgb", "ir"}


def test_all_classes_occur(scenes):
    counts = np.bincount([item.label for *_, objects in scenes for item in objects], minlength=3)
    assert counts.min() > 0.1 * counts.sum()


def test_pair_depends_on_the_generator_only():
    np.random.seed(0)
    first = render_pair(np.random.default_rng(5))
    np.random.seed(1)
    again, other = render_pair(np.random.default_rng(5)), render_pair(np.random.default_rng(6))
    assert all(np.array_equal(a, b) for a, b in zip(first[:2], again[:2], strict=True))
    assert all(np.array_equal(a.corners, b.corners) for a, b in zip(first[2], again[2], strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("size", [(64, 64), (64, 300), (97, 131), (320, 256)])
def test_other_sizes(size):
    rgb, ir, objects = render_pair(np.random.default_rng(0), size)
    assert rgb.shape == (*size, 3) and ir.shape == size and len(objects) >= 4


def test_vehicles_keep_apart_and_inside(scenes):
    image = ((SIZE[1] / 2, SIZE[0] / 2), (SIZE[1], SIZE[0]), 0.0)
    for *_, objects in scenes:
        rectangles = [rectangle(item.corners) for item in objects]
        for i, one in enumerate(rectangles):
            assert shared_area(one, image) >= 0.7 * np.prod(one[1])
            assert all(shared_area(one, other) < 0.5 for other in rectangles[:i])


def test_corners_go_clockwise_from_the_front_left(scenes):
    for *_, objects in scenes:
        for item in objects:
            along, across = item.corners[1] - item.corners[2], item.corners[1] - item.corners[0]
            assert np.linalg.norm(along) > np.linalg.norm(across)
            assert along[0] * across[1] - along[1] * across[0] > 0


def test_shares_of_visibility(scenes):
    seen = [item.visible_in for *_, objects in scenes for item in objects]
    for visible_in, share in ((("rgb", "ir"), 0.60), (("ir",), 0.25), (("rgb",), 0.15)):
        assert seen.count(visible_in) / len(seen) == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("channel", ["rgb", "ir"])
def test_visibility_is_true_in_the_pixels(scenes, channel):
    shown, hidden = [], []
    for rgb, ir, objects in scenes:
        for item in objects:
            contrast = outline_contrast(rgb if channel == "rgb" else ir, item.corners)
            (shown if channel in item.visible_in else hidden).append(contrast)
    assert len(shown) + len(hidden) >= 100
    assert np.nanpercentile(hidden, 90) < VISIBLE_CONTRAST < np.nanpercentile(shown, 5)
    assert np.nanmedian(shown) > 5 * np.nanmedian(hidden)


def test_rgb_has_relatively_more_high_frequencies(scenes):
    rgb = np.mean([frequency_ratio(cv2.cvtColor(rgb, cv2.COLOR_BGR2GRAY)) for rgb, *_ in scenes])
    ir = np.mean([frequency_ratio(ir) for _, ir, _ in scenes])
    assert ir > 1.5 * rgb


def test_night_with_lamps(scenes):
    rgb = np.stack([rgb for rgb, *_ in scenes])
    assert np.median(rgb) < 40
    dark = rgb[rgb.max(axis=-1) < 40].mean(axis=0)
    assert dark[0] > 1.2 * dark[2]  # blueish
    assert all((image.min(axis=-1) >= 250).any() for image in rgb)  # glare


def test_demo_layout_and_counts(tmp_path):
    assert write_demo(tmp_path / "demo", train=3, val=2, size=(64, 96)) == tmp_path / "demo"
    expected = {"synthetic.json"}
    for split, count in (("train", 3), ("val", 2)):
        for kind, suffix in (("visible", "jpg"), ("infrared", "jpg"), ("labels", "txt"), ("labels_obb", "txt")):
            expected |= {str(Path(kind, split, f"{i:04d}.{suffix}")) for i in range(count)}
    assert set(files(tmp_path / "demo")) == expected
    assert [entry.name for entry in tmp_path.iterdir()] == ["demo"]
    record = json.loads((tmp_path / "demo/synthetic.json").read_text())
    assert record == {"version": synthetic.GENERATOR_VERSION, "train": 3, "val": 2, "size": [64, 96], "seed": 0}
    assert cv2.imread(str(tmp_path / "demo/visible/val/0001.jpg"), cv2.IMREAD_UNCHANGED).shape == (64, 96, 3)
    assert cv2.imread(str(tmp_path / "demo/infrared/val/0001.jpg"), cv2.IMREAD_UNCHANGED).shape == (64, 96)


def test_labels_match_the_corners(tmp_path):
    demo = write_demo(tmp_path / "demo", train=1, val=3, seed=4)
    for index in range(3):
        _, _, objects = render_pair(np.random.default_rng((4, 1, index)))
        upright = np.loadtxt(demo / f"labels/val/{index:04d}.txt", ndmin=2)
        rotated = np.loadtxt(demo / f"labels_obb/val/{index:04d}.txt", ndmin=2)
        assert upright.shape == (len(objects), 5) and rotated.shape == (len(objects), 9)
        for item, box, quad in zip(objects, upright, rotated, strict=True):
            corners = np.clip(item.corners / (SIZE[1], SIZE[0]), 0, 1)
            assert box[0] == quad[0] == item.label
            np.testing.assert_allclose(quad[1:].reshape(4, 2), corners, atol=1e-6)
            np.testing.assert_allclose(box[1:3] - box[3:] / 2, corners.min(axis=0), atol=2e-6)
            np.testing.assert_allclose(box[1:3] + box[3:] / 2, corners.max(axis=0), atol=2e-6)
            assert box[1:].min() >= 0 and box[1:].max() <= 1 and quad[1:].min() >= 0 and quad[1:].max() <= 1


def test_same_arguments_same_bytes(tmp_path):
    one, two, longer, reseeded = (
        files(write_demo(tmp_path / name, **{"train": 2, "val": 2, "size": (64, 80), **changes}))
        for name, changes in (("one", {}), ("two", {}), ("longer", {"train": 4}), ("reseeded", {"seed": 1}))
    )
    assert one == two
    assert all(longer[name] == one[name] for name in one if name != "synthetic.json")
    picture = str(Path("visible/train/0000.jpg"))
    assert one[picture] != reseeded[picture] and one[picture] != one[str(Path("visible/val/0000.jpg"))]


def test_existing_set_is_returned_untouched(tmp_path, monkeypatch):
    demo = write_demo(tmp_path / "demo", train=1, val=1, size=(64, 64))
    (demo / "visible/train/0000.jpg").write_bytes(b"mine")
    monkeypatch.setattr(synthetic, "render_pair", None)
    assert write_demo(demo, train=1, val=1, size=(64, 64)) == demo
    assert (demo / "visible/train/0000.jpg").read_bytes() == b"mine"


def test_set_of_other_arguments_is_refused(tmp_path):
    demo = write_demo(tmp_path / "demo", train=1, val=1, size=(64, 64))
    before = files(demo)
    with pytest.raises(FileExistsError, match=r"demo holds .*train 1 instead of 2, seed 0 instead of 3.*data\.path"):
        write_demo(demo, train=2, val=1, size=(64, 64), seed=3)
    assert files(demo) == before


@pytest.mark.parametrize("content", [None, "not json", "[]"])
def test_folder_of_the_user_is_refused(tmp_path, content):
    demo = tmp_path / "demo"
    demo.mkdir()
    (demo / "notes.txt").write_text("mine")
    if content is not None:
        (demo / "synthetic.json").write_text(content)
    before = files(demo)
    with pytest.raises(FileExistsError, match="demo holds files that are not a demo set"):
        write_demo(demo, train=1, val=1)
    assert files(demo) == before and list(tmp_path.iterdir()) == [demo]


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(FileExistsError, match="demo"):
        write_demo(tmp_path / "demo", train=1, val=1)
    assert (tmp_path / "demo").read_text() == "mine"


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / "demo").mkdir()
    assert len(files(write_demo(tmp_path / "demo", train=1, val=0, size=(64, 64)))) == 5


def test_interrupted_run_leaves_no_half_set(tmp_path, monkeypatch):
    calls = 0

    def interrupted(*args):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return render_pair(*args)

    arguments = {"train": 4, "val": 1, "size": (64, 64)}
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "render_pair", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_demo(tmp_path / "demo", **arguments)
    assert not (tmp_path / "demo").exists()
    assert files(write_demo(tmp_path / "demo", **arguments)) == files(write_demo(tmp_path / "other", **arguments))
    assert {entry.name for entry in tmp_path.iterdir()} == {"demo", "other"}


@pytest.mark.parametrize("size", [(63, 320), (256, 10)])
def test_small_sizes_are_refused(tmp_path, size):
    with pytest.raises(ValueError, match=str(min(size))):
        render_pair(np.random.default_rng(0), size)
    with pytest.raises(ValueError, match=str(min(size))):
        write_demo(tmp_path / "demo", size=size)


@pytest.mark.parametrize("name", ["train", "val", "seed"])
def test_negative_numbers_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} .*-1"):
        write_demo(tmp_path / "demo", **{name: -1})
    assert not list(tmp_path.iterdir())


def test_processes_that_come_at_once_draw_the_set_once(tmp_path):
    code = "import sys; from mwam_det.data.synthetic import write_demo; write_demo(sys.argv[1], train=12, val=2)"
    command = [sys.executable, "-c", code, str(tmp_path / "set")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert [path.name for path in tmp_path.iterdir()] == ["set"], "neither lock nor part is left"
    assert len(list((tmp_path / "set" / "visible" / "train").iterdir())) == 12
