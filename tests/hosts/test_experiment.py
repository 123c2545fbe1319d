import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from hosts import Toy, rooms_section, section, write_pictures, write_rooms

from mwam_det import MWAMConfig
from mwam_det.cli import main
from mwam_det.data.formats.nyuv2 import NYU40
from mwam_det.experiments import HOST_TASKS
from mwam_det.hosts.data.layout import find_samples
from mwam_det.hosts.data.looking import look_at_samples
from mwam_det.hosts.data.samples import check_files
from mwam_det.hosts.experiment import CLASSIFICATION, MODELS, SEGMENTATION, HostExperiment, load_host
from mwam_det.hosts.loop import HostTrainer
from mwam_det.training.incomplete import IncompleteConfig

CFG = Path(__file__).parents[2] / "cfg"
FAST = ["train.epochs=1", "train.imgsz=32", "train.batch=4", "train.device=cpu"]


def content(pictures, **changes):
    return {"task": CLASSIFICATION, "data": section(pictures), **changes}


def rooms_content(rooms, **changes):
    return {
        "task": SEGMENTATION,
        "model": "esanet-md-r18",
        "data": rooms_section(rooms),
        "train": {"imgsz": 32},
        **changes,
    }


def recipe(folder, content):
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return str(file)


def test_the_command_line_knows_the_tasks_of_other_hosts():
    assert tuple(MODELS) == HOST_TASKS


