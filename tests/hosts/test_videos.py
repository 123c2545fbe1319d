"""Videos as folders of frames, with optical flow as a second modality."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from mwam_det.cli import main
from mwam_det.hosts.data.layout import channels_of, check_section, find_samples
from mwam_det.hosts.data.samples import (
    Augmentation,
    HostModality,
    MultimodalDataset,
    check_files,
    frame_at,
    read_modality,
)
from mwam_det.hosts.experiment import CLASSIFICATION, MODELS, HostExperiment, load_host

FRAMES = 5


def write_video(root, name, frames, folders=("frames", "flow/u", "flow/v")):
    """Frame t of a video is grey of value 10 t, its flow to the right 100 + t, downwards 200 + t; flow has one less."""
    for folder in folders:
        (root / folder / name).mkdir(parents=True, exist_ok=True)
        for t in range(frames - (folder != "frames")):
            value = {"frames": 10 * t, "flow/u": 100 + t, "flow/v": 200 + t}[folder]
            colours = (16, 24, 3) if folder == "frames" else (16, 24)
            cv2.imwrite(str(root / folder / name / f"frame{t:06d}.png"), np.full(colours, value, np.uint8))


@pytest.fixture
def videos(tmp_path):
    """Two classes of three videos, in UCF-101's lists; one video lies in a folder of its class."""
    for name in ("v_Archery_g01", "v_Archery_g02", "v_Biking_g01", "Biking/v_Biking_g02"):
        write_video(tmp_path / "ucf", name, FRAMES)
    lines = {"train": "Biking/v_Biking_g01.avi 2\nArchery/v_Archery_g01.avi 1\n", "test": "Archery/v_Archery_g02.avi\n"}
    lines["train"] += "Biking/v_Biking_g02.avi 2\n\n"
    for split, text in lines.items():
        (tmp_path / "ucf" / f"{split}list01.txt").write_text(text)
    return tmp_path / "ucf"


def section(root, **changes):
    return {
        "path": str(root), "format": "videos", "modalities": {"rgb": "frames", "flow": ["flow/u", "flow/v"]},
        "train": "trainlist01.txt", "val": "testlist01.txt", **changes,
    }  # fmt: skip


def test_a_list_of_videos_gives_classes_and_folders_of_frames(videos):
    data = find_samples(section(videos, groups={"first": "*_g01"}), segmentation=False)
    assert data.classes == ("Archery", "Biking") and data.notes == ()
    assert [(m.name, m.channels) for m in data.modalities] == [("rgb", 3), ("flow", 2)]
    assert [sample.target for sample in data.splits["train"]] == [1, 0, 1]
    assert [data.group_of(sample) for sample in data.splits["train"]] == [["first"], ["first"], []]
    assert data.splits["train"][2].files["flow"] == tuple(videos / f"flow/{d}/Biking/v_Biking_g02" for d in "uv")


def test_a_list_of_videos_may_be_written_by_tools_of_windows(videos):
    for file in videos.glob("*.txt"):
        file.write_text(file.read_text().replace("/", "\\"), encoding="utf-8-sig", newline="\r\n")
    data = find_samples(section(videos), segmentation=False)
    assert data.classes == ("Archery", "Biking") and data.notes == ()
    assert [sample.target for sample in data.splits["train"]] == [1, 0, 1]


def test_evaluation_sees_the_frame_in_the_middle_and_training_any_at_one_time_of_all_modalities(videos):
    data = find_samples(section(videos), segmentation=False)
    still = MultimodalDataset(data.splits["train"], data.modalities, (16, 24))
    images, target, _ = still[0]
    assert (images["rgb"].shape, images["flow"].shape, int(target)) == ((3, 16, 24), (2, 16, 24), 1)
    assert images["rgb"].unique().tolist() == [20] and images["flow"].unique().tolist() == [102, 202]
    moving = MultimodalDataset(data.splits["train"], data.modalities, (16, 24), Augmentation())
    seen = set()
    for moving.epoch in range(40):
        images, *_ = moving[0]
        frame, flow = int(images["rgb"][0, 0, 0]) // 10, int(images["flow"][0, 0, 0]) - 100
        assert int(images["flow"][1, 0, 0]) - 200 == flow and abs(frame - flow) <= 1
        seen.add(frame)
    assert seen == set(range(FRAMES))


