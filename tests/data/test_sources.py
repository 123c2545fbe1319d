from collections import deque
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mwam_det.data.modality import Modality
from mwam_det.data.reading import from_pillow
from mwam_det.data.sources import (
    PairLoader,
    by_modality,
    list_pairs,
    missing_modalities,
    read_pair,
    stack_tensors,
)

RGB = Modality("rgb", 3, 0)
IR = Modality("ir", 1, 3)
BOTH = (RGB, IR)


def picture(seed: int, height: int = 24, width: int = 40, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def write(file: Path, seed: int = 0, **size: int) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), picture(seed, **size))
    return str(file)


def film(file: Path, frames: int, fps: float = 10, grey: int = 0) -> str:
    """A video whose frames are as bright as their number says."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), fps, (32, 32))
    for number in range(frames):
        writer.write(np.full((32, 32, 3), grey + 10 * number, np.uint8))
    writer.release()
    return str(file)


def load(named, modalities=BOTH, **options):
    return [pair for _, pairs, _ in PairLoader(named, modalities, imgsz=(64, 64), **options) for pair in pairs]


def names(pairs: list[dict[str, str]]) -> list[tuple[str, ...]]:
    return [tuple(Path(file).name for file in pair.values()) for pair in pairs]


# To which modality something belongs ---------------------------------------------------------------------------------


def test_a_tuple_is_taken_in_the_order_of_the_model_and_a_mapping_by_name():
    assert by_modality(("a", "b"), BOTH) == {"rgb": "a", "ir": "b"}
    assert list(by_modality({"ir": "b", "rgb": "a"}, BOTH).items()) == [("rgb", "a"), ("ir", "b")]


def test_none_and_a_name_left_out_mean_the_same():
    assert by_modality(("a", None), BOTH) == by_modality({"rgb": "a"}, BOTH) == {"rgb": "a"}


def test_a_list_of_tuples_is_a_list_of_pairs():
    pairs = [("a", "b"), ("c", "d")]
    assert by_modality(pairs, BOTH) == {"rgb": ["a", "c"], "ir": ["b", "d"]}
    assert by_modality((["a", "c"], ["b", "d"]), BOTH) == by_modality(pairs, BOTH)


def test_a_stack_is_taken_apart():
    stack = picture(0, channels=4)
    named = by_modality(stack, BOTH)
    assert np.array_equal(named["rgb"], stack[..., :3]) and np.array_equal(named["ir"], stack[..., 3:])
    tensor = torch.rand(2, 4, 32, 32)
    assert torch.equal(by_modality(tensor, BOTH)["ir"], tensor[:, 3:])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("a.jpg", "'a.jpg' does not say which modality it is: give {'rgb': …, 'ir': …}"),
        (picture(0), r"ndarray of shape \(24, 40, 3\) does not say"),
        (["a.jpg"], "list of length 1 does not say"),
        ({"lidar": "a.jpg"}, "lidar is not a modality of this model: choose from rgb, ir"),
        ({}, "gives no image"),
        ((None, None), "gives no image"),
    ],
)
def test_what_names_no_modality_is_refused(source, words):
    with pytest.raises(ValueError, match=words):
        by_modality(source, BOTH)


def test_bytes_stacked_with_16_bits_are_refused_unless_their_range_is_known():
    deep = np.dstack([picture(0).astype(np.uint16), picture(1, channels=1).astype(np.uint16) * 257])
    with pytest.raises(ValueError, match="stacked as uint16, and rgb has no value above 255"):
        by_modality(deep, BOTH)
    assert by_modality(deep, (Modality("rgb", 3, 0, value_range=(0, 255)), BOTH[1])).keys() == {"rgb", "ir"}
    black = np.zeros_like(deep)
    assert not by_modality(black, BOTH)["rgb"].any()


def test_what_is_not_given_is_missing_like_what_is_named():
    assert missing_modalities({"rgb": "a"}, BOTH) == ("ir",)
    assert missing_modalities({"rgb": "a", "ir": "b"}, BOTH, "rgb") == ("rgb",)
    assert missing_modalities({"rgb": "a", "ir": "b"}, BOTH) == ()
    with pytest.raises(ValueError, match="nothing is left"):
        missing_modalities({"rgb": "a"}, BOTH, "rgb")
    with pytest.raises(ValueError, match="choose from rgb, ir"):
        missing_modalities({"rgb": "a"}, BOTH, "lidar")


# Pairing -------------------------------------------------------------------------------------------------------------


def test_folders_are_paired_by_stem_whatever_the_file_extension(tmp_path):
    for stem in ("b", "a"):
        write(tmp_path / "rgb" / f"{stem}.png")
        write(tmp_path / "ir" / f"{stem}.bmp")
    pairs = list_pairs({"rgb": tmp_path / "rgb", "ir": str(tmp_path / "ir")}, BOTH)
    assert names(pairs) == [("a.png", "a.bmp"), ("b.png", "b.bmp")]


def test_one_folder_may_hold_both_modalities_told_apart_by_suffix(tmp_path):
    for name in ("1_co", "1_ir", "2_co", "2_ir"):
        write(tmp_path / f"{name}.png")
    suffixed = (Modality("rgb", suffix="_co"), Modality("ir", start=3, suffix="_ir"))
    pairs = list_pairs({"rgb": tmp_path, "ir": tmp_path}, suffixed)
    assert names(pairs) == [("1_co.png", "1_ir.png"), ("2_co.png", "2_ir.png")]


@pytest.mark.parametrize("naming", [{"suffix": "_ir"}, {"match": "(.+)_ir"}], ids=["suffix", "match"])
def test_of_a_shared_folder_a_sensor_alone_gets_its_own_files(naming, tmp_path):
    rgb, ir = Modality("rgb", 3, 0), Modality("ir", 1, 3, **naming)
    for name in ("0", "0_ir", "1", "1_ir"):
        write(tmp_path / f"{name}.png")
    folder = str(tmp_path)
    assert names(list_pairs({"rgb": folder, "ir": folder}, (rgb, ir))) == [("0.png", "0_ir.png"), ("1.png", "1_ir.png")]
    assert names(list_pairs({"rgb": folder}, (rgb, ir))) == [("0.png",), ("1.png",)]
    assert names(list_pairs({"ir": folder}, (rgb, ir))) == [("0_ir.png",), ("1_ir.png",)]
    both = {"rgb": folder, "ir": folder}
    assert [Path(pair.path).name for pair in load(both, (rgb, ir), missing=("ir",))] == ["0.png", "1.png"]
    for name in ("2_ir", "3"):  # without a pair in it, the folder is not shared
        write(tmp_path / f"own/{name}.png")
    assert names(list_pairs({"rgb": f"{folder}/own"}, (rgb, ir))) == [("2_ir.png",), ("3.png",)]


def test_patterns_choose_among_the_files_of_a_folder(tmp_path):
    for stem in ("day1", "night1", "night2"):
        write(tmp_path / "rgb" / f"{stem}.png")
        write(tmp_path / "ir" / f"{stem}.png")
    pairs = list_pairs({"rgb": tmp_path / "rgb" / "night*", "ir": tmp_path / "ir" / "*.png"}, BOTH)
    assert names(pairs) == [("night1.png", "night1.png"), ("night2.png", "night2.png")]


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path):
    for folder in ("rgb [1]", "ir [1]"):
        write(tmp_path / folder / "a.png")
    assert len(list_pairs({"rgb": tmp_path / "rgb [1]", "ir": tmp_path / "ir [1]"}, BOTH)) == 1


def test_lists_are_paired_by_place(tmp_path):
    rgb = [write(tmp_path / name) for name in ("z.png", "a.png")]
    ir = [write(tmp_path / name) for name in ("1.png", "2.png")]
    assert names(list_pairs({"rgb": rgb, "ir": ir}, BOTH)) == [("z.png", "1.png"), ("a.png", "2.png")]


def test_an_image_without_partner_is_named(tmp_path):
    for stem in ("a", "b"):
        write(tmp_path / "rgb" / f"{stem}.png")
    write(tmp_path / "ir" / "a.png")
    with pytest.raises(ValueError, match=r"no partner of ir in .*ir for .*b\.png"):
        list_pairs({"rgb": tmp_path / "rgb", "ir": tmp_path / "ir"}, BOTH)
    rgb = [tmp_path / "rgb" / "a.png", tmp_path / "rgb" / "b.png"]
    with pytest.raises(ValueError, match=r"rgb has 2 images and ir 1: .*b\.png has no partner of ir"):
        list_pairs({"rgb": rgb, "ir": [tmp_path / "ir" / "a.png"]}, BOTH)


@pytest.fixture
def sequence(tmp_path):
    """Folders of frames 0 to 3: the infrared camera lost frame 1, the other one frame 2."""
    for name, frames in (("rgb", "013"), ("ir", "023")):
        for frame in frames:
            write(tmp_path / name / f"{frame}.png", channels=1 if name == "ir" else 3)
    return {"rgb": tmp_path / "rgb", "ir": tmp_path / "ir"}


def test_frames_without_their_partner_are_skipped_or_predicted_alone(sequence, log):
    with pytest.raises(ValueError, match=r"no partner of ir .*1\.png: partners=skip .* partners=missing"):
        list_pairs(sequence, BOTH)
    assert names(list_pairs(sequence, BOTH, "skip")) == [("0.png", "0.png"), ("3.png", "3.png")]
    assert any("1 of 3 images of rgb have no partner of ir: left out" in text for _, text in log)
    pairs = list_pairs(sequence, BOTH, "missing")
    assert [list(pair) for pair in pairs] == [["rgb", "ir"], ["rgb"], ["ir"], ["rgb", "ir"]]
    assert [Path(next(iter(pair.values()))).stem for pair in pairs] == ["0", "1", "2", "3"]  # as they were taken
    with pytest.raises(ValueError, match="partners='all' is unknown: choose from error, skip, missing"):
        list_pairs(sequence, BOTH, "all")


def test_a_list_may_lack_an_image_anywhere_but_not_all_of_a_pair():
    assert [list(pair) for pair in list_pairs({"rgb": [picture(0), picture(1)], "ir": [None, picture(2)]}, BOTH)] == [
        ["rgb"],
        ["rgb", "ir"],
    ]
    with pytest.raises(ValueError, match="pair 1 has no image of any modality"):
        list_pairs({"rgb": [picture(0), None], "ir": [picture(1), None]}, BOTH)


def test_the_loader_says_which_frames_are_incomplete(sequence, log):
    loader = PairLoader(sequence, BOTH, batch=4, imgsz=(64, 64), partners="missing")
    ((_, pairs, told),) = loader
    assert [list(pair.images) for pair in pairs] == [["rgb", "ir"], ["rgb"], ["ir"], ["rgb", "ir"]]
    assert told[1].endswith("1.png without ir: ") and told[2].endswith("2.png without rgb: ") and "with" not in told[0]
    assert any("ir is missing in 1 of 4 pairs, first in" in text for _, text in log)
    with pytest.raises(ValueError, match="1 of 4 pairs have only rgb, which is declared missing; the first is"):
        PairLoader(sequence, BOTH, missing=("rgb",), partners="missing")


def test_images_that_no_first_image_asks_for_are_counted(tmp_path, log):
    for stem in ("a", "b"):
        write(tmp_path / "ir" / f"{stem}.png")
    write(tmp_path / "rgb" / "a.png")
    assert len(list_pairs({"rgb": tmp_path / "rgb", "ir": tmp_path / "ir"}, BOTH)) == 1
    assert any("1 images of ir" in text and "no partner of rgb" in text for _, text in log)


def test_no_complete_pair_is_told_and_none_needs_a_partner_where_it_may_be_missing(tmp_path):
    three = (RGB, IR, Modality("depth", 1, 4))
    for place in ("rgb/0", "rgb/1", "ir/0", "depth/1"):
        write(tmp_path / f"{place}.png")
    given = {name: str(tmp_path / name) for name in ("rgb", "ir", "depth")}
    with pytest.raises(ValueError, match="of 2 pairs none is complete, and partners=skip leaves such pairs out"):
        list_pairs(given, three, "skip")
    assert names(list_pairs(given, three, "missing")) == [("0.png", "0.png"), ("1.png", "1.png")]
    (tmp_path / "ir/0.png").rename(tmp_path / "ir/2.png")
    assert [tuple(pair) for pair in list_pairs(given, three, "missing")] == [("rgb",), ("rgb", "depth"), ("ir",)]


def test_a_tilde_is_the_users_folder_for_folders_patterns_and_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for place in ("rgb/0", "ir/0"):
        write(tmp_path / f"{place}.png")
    for end in ("", "/*.png", "/0.png"):
        assert names(list_pairs({"rgb": f"~/rgb{end}", "ir": f"~/ir{end}"}, BOTH)) == [("0.png", "0.png")]
    with pytest.raises(FileNotFoundError, match="there is no file or folder ~nobody-of-this-name/rgb"):
        list_pairs({"rgb": "~nobody-of-this-name/rgb"}, BOTH)


def test_two_partners_of_the_same_name_are_refused(tmp_path):
    write(tmp_path / "rgb" / "a.png")
    for suffix in (".png", ".bmp"):
        write(tmp_path / "ir" / f"a{suffix}")
    with pytest.raises(ValueError, match=r"several files of ir share their name: .*a\.bmp, .*a\.png"):
        list_pairs({"rgb": tmp_path / "rgb", "ir": tmp_path / "ir"}, BOTH)


def test_modalities_given_in_different_ways_are_refused(tmp_path):
    file = write(tmp_path / "rgb" / "a.png")
    with pytest.raises(ValueError, match="rgb as a folder or pattern but ir as files or arrays"):
        list_pairs({"rgb": tmp_path / "rgb", "ir": file}, BOTH)
    with pytest.raises(ValueError, match="rgb is given as int"):
        list_pairs({"rgb": 0, "ir": 1}, BOTH)


def test_what_is_not_there_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(FileNotFoundError, match=r"no file .*gone\.png, given for ir"):
        list_pairs({"ir": tmp_path / "gone.png"}, BOTH)
    with pytest.raises(FileNotFoundError, match="no image of ir in .*empty"):
        list_pairs({"ir": tmp_path / "empty"}, BOTH)
    with pytest.raises(ValueError, match=r"notes\.md, given for ir, has no file extension"):
        list_pairs({"ir": tmp_path / "notes.md"}, BOTH)


# Reading -------------------------------------------------------------------------------------------------------------


def test_a_pair_is_stacked_at_the_size_of_the_network_and_shown_at_its_own(tmp_path):
    inputs = {"rgb": write(tmp_path / "a.png"), "ir": write(tmp_path / "b.png", 1, height=12, width=20)}
    pair = read_pair(inputs, BOTH, (), (80, 80), "a.png")
    assert pair.stack.shape == (48, 80, 4) and pair.stack.dtype == np.uint8
    assert {name: image.shape for name, image in pair.images.items()} == {"rgb": (24, 40, 3), "ir": (24, 40, 3)}
    assert np.array_equal(pair.images["rgb"], picture(0))
    grey = cv2.imread(inputs["ir"], cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(pair.images["ir"][..., 2], cv2.resize(grey, (40, 24)))
    assert np.array_equal(pair.stack[..., 3], cv2.resize(grey, (80, 48)))


def test_a_missing_modality_is_neither_read_nor_shown():
    pair = read_pair({"rgb": picture(0)}, BOTH, ("ir",), (40, 40), "x")
    assert list(pair.images) == ["rgb"] and not pair.stack[..., 3].any()


def test_the_first_modality_rules_the_size_even_where_it_is_missing():
    inputs = {"rgb": picture(0), "ir": picture(1, 12, 30)}
    pair = read_pair(inputs, BOTH, ("rgb",), (40, 40), "x")
    assert list(pair.images) == ["ir"] and pair.images["ir"].shape == (24, 40, 3)
    assert not pair.stack[..., :3].any() and pair.stack[..., 3].any()


def test_the_range_of_a_modality_holds_for_arrays_too():
    warm = Modality("ir", 1, 3, value_range=(1000, 2000))
    deep = np.full((24, 40), 1500, np.uint16)
    pair = read_pair({"rgb": picture(0), "ir": deep}, (RGB, warm), (), (40, 40), "x")
    assert (pair.stack[..., 3] == 128).all()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_an_array_of_16_bits_is_read_as_the_file_that_holds_it(suffix, tmp_path):
    deep = np.random.default_rng(0).integers(0, 2**16, (24, 40), np.uint16)
    file = str(tmp_path / f"deep{suffix}")
    cv2.imwrite(file, deep)
    for infrared in (IR, Modality("ir", 3, 3), Modality("ir", 1, 3, value_range=(1000, 20000))):
        stacks = [
            read_pair({"rgb": picture(0), "ir": item}, (RGB, infrared), (), (40, 40), "x").stack
            for item in (file, deep, from_pillow(Image.open(file)))
        ]
        assert np.array_equal(stacks[0], stacks[1]) and np.array_equal(stacks[0], stacks[2])


def test_values_that_no_file_of_8_bits_holds_need_a_range():
    with pytest.raises(ValueError, match="values of type float32.*key 'range' for ir"):
        read_pair({"rgb": picture(0), "ir": np.ones((24, 40), np.float32)}, BOTH, (), (40, 40), "x")


PILLOW_MODES = {"RGB": 3, "L": 1, "RGBA": 3, "LA": 1, "P": 3, "1": 1, "CMYK": 3, "I": 1, "F": 1}


@pytest.mark.parametrize("mode", PILLOW_MODES)
def test_pillow_images_of_every_mode_are_read(mode):
    colour = Image.fromarray(picture(0)[..., ::-1])
    image = Image.fromarray(np.arange(960, dtype=np.int32).reshape(24, 40)) if mode in "IF" else colour
    pixels = from_pillow(image.convert(mode))
    assert pixels.shape == (24, 40, PILLOW_MODES[mode])
    assert pixels.dtype == {"I": np.uint16, "F": np.float32}.get(mode, np.uint8)
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(pixels, picture(0))  # colour is BGR, as in arrays
    if mode in "IF":
        assert pixels.max() == 959
    with pytest.raises(ValueError, match="outside of 0…65535"):
        from_pillow(Image.fromarray(np.full((4, 4), 70000, np.int32)))


def test_a_pillow_image_is_turned_as_its_file_is(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(picture(0)).save(tmp_path / "a.png", exif=turned)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(from_pillow(image), cv2.imread(str(tmp_path / "a.png")))
    assert from_pillow(Image.open(tmp_path / "a.png")).shape == (40, 24, 3)


def test_alignment_leads_to_the_first_modality_and_is_left_out_without_it():
    moved = Modality("ir", 1, 3, align=((1.0, 0.0, 8.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    grey = picture(1, channels=1)
    both = read_pair({"rgb": picture(0), "ir": grey}, (RGB, moved), (), (40, 40), "x")
    assert np.array_equal(both.images["ir"][:, 8:, :1], grey[:, :-8])
    alone = read_pair({"ir": grey}, (RGB, moved), ("rgb",), (40, 40), "x")
    assert np.array_equal(alone.images["ir"][..., :1], grey)


def test_an_array_of_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"rgb image of x has the shape \(24, 40, 4\)"):
        read_pair({"rgb": picture(0, channels=4)}, BOTH, ("ir",), (40, 40), "x")


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(FileNotFoundError, match=r"cannot read .*a\.png, the rgb image"):
        read_pair({"rgb": str(tmp_path / "a.png")}, BOTH, ("ir",), (40, 40), "x")


def test_tensors_are_stacked_with_zeros_for_what_is_missing():
    rgb, ir = torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32)
    assert torch.equal(stack_tensors({"rgb": rgb, "ir": ir}, BOTH, ()), torch.cat([rgb, ir], 1))
    assert torch.equal(stack_tensors({"ir": ir}, BOTH, ("rgb",))[:, :3], torch.zeros(2, 3, 32, 32))
    with pytest.raises(ValueError, match=r"tensor of ir has the shape \(2, 3, 32, 32\), not \(2, 1, 32, 32\)"):
        stack_tensors({"rgb": rgb, "ir": rgb}, BOTH, ())


# The loader ----------------------------------------------------------------------------------------------------------


def test_batches_hold_pairs_and_what_they_are_called(tmp_path):
    rgb = [write(tmp_path / f"{number}.png", number) for number in range(3)]
    loader = PairLoader({"rgb": rgb, "ir": rgb}, BOTH, batch=2, imgsz=(64, 64))
    batches = list(loader)
    assert [len(pairs) for _, pairs, _ in batches] == [2, 1] and len(loader) == 2
    assert [Path(path).name for paths, *_ in batches for path in paths] == ["0.png", "1.png", "2.png"]
    assert batches[0][2][1].startswith("image 2/3 ")
    assert len(list(loader)) == 2, "a loader can be gone through again"


def test_files_of_a_missing_modality_need_not_be_there(tmp_path):
    file = write(tmp_path / "a.png")
    assert len(load({"rgb": file, "ir": "gone.png"}, missing=("ir",))) == 1


def test_videos_are_read_in_step_and_stop_at_the_shorter(tmp_path, log):
    source = {"rgb": film(tmp_path / "rgb.avi", 5), "ir": film(tmp_path / "ir.avi", 3, grey=100)}
    loader = PairLoader(source, BOTH, imgsz=(64, 64))
    batches = list(loader)
    assert len(batches) == 3 and loader.mode == "video" and loader.fps == 10
    for number, (_, (pair,), _) in enumerate(batches):
        assert abs(pair.images["rgb"].mean() - 10 * number) < 3
        assert abs(pair.images["ir"].mean() - 100 - 10 * number) < 3
    assert "(frame 2/3)" in batches[1][2][0]
    assert any("ir ends after 3 frames" in text for _, text in log)


def test_streams_are_opened_by_their_address(tmp_path):
    source = {name: f"file://{film(tmp_path / f'{name}.avi', 3)}" for name in ("rgb", "ir")}
    loader = PairLoader(source, BOTH, imgsz=(64, 64))
    assert len(list(loader)) == 3 and loader.mode == "video"
    with pytest.raises(FileNotFoundError, match=r"file://.*gone\.avi, the video of rgb, cannot be opened"):
        load({"rgb": f"file://{tmp_path}/gone.avi"}, missing=("ir",))


def test_every_second_frame_is_the_same_in_both_videos(tmp_path, log):
    source = {"rgb": film(tmp_path / "rgb.avi", 6), "ir": film(tmp_path / "ir.avi", 6, grey=100)}
    pairs = load(source, vid_stride=2)
    assert [round(pair.images["rgb"].mean(), -1) for pair in pairs] == [10, 30, 50]
    assert [round(pair.images["ir"].mean(), -1) for pair in pairs] == [110, 130, 150]
    assert not log


def test_other_rates_are_told(tmp_path, log):
    load({"rgb": film(tmp_path / "rgb.avi", 2, fps=10), "ir": film(tmp_path / "ir.avi", 2, fps=25)})
    assert any("rgb 10, ir 25" in text for _, text in log)


def test_a_batch_never_spans_two_videos(tmp_path):
    files = [film(tmp_path / f"{number}.avi", 3) for number in range(2)]
    loader = PairLoader({"rgb": files, "ir": files}, BOTH, batch=2, imgsz=(64, 64))
    assert [[Path(path).name for path in paths] for paths, *_ in loader] == [
        ["0.avi", "0.avi"], ["0.avi"], ["1.avi", "1.avi"], ["1.avi"],
    ]  # fmt: skip


def test_images_and_videos_are_not_mixed(tmp_path):
    with pytest.raises(ValueError, match="mixes images and videos"):
        load({"rgb": film(tmp_path / "rgb.avi", 2), "ir": write(tmp_path / "a.png")})


# What leads round in circles, or is too large ------------------------------------------------------------------------


def test_links_round_in_a_circle_add_no_pair_to_a_folder_or_a_pattern(tmp_path):
    for folder in ("rgb", "ir"):
        for name in ("1.png", "a/2.png", "a/b/3.png"):
            write(tmp_path / folder / name)
        for name in ("l1", "l2"):
            (tmp_path / folder / name).symlink_to(".")
    for pattern, expected in (("", "123"), ("**/*.png", "123"), ("a/**", "23"), ("*/*.png", "2"), ("**/b/*", "3")):
        pairs = list_pairs({name: str(tmp_path / name / pattern) for name in ("rgb", "ir")}, BOTH)
        assert names(pairs) == [(f"{number}.png", f"{number}.png") for number in expected], pattern


def test_a_pattern_below_a_folder_that_looks_like_one_is_found(tmp_path):
    for folder in ("rgb [1]", "ir [1]"):
        write(tmp_path / folder / "a.png")
        write(tmp_path / folder / "b.png")
    pairs = list_pairs({"rgb": tmp_path / "rgb [1]" / "a*", "ir": tmp_path / "ir [1]" / "*"}, BOTH)
    assert names(pairs) == [("a.png", "a.png")]


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.tif", compression="group4")
    ir = write(tmp_path / "ir.png")
    with pytest.raises(ValueError, match="bomb.tif: 30000×30000 pixels are more than"):
        load({"rgb": tmp_path / "bomb.tif", "ir": ir})


@pytest.mark.parametrize("dtype", ["uint16", ">u2"])
def test_the_byte_order_of_an_array_does_not_count(dtype):
    thermal = (picture(1, channels=1).astype(np.uint16) * 257).astype(dtype)
    (pair,) = load({"rgb": picture(0), "ir": thermal})
    (expected,) = load({"rgb": picture(0), "ir": picture(1, channels=1)})
    assert np.array_equal(pair.stack, expected.stack)


@pytest.mark.parametrize("value_range", [None, (0, 1), (0, 255)])
def test_a_mask_is_0_and_255_as_its_file_is(value_range):
    ir = Modality("ir", 1, 3, value_range=value_range)
    mask = picture(1, channels=1)[..., 0] > 128
    (pair,) = load({"rgb": picture(0), "ir": mask}, (RGB, ir))
    assert np.array_equal(pair.images["ir"][..., 0], mask * np.uint8(255))


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint32", "float16", "float32", "float64", "object", "complex64"])
def test_an_array_of_other_values_is_refused_in_a_sentence(dtype):
    with pytest.raises(ValueError, match=f"the ir image of image0.jpg has values of type {dtype}"):
        load({"rgb": picture(0), "ir": picture(1, channels=1).astype(dtype)}, (RGB, Modality("ir", 3, 3)))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5, 3), (5, 0)])
def test_an_array_without_pixels_is_refused(shape):
    with pytest.raises(ValueError, match="it has no pixel"):
        load({"rgb": picture(0), "ir": np.zeros(shape, np.uint8)})


def test_any_collection_with_an_order_is_a_list(tmp_path):
    files = {name: [write(tmp_path / name / f"{i}.png", i) for i in range(3)] for name in ("rgb", "ir")}
    expected = list_pairs(files, BOTH)
    for kind in (tuple, deque, np.array, lambda of: dict.fromkeys(of).keys()):
        assert list_pairs({name: kind(of) for name, of in files.items()}, BOTH) == expected
    for kind in (set, iter):
        with pytest.raises(ValueError, match=r"rgb is given as .*: give .* \(of an iterator, list\(…\)\)"):
            list_pairs({name: kind(of) for name, of in files.items()}, BOTH)


def test_a_list_is_cleared_of_incomplete_pairs_where_these_are_to_be_skipped(log):
    lists = {"rgb": [None, picture(1), picture(2), None], "ir": [picture(3), picture(4), None, None]}
    (pair,) = list_pairs(lists, BOTH, "skip")
    assert np.array_equal(pair["rgb"], lists["rgb"][1]) and np.array_equal(pair["ir"], lists["ir"][1])
    assert any("3 of 4 pairs lack a partner: left out" in text for _, text in log)
    with pytest.raises(ValueError, match="none of 2 pairs is complete"):
        list_pairs({"rgb": [picture(1)] * 2, "ir": [None] * 2}, BOTH, "skip")


def test_a_modality_may_be_missing_in_all_frames(tmp_path):
    for number in range(3):
        write(tmp_path / "rgb" / f"{number}.png", number)
    (tmp_path / "ir").mkdir()
    named = {"rgb": tmp_path / "rgb", "ir": tmp_path / "ir"}
    assert [list(pair.images) for pair in load(named, partners="missing")] == [["rgb"]] * 3
    with pytest.raises(FileNotFoundError, match="there is no image of ir in"):
        load(named, partners="skip")
    assert [list(pair.images) for pair in load({"rgb": [picture(0)], "ir": [None]})] == [["rgb"]]


@pytest.mark.parametrize(("shorter", "longer"), [("ir", "rgb"), ("rgb", "ir")])
def test_a_video_goes_on_without_the_other_where_partners_may_be_missing(tmp_path, log, shorter, longer):
    named = {"rgb": "", "ir": ""}
    named[shorter], named[longer] = film(tmp_path / "a.avi", 2), film(tmp_path / "b.avi", 4)
    pairs = load(named, partners="missing")
    assert [sorted(pair.images) for pair in pairs] == [["ir", "rgb"]] * 2 + [[longer]] * 2
    channels = {"rgb": slice(0, 3), "ir": slice(3, 4)}
    assert not pairs[3].stack[..., channels[shorter]].any() and pairs[3].stack[..., channels[longer]].any()
    assert any(f"{shorter} ends after 2 frames: the rest is predicted without it" in text for _, text in log)
    assert len(load(named, partners="missing", missing=[longer])) == 2
    assert len(load(named, partners="skip")) == 2


def test_a_folder_that_is_not_there_is_named_also_beside_one_that_is(tmp_path):
    write(tmp_path / "ir/1.png")
    with pytest.raises(FileNotFoundError, match="there is no file or folder .*nowhere, given for rgb"):
        list_pairs({"rgb": tmp_path / "nowhere", "ir": tmp_path / "ir"}, BOTH)