@pytest.mark.parametrize("file", sorted(CFG.glob("hosts/*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_of_another_host_is_accepted(file):
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    experiment = HostExperiment.from_dict(file.stem, content)
    teaches = file.stem == "casia_surf_teacher"
    published = file.stem == "casia_surf_published"
    wanted = MWAMConfig.published_code() if published else MWAMConfig()
    assert experiment.config.mwam == (None if teaches else wanted) and experiment.settings.optimizer == "SGD"
    assert (experiment.config.incomplete is None) == teaches


@pytest.mark.parametrize(("name", "incomplete"), [("casia_surf_sfmd", 6 / 7), ("nyuv2_esanet", 2 / 3)])
def test_the_md_of_a_host_is_modality_dropout_behind_its_stream_each_combination_as_likely(name, incomplete):
    content = yaml.safe_load((CFG / f"hosts/{name}.yaml").read_text(encoding="utf-8"))
    config = HostExperiment.from_dict(name, content).config.incomplete
    assert config == IncompleteConfig(views=1, p=config.p) and config.p == pytest.approx(incomplete, abs=0.005)


def test_recipes_hold_the_papers_settings():
    surf = HostExperiment.from_dict("surf", yaml.safe_load((CFG / "hosts/casia_surf_sfmd.yaml").read_text())).settings
    assert (surf.batch, surf.epochs, surf.lr0, surf.schedule, surf.step_epochs) == (64, 100, 1e-3, "step", 30)
    assert (surf.size, surf.momentum, surf.weight_decay, surf.step_factor) == ((112, 112), 0.9, 5e-4, 0.1)
    mmanet = HostExperiment.from_dict(
        "mmanet", yaml.safe_load((CFG / "hosts/casia_surf_mmanet.yaml").read_text())
    ).settings
    assert (mmanet.batch, mmanet.epochs, mmanet.lr0, mmanet.schedule) == (64, 100, 1e-3, "step")
    assert (mmanet.distillation, mmanet.regularization, mmanet.step_epochs) == (30, 0.5, [16, 33, 50])
    nyu = HostExperiment.from_dict("nyu", yaml.safe_load((CFG / "hosts/nyuv2_esanet.yaml").read_text())).settings
    assert (nyu.batch, nyu.epochs, nyu.lr0, nyu.schedule) == (8, 300, 1e-2, "one-cycle")
    assert (nyu.size, nyu.momentum, nyu.weight_decay) == ((480, 640), 0.9, 1e-4)


@pytest.mark.parametrize("file", ["hosts/nyuv2_esanet.yaml", "semantic/nyuv2_semantic.yaml"])
def test_the_classes_of_nyuv2_are_in_the_order_of_their_labels(file):
    """As in the authors' mapping to 40 classes, but for spelling."""
    names = yaml.safe_load((CFG / file).read_text())["data"]["names"]
    names = list(names.values()) if isinstance(names, dict) else names
    labels = [name.replace(" ", "").replace("refridge", "refrige") for name in (*names, *NYU40[1:])]
    assert len(names) == 40 and labels[:40] == labels[40:]
    assert names[18:22] == ["mirror", "floor mat", "clothes", "ceiling"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modl": "sf-md"}, "unknown key 'modl': did you mean 'model'"),
        ({"task": "detection"}, "task='detection' is unknown: choose from multimodal-classification, rgbd-"),
        ({"model": "esanet-md-r34"}, "model='esanet-md-r34' is unknown: choose from resnet18-concat, sf-md"),
        ({"data": {"pth": "x"}}, "in section 'data': unknown key 'pth': did you mean 'path'"),
        ({"train": {"epoch": 3}}, "in section 'train': unknown key 'epoch': did you mean 'epochs'"),
        ({"incomplete": {"checkpoint": True}}, "incomplete.checkpoint is for models of Ultralytics"),
        ({"train": {"batch": 1}}, "batch=1 must be a whole number, at least 2"),
        ({"train": {"mining_epochs": 2}}, "mining_epochs=2 must be a whole number, at least 3"),
        ({"train": {"lr0": "fast"}}, "lr0='fast' must be a number of at least 0"),
        ({"train": {"flip": 2}}, r"flip=2 must be a number in \[0, 1\]"),
        ({"train": {"scale": 0.5}}, "scale=0.5 must be a number of at least 1"),
        ({"train": {"schedule": "cosine"}}, "schedule='cosine' must be one of constant, step, one-cycle"),
        ({"train": {"step_epochs": [10, 0]}}, r"step_epochs=\[10, 0\] must be a number of epochs, or a list of epochs"),
        ({"train": {"warmup_epochs": -1}}, "warmup_epochs=-1 must be a whole number, at least 0"),
        ({"train": {"warmup_epochs": 3}}, "warmup_epochs=3 is for constant and step: one-cycle rises by itself"),
        ({"train": {"degrees": 181}}, r"degrees=181 must be a number in \[0, 180\]"),
        ({"train": {"step_epochs": []}}, r"step_epochs=\[\] must be a number of epochs"),
        ({"train": {"optimizer": "sgd"}}, "optimizer='sgd' must be one of SGD, Adam, AdamW"),
        ({"train": {"imgsz": [1, 2, 3]}}, "must be a number of pixels, or a list of height and width"),
        ({"train": {"amp": "yes"}}, "amp='yes' must be one of True, False"),
        ({"train": {"class_weights": "median_frequency"}}, "is for rgbd-segmentation"),
        ({"train": 3}, "train=3 must be a mapping"),
        ({"mwam": {"lamda": 4}}, "in section 'mwam': unknown key 'lamda': did you mean 'lam'"),
        ({"mwam": {"layout": "video"}}, "mwam.layout='video' must be 'image'"),
        ({"incomplete": {"views": 1, "p": 2}}, "in section 'incomplete': p=2 must be a number"),
        ({"incomplete": {"weights": "mwam"}, "mwam": False}, "incomplete.weights=mwam goes by MWAM's weights"),
        ({"missing": {"p": 0.5}}, "the section 'missing' is called 'incomplete' now"),
        ({"select": "best"}, "select='best' must be one of full, mean, worst"),
        ({"report": {"split": "test"}}, "report.split='test' is unknown: choose from train, val"),
        ({"report": True}, "report=True must be a mapping"),
        ({"pretrained": 3}, "pretrained=3 must be a file, or map modalities to files"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused(pictures, changes, words):
    with pytest.raises(ValueError, match=words):
        HostExperiment.from_dict("x", content(pictures, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"imgsz": 48}}, "train.imgsz=48 must be multiples of 32"),
        ({"mwam": {"mode": "hybrid"}}, "mwam.mode='hybrid' needs .* fuses inside its streams"),
    ],
)
def test_a_recipe_that_esanet_cannot_do_is_refused(rooms, changes, words):
    with pytest.raises(ValueError, match=words):
        HostExperiment.from_dict("x", rooms_content(rooms, **changes))


def test_a_recipe_of_another_host_is_refused_where_objects_are_meant(pictures, tmp_path, capsys):
    assert main(["inspect", str(recipe(tmp_path, content(pictures)))]) == 2
    assert "task=multimodal-classification only works with `mwam-det train`" in capsys.readouterr().err


# The command line -----------------------------------------------------------------------------------------------------


def test_several_processes_do_not_train_a_host_side_by_side(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.chdir(tmp_path)
    assert main(["train", recipe(tmp_path, content(pictures)), *FAST]) == 2
    assert "the task multimodal-classification trains in one process: leave torchrun out" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_one_command_trains_a_classifier_and_reports_every_combination(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_pictures(tmp_path / "set", modalities=("rgb", "depth", "ir"))
    data = section(root, modalities={m: f"{{split}}/{m}" for m in ("rgb", "depth", "ir")}, groups={"day": "day_*"})
    file = recipe(tmp_path, content(root, data=data, model="sf-md", mwam={"mode": "hybrid"}, incomplete={"views": 2}))
    assert main(["train", file, *FAST]) == 0
    run = tmp_path / "runs" / "tiny"
    report = json.loads((run / "robustness.json").read_text())
    assert len(report["combinations"]) == 7 and report["images"] == 8 and report["groups"]["day"]["images"] == 4
    assert report["combinations"][-1]["missing"] == []
    assert {file.name for file in run.iterdir()} == {
        "weights", "history.csv", "mwam.csv", "mwam.png", "robustness.json", "robustness.csv", "robustness.md",
        "robustness.tex", "robustness_bars.png", "robustness_groups.csv", "report.html",
    }  # fmt: skip
    assert "Missing modalities" in capsys.readouterr().out
    assert main(["robustness", str(run / "weights" / "best.pt"), file, "split=train", *FAST]) == 0
    again = json.loads((tmp_path / "runs" / "tiny-robustness" / "robustness.json").read_text())
    assert again["split"] == "train" and [row["available"] for row in again["combinations"]] == [
        row["available"] for row in report["combinations"]
    ]
    assert main(["train", file, "train.resume=true", *FAST]) == 2
    assert "that run is finished" in capsys.readouterr().err
    assert main(["train", file, "train.resume=true", *FAST, "train.lr0=0.5"]) == 2
    assert "begun with other settings (train.lr0 was 0.01, is 0.5)" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_run_is_gone_on_with_by_the_same_command(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS[CLASSIFICATION], "resnet18-concat", lambda channels, classes: Toy())
    file = recipe(tmp_path, content(pictures))
    validate = HostTrainer._validate

    def interrupt_in_the_second_epoch(self):
        if self.epoch == 2:
            raise KeyboardInterrupt
        return validate(self)

    with monkeypatch.context() as patch:
        patch.setattr(HostTrainer, "_validate", interrupt_in_the_second_epoch)
        assert main(["train", file, *FAST, "train.epochs=2"]) == 130
    assert "train.resume=runs/tiny/weights/last.pt" in capsys.readouterr().err
    assert main(["train", file, *FAST, "train.epochs=2", "train.resume=true"]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]
    assert len((tmp_path / "runs/tiny/history.csv").read_text().splitlines()) == 3


def test_a_run_that_died_after_its_last_epoch_is_finished_by_a_resume(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS[CLASSIFICATION], "resnet18-concat", lambda channels, classes: Toy())
    file = recipe(tmp_path, content(pictures))

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mwam_det.hosts.experiment.draw_history", die)
        assert main(["train", file, *FAST]) == 130
    run = tmp_path / "runs/tiny"
    history = (run / "history.csv").read_bytes()
    assert not (run / "robustness.json").exists()
    assert main(["train", file, *FAST, "train.resume=true"]) == 0
    assert (run / "robustness.json").is_file() and (run / "mwam.png").is_file()
    assert (run / "history.csv").read_bytes() == history and not list(run.rglob("*unfinished*"))


def test_two_processes_do_not_train_a_host_in_one_folder(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS[CLASSIFICATION], "resnet18-concat", lambda channels, classes: Toy())
    file = recipe(tmp_path, content(pictures))
    words, inside = ["train", file, *FAST, "train.epochs=2"], []
    validate = HostTrainer._validate

    def resume_beside(self):
        if self.epoch == 2:
            inside.append(main([*words, "train.resume=true"]))
        return validate(self)

    monkeypatch.setattr(HostTrainer, "_validate", resume_beside)
    assert main(words) == 0 and inside == [2]
    assert f"{Path('runs/tiny')}: wait for it, or name another folder" in capsys.readouterr().err
    assert not (tmp_path / "runs/tiny/.in_use").exists()


def test_a_split_of_nothing_but_void_is_refused_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = rooms_content(write_rooms(tmp_path / "rooms"))
    for file in (tmp_path / "rooms/test/labels_40").iterdir():
        cv2.imwrite(str(file), 0 * cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
    assert main(["train", recipe(tmp_path, content), *FAST]) == 2
    assert "no pixel of the split val has a class: every label is 0" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_run_interrupted_before_its_first_checkpoint_names_no_other_run(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS[CLASSIFICATION], "resnet18-concat", lambda channels, classes: Toy())
    file = recipe(tmp_path, content(pictures))
    assert main(["train", file, *FAST]) == 0

    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(HostTrainer, "_validate", interrupt)
    assert main(["train", file, *FAST]) == 130
    assert "Stopped" in (message := capsys.readouterr().err) and "train.resume" not in message


@pytest.mark.slow
def test_one_command_trains_esanet_on_rooms(rooms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = recipe(tmp_path, rooms_content(rooms, train={"class_weights": "median_frequency", "scale": 1.4}))
    assert main(["train", file, *FAST]) == 0
    report = json.loads((tmp_path / "runs/tiny/robustness.json").read_text())
    assert [row["available"] for row in report["combinations"]] == [["rgb"], ["depth"], ["rgb", "depth"]]
    assert report["metrics"] == ["mIoU"] and all(0 <= row["mIoU"] <= 1 for row in report["combinations"])
    last = torch.load(tmp_path / "runs/tiny/weights/last.pt", weights_only=True)
    assert set(last["run"]["mwam"]["bank"]) == {"rgb", "depth"}


def test_a_checkpoint_is_used_and_evaluated_as_it_was_trained(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS[CLASSIFICATION], "resnet18-concat", lambda channels, classes: Toy())
    file = recipe(tmp_path, content(pictures))
    assert main(["train", file, *FAST]) == 0
    best = tmp_path / "runs/tiny/weights/best.pt"
    model, normalise, classes = load_host(best)
    images = {name: torch.full((1, 3, 32, 32), 90, dtype=torch.uint8) for name in ("rgb", "ir")}
    assert classes == ["a", "b"] and model(normalise(images)).shape == (1, 2)
    assert main(["robustness", str(best), file, *FAST]) == 0
    reports = [
        json.loads((tmp_path / f"runs/{name}/robustness.json").read_text()) for name in ("tiny", "tiny-robustness")
    ]
    assert reports[0]["combinations"] == reports[1]["combinations"]
    assert main(["robustness", str(best), file, "data.names={0: b, 1: a}", *FAST]) == 2
    assert "but the recipe has ({'rgb': 3, 'ir': 3}, ('b', 'a'))" in capsys.readouterr().err
    assert main(["robustness", str(best), file, "data.channels={ir: 1}", *FAST]) == 2
    assert "but the recipe has ({'rgb': 3, 'ir': 1}, ('a', 'b'))" in capsys.readouterr().err
    assert main(["robustness", "none.pt", file, *FAST]) == 2
    assert "there are no weights none.pt" in capsys.readouterr().err


def test_training_and_evaluation_leave_a_core_to_others(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS[CLASSIFICATION], "resnet18-concat", lambda channels, classes: Toy())
    limited = []
    monkeypatch.setattr("mwam_det.hosts.experiment.limit_threads", limited.append)
    file = recipe(tmp_path, content(pictures))
    assert main(["train", file, *FAST]) == 0
    assert main(["robustness", "runs/tiny/weights/best.pt", file, *FAST]) == 0
    assert limited == [torch.device("cpu")] * 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.path=nowhere"], "data.path=nowhere is not a folder"),
        (["train.device=cuda:77"], "train.device=cuda:77 is not there"),
        (["train.resume=true"], "/runs/tiny*/weights/last.pt"),
        (["train.resume=last.pt"], "train.resume=last.pt is not a file"),
        (["pretrained=none.pth"], "pretrained=none.pth is not a file"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_written(
    pictures, tmp_path, capsys, monkeypatch, overrides, words
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", recipe(tmp_path, content(pictures)), *FAST, *overrides]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_real_crops_are_found(shared_data):
    content = yaml.safe_load((CFG / "hosts/flir_crops.yaml").read_text())
    data = find_samples({**content["data"], "path": str(shared_data / "flir_crops")}, segmentation=False)
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 3087, "val": 1038}
    assert data.classes == ("bicycle", "car", "person") and data.notes == ()
    assert all(data.group_of(sample) in (["day"], ["night"]) for sample in data.splits["val"])


def test_real_rooms_are_found(shared_data):
    content = yaml.safe_load((CFG / "hosts/nyuv2_esanet.yaml").read_text())
    data = find_samples(
        {**content["data"], "path": str(shared_data / "nyuv2"), "range": {"depth": None}}, segmentation=True
    )
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 795, "val": 150}
    assert len(data.classes) == 40


@pytest.mark.slow
def test_a_host_is_trained_and_reported_without_ultralytics(pictures, tmp_path):
    settings = {**content(pictures), "train": {"imgsz": 32, "batch": 4, "epochs": 1, "project": str(tmp_path)}}
    program = f"""
import sys
from mwam_det.hosts.experiment import HostExperiment, train_experiment
report, folder = train_experiment(HostExperiment.from_dict("alone", {settings!r}))
assert (folder / "report.html").is_file()
print([name for name in sys.modules if name.partition(".")[0] == "ultralytics"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_host_says_what_spoils_its_training_and_not_again_on_resume(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_rooms(tmp_path / "rooms")
    for file in root.rglob("depth/*.png"):
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), cv2.resize(pixels, (48, 64), interpolation=cv2.INTER_NEAREST) // 40)
    file = recipe(tmp_path, rooms_content(root, train={"imgsz": 32, "epochs": 2, "batch": 2, "device": "cpu"}))
    validate = HostTrainer._validate

    def interrupt_in_the_second_epoch(self):
        if self.epoch == 2:
            raise KeyboardInterrupt
        return validate(self)

    with monkeypatch.context() as patch:
        patch.setattr(HostTrainer, "_validate", interrupt_in_the_second_epoch)
        assert main(["train", file]) == 130
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Note: depth")]
    assert len(notes) == 2
    assert "depth fills only levels" in notes[0]
    assert "do not fit 'range: {depth: [0, 10000]}'" in notes[0]
    assert "depth has another aspect ratio than rgb in 8 of 8 pairs (48×64 px" in notes[1]
    assert main(["train", file, "train.resume=true"]) == 0
    assert "Note:" not in capsys.readouterr().out


@pytest.mark.parametrize("task", MODELS)
def test_a_host_says_nothing_of_files_that_are_as_they_should_be(pictures, rooms, task):
    segmentation = task == SEGMENTATION
    data = find_samples(rooms_section(rooms) if segmentation else section(pictures), segmentation)
    samples = [sample for split in data.splits.values() for sample in split]
    sizes = check_files(samples, data.modalities)
    assert sizes == [((64, 64),) * 2 if segmentation else ((16, 16),) * 2] * len(samples)
    said = look_at_samples(samples, sizes, data.modalities, 64, segmentation)
    assert ["same picture" in text for text in said] == [
        True
    ] * segmentation  # the depth of these rooms is their colour
