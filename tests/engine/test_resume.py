"""Runs that die, at moments chosen, and what a resume makes of them."""

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from tables import read_csv
from training import SHORT, run
from ultralytics import YOLO
from untrained import TINY, make_set

from mwam_det import MWAMTrainer
from mwam_det.cli import main
from mwam_det.engine import saving
from mwam_det.engine.finishing import last_shares
from mwam_det.engine.resuming import restore_weights
from mwam_det.engine.saving import CheckpointPath, finish_checkpoints, is_trained, read_record, repair_best
from mwam_det.files.locks import LOCK, FolderInUse


class Killed(BaseException):
    """Nothing of ours may catch it."""


def dying_after(epoch):
    """A trainer that dies once the checkpoint of an epoch (from 0) is written."""

    class Dying(MWAMTrainer):
        def save_model(self):
            saved = super().save_model()
            if self.epoch == epoch:
                raise Killed
            return saved

    return Dying


def rows(file, without=()):
    return [{key: value for key, value in row.items() if key not in without} for row in read_csv(file)]


def same(first, second):
    first, second = (own.state_dict() for own in (first, second))
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


RUNS = {
    "heads, drawn views, mosaic": ("demo_section", {
        "mwam": {"mode": "hybrid"}, "incomplete": {"views": 2}, "nbs": 8, "epochs": 4, "close_mosaic": 2
    }),
    "a step over several epochs": ("demo_section", {
        "incomplete": True, "nbs": 32, "epochs": 3, "close_mosaic": 0, "warmup_epochs": 2,
        "select": {"select": "mean", "every": 2},
    }),
    "neither MWAM nor views": ("six", {
        "mwam": False, "model": "end2end", "optimizer": "MuSGD", "nbs": 12, "epochs": 3, "cache": "ram"
    }),
}  # fmt: skip
"""By name: the set, and what is asked for."""


def end2end(folder):
    """The small model with the head of YOLO26, whose loss changes from epoch to epoch."""
    file = folder / "end2end.yaml"
    file.write_text(f"{Path(TINY).read_text()}end2end: true\nreg_max: 1\n")
    return str(file)


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """A set whose last mini-batch is smaller than the others."""
    section = make_set(tmp_path_factory.mktemp("six") / "set")
    for kind in ("rgb", "ir", "labels"):
        for number, file in enumerate(sorted((Path(section["path"]) / kind / "val").iterdir())[:2]):
            shutil.copy(file, file.with_stem(f"more{number}"))
    return section


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_after_any_epoch_and_resumed_is_the_uninterrupted_run_bit_for_bit(request, tmp_path, name):
    data, arguments = RUNS[name]
    section = request.getfixturevalue(data)
    if arguments.get("model") == "end2end":
        arguments = {**arguments, "model": end2end(tmp_path)}
    whole = run(MWAMTrainer, section, tmp_path / "whole", **arguments)
    for epoch in range(arguments["epochs"] - 1):
        with pytest.raises(Killed):
            run(dying_after(epoch), section, tmp_path / str(epoch), **arguments)
        last = tmp_path / str(epoch) / "run/weights/last.pt"
        again = run(MWAMTrainer, section, tmp_path / str(epoch), resume=str(last))
        assert same(again.model, whole.model) and same(again.ema.ema, whole.ema.ema), epoch
        assert rows(again.csv, without=["time"]) == rows(whole.csv, without=["time"])
        if again.mwam is not None:
            assert rows(again.save_dir / "mwam.csv") == rows(whole.save_dir / "mwam.csv")
            assert again.mwam.state_dict() == whole.mwam.state_dict()
        weights = [torch.load(own.best, weights_only=False)["model"] for own in (again, whole)]
        assert same(*weights)