@pytest.mark.parametrize(("time", "frame"), [(0, 0), (0.19, 0), (0.2, 1), (0.5, 2), (0.999, 4), (1, 4)])
def test_times_are_spread_over_the_frames(videos, time, frame):
    assert frame_at(videos / "frames/v_Archery_g01", time).stem == f"frame{frame:06d}"


def test_a_hidden_file_is_not_a_frame(videos):
    folder = videos / "frames/v_Archery_g01"
    (folder / "._frame000000.png").write_bytes(b"\0\5\x16\7")
    assert frame_at(folder, 0).stem == "frame000000"


def test_a_video_without_flow_is_left_out_and_one_without_frames_refused(videos):
    with (videos / "trainlist01.txt").open("a") as stream:
        stream.write("Archery/v_Archery_g09.avi 1\n")
    write_video(videos, "v_Archery_g09", FRAMES, folders=("frames",))
    data = find_samples(section(videos), segmentation=False)
    assert data.notes == ("train: 1 videos left out that lack frames of a modality (v_Archery_g09)",)
    for file in (videos / "flow/v/v_Archery_g01").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="v_Archery_g01 holds no frame"):
        check_files(data.splits["train"], data.modalities)


def test_frames_of_a_modality_must_be_of_one_size(videos):
    cv2.imwrite(str(videos / "flow/u/v_Archery_g01/frame000002.png"), np.zeros((8, 8), np.uint8))
    source = tuple(videos / f"flow/{d}/v_Archery_g01" for d in "uv")
    with pytest.raises(ValueError, match="differ in size"):
        read_modality(source, HostModality("flow", 2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modalities": {"rgb": "frames", "flow": ["flow/u"]}}, "a list of 2 to 4"),
        ({"modalities": {"rgb": "frames", "flow": [1, 2]}}, "must map names to folders"),
        ({"channels": {"flow": 1}}, "a channel for each of its 2 folders"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(videos, changes, words):
    with pytest.raises(ValueError, match=words):
        check_section(section(videos, **changes), segmentation=False)


@pytest.mark.parametrize("line", ["v_Archery_g01.avi 1", "../Archery/v.avi", "a/b/c.avi", "../x.avi"])
def test_a_line_that_names_no_class_and_video_is_refused(videos, line):
    (videos / "testlist01.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"testlist01\.txt, line 1"):
        find_samples(section(videos), segmentation=False)


def test_a_class_that_is_not_trained_is_refused(videos):
    (videos / "testlist01.txt").write_text("Golf/v_Golf_g01.avi\n")
    with pytest.raises(ValueError, match="the class Golf of v_Golf_g01 is not one of"):
        find_samples(section(videos), segmentation=False)


class Small(nn.Module):
    """A stream of one convolution a modality."""

    def __init__(self, channels, classes):
        super().__init__()
        self.streams = nn.ModuleDict(
            {n: nn.Sequential(nn.Conv2d(c, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()) for n, c in channels.items()}
        )
        self.head = nn.Linear(4 * len(channels), classes)

    def forward(self, inputs):
        return self.head(torch.cat([stream(inputs[name]) for name, stream in self.streams.items()], 1))


def test_the_recipe_for_ucf_101_is_one():
    content = yaml.safe_load((Path(__file__).parents[2] / "cfg/hosts/ucf101.yaml").read_text())
    recipe = HostExperiment.from_dict("ucf", content)
    assert recipe.settings.flip == 0 and channels_of(recipe.data, "flow") == 2


def test_one_command_trains_on_videos(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS[CLASSIFICATION], "resnet18-concat", Small)
    train = {"epochs": 2, "imgsz": 16, "batch": 2, "device": "cpu"}
    content = {"task": CLASSIFICATION, "data": section(videos), "train": train}
    (tmp_path / "ucf.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert main(["train", "ucf.yaml"]) == 0
    model, normalise, classes = load_host(tmp_path / "runs/ucf/weights/best.pt")
    images = {name: torch.zeros(1, c, 16, 16, dtype=torch.uint8) for name, c in (("rgb", 3), ("flow", 2))}
    assert model(normalise(images)).shape == (1, 2) and classes == ["Archery", "Biking"]