@pytest.fixture(scope="module")
def stopped(demo_section, tmp_path_factory):
    """The weights folder of a run that died after the first of two epochs."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Killed):
        run(dying_after(0), demo_section, folder)
    return folder / "run" / "weights"


def test_the_record_is_in_last_pt_alone_and_plain_ultralytics_reads_it(stopped, demo_section, tmp_path):
    last, best = stopped / "last.pt", stopped / "best.pt"
    assert read_record(last)["epoch"] == 0 and read_record(best) is None
    assert read_record(last)["model"]["model.2.conv.weight"].dtype == torch.float32
    assert same(YOLO(last).model, YOLO(best).model)
    finish_checkpoints(last, best)
    assert read_record(last) is None and torch.load(last, weights_only=False)["epoch"] == -1
    assert sorted(file.name for file in stopped.iterdir()) == ["best.pt", "last.pt"]


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = CheckpointPath(tmp_path) / "last.pt"
    file.write_bytes(b"first")

    def die(self, data):
        self.open("wb").write(data[:3])
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "write_bytes", die)
        file.write_bytes(b"second")
    assert file.read_bytes() == b"first"
    (CheckpointPath(tmp_path) / "best.pt").write_bytes(b"best")  # whatever is left in the way
    (tmp_path / "best.pt").unlink()
    file.write_bytes(b"third")
    assert file.read_bytes() == b"third" and [own.name for own in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_is_told_with_the_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    file = CheckpointPath(tmp_path) / "last.pt"
    file.write_bytes(b"first")

    def full(self, data):
        self.open("wb").write(data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"No space left on device: '.*last.pt'"):
        patch.setattr(Path, "write_bytes", full)
        file.write_bytes(b"second")
    assert [(own.name, own.read_bytes()) for own in tmp_path.iterdir()] == [("last.pt", b"first")]


def checkpoint(file, epoch, fitness, best):
    content = {"epoch": epoch, "train_metrics": {"fitness": fitness}, "best_fitness": best, "train_args": {"epochs": 9}}
    torch.save(content, file)
    return content


@pytest.mark.parametrize(
    ("fitness", "best", "expected"), [(0.5, 0.5, 4), (0.4, 0.5, 3), (None, 0.5, 3)], ids=["best", "worse", "unknown"]
)
def test_best_pt_is_mended_where_a_process_died_before_it_was_written(tmp_path, fitness, best, expected):
    checkpoint(tmp_path / "best.pt", 3, 0.5, 0.5)
    content = checkpoint(tmp_path / "last.pt", 4, fitness, best)
    repair_best(tmp_path / "last.pt", tmp_path / "best.pt", content)
    assert torch.load(tmp_path / "best.pt")["epoch"] == expected


@pytest.mark.parametrize("damage", [b"PK half a file", None])
def test_a_damaged_or_missing_best_pt_is_mended_too(tmp_path, damage):
    if damage:
        (tmp_path / "best.pt").write_bytes(damage)
    repair_best(tmp_path / "last.pt", tmp_path / "best.pt", checkpoint(tmp_path / "last.pt", 4, 0.5, 0.5))
    assert torch.load(tmp_path / "best.pt")["epoch"] == 4


@pytest.mark.parametrize(
    ("epoch", "stopped_early", "expected"), [(-1, False, True), (8, False, True), (4, False, False), (4, True, True)]
)
def test_a_run_is_trained_after_its_last_epoch_or_where_it_was_stopped(epoch, stopped_early, expected):
    arguments = {"epochs": 9, "run_state": {"stopped": stopped_early}}
    assert is_trained({"epoch": epoch, "train_args": arguments}) is expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    ["final_eval", "strip last.pt", "strip best.pt", "report", "report's last file"],
)
def test_a_run_killed_after_its_last_epoch_is_finished_by_a_resume(demo_section, tmp_path, monkeypatch, moment, capsys):
    monkeypatch.chdir(tmp_path)
    train = {**{key: value for key, value in SHORT.items() if key != "model"}, "epochs": 2, "patience": 1}
    recipe = {"model": TINY, "data": demo_section, "train": train}
    Path("night.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))

    def die(*args, **kwargs):
        raise Killed

    def die_at(wanted, function):
        return lambda file, *args, **kwargs: die() if Path(file).name == wanted else function(file, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if moment == "final_eval":
            patch.setattr(MWAMTrainer, "final_eval", die)
        elif moment.startswith("strip"):
            patch.setattr(saving, "strip_whole", die_at(moment.split()[1], saving.strip_whole))
        elif moment == "report":
            patch.setattr("mwam_det.engine.facade.MultimodalYOLO.robustness", die)
        else:
            patch.setattr("mwam_det.robustness.files.html", die)
        main(["train", "night.yaml"])
    assert not Path("runs/night/robustness.json").exists()
    assert main(["train", "night.yaml", "train.resume=true"]) == 0
    folder = Path("runs/night")
    assert (folder / "robustness.json").is_file() and (folder / "report.html").is_file()
    assert all(torch.load(folder / "weights" / f, weights_only=False)["epoch"] == -1 for f in ("last.pt", "best.pt"))
    assert not list(folder.rglob("*unfinished*"))
    assert [row["epoch"] for row in rows(folder / "results.csv")] == ["1", "2"]


@pytest.mark.parametrize(("mwam", "shares"), [(True, {"rgb": 1.2}), ({"preference": "measured"}, None)])
def test_a_finished_report_is_given_shares_of_frequencies_alone(mwam, shares):
    state = {"mwam": {"last": {"share": {"rgb": 1.2}}}}
    assert last_shares({"mwam": mwam, "run_state": state}) == shares
    assert last_shares({"mwam": mwam, "run_state": {}}) is None and last_shares({}) is None


@pytest.mark.slow
def test_rows_that_a_dead_process_left_behind_its_checkpoint_or_in_half_are_dropped(demo_section, tmp_path):
    with pytest.raises(Killed):
        run(dying_after(0), demo_section, tmp_path)
    file = tmp_path / "run/results.csv"
    whole = file.read_text()
    file.write_text(whole + whole.splitlines()[-1].replace("1,", "2,", 1) + "\n3,0.5,0.")
    trainer = run(MWAMTrainer, demo_section, tmp_path, resume=str(tmp_path / "run/weights/last.pt"))
    assert [row["epoch"] for row in rows(trainer.csv)] == ["1", "2"]
    assert trainer.csv.read_text().startswith(whole)


@pytest.mark.slow
def test_two_trainings_do_not_share_a_run_folder(demo_section, tmp_path):
    arguments = {**SHORT, "data": demo_section, "project": str(tmp_path), "name": "run", "exist_ok": True, "epochs": 1}
    first = MWAMTrainer(overrides=arguments)
    before = {file: file.read_bytes() for file in first.save_dir.rglob("*") if file.is_file()}
    with pytest.raises(FolderInUse, match="another process works in .*run: wait for it"):
        MWAMTrainer(overrides={**arguments, "imgsz": 96})
    assert {file: file.read_bytes() for file in first.save_dir.rglob("*") if file.is_file()} == before
    first.train()
    assert not (first.save_dir / LOCK).exists()
    MWAMTrainer(overrides=arguments).train()  # what a training held is free again


def test_a_run_goes_on_with_the_optimizers_kernel_of_the_device_that_it_is_resumed_on():
    model = torch.nn.Linear(2, 2)
    before = torch.optim.AdamW(model.parameters(), lr=0.5)  # as on a CPU
    state = {"model": model.state_dict(), "averaged": model.state_dict(), "optimizer": before.state_dict(), "ranks": []}
    after = torch.optim.AdamW(model.parameters(), fused=True)  # as on a GPU
    restore_weights(SimpleNamespace(model=model, ema=SimpleNamespace(ema=model), optimizer=after), state)
    assert after.param_groups[0]["fused"] is True and after.param_groups[0]["lr"] == 0.5
    assert state["optimizer"]["param_groups"][0]["fused"] is None
