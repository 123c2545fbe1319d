"""Training in several processes."""

import runpy
from pathlib import Path

import pytest
import torch
import yaml
from ranks import run_two
from tables import read_csv
from training import SHORT, run
from ultralytics.utils import DEFAULT_CFG_DICT
from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file
from untrained import TINY

from mwam_det import MultimodalYOLO, MWAMTrainer
from mwam_det.engine import processes
from mwam_det.engine.processes import check_processes, device_of_worker, number_of_processes, refuse_to_delete

AS_IT_IS = dict.fromkeys(("mosaic", "translate", "scale", "fliplr", "hsv_h", "hsv_s", "hsv_v"), 0.0)
"""Without augmentation, and with all images in each batch, order and place of an image do not matter."""

ARGUMENTS = {
    **SHORT,
    **AS_IT_IS,
    "batch": 8,
    "nbs": 8,
    "epochs": 3,
    "warmup_epochs": 0,
    "incomplete": {"views": 1},
    "select": {"select": "mean", "every": 2},
}


@pytest.fixture(scope="module")
def two(demo_section, tmp_path_factory):
    """What two processes saw, and their run folder; a run of the same name was there before."""
    if not torch.distributed.is_available():
        pytest.skip("this torch is built without torch.distributed")
    folder = tmp_path_factory.mktemp("two")
    (folder / "run").mkdir()
    arguments = {**ARGUMENTS, "data": demo_section, "project": str(folder), "name": "run"}
    (folder / "arguments.yaml").write_text(yaml.safe_dump(arguments))
    run_two("trainer_of_a_rank.py", folder, folder / "arguments.yaml", folder)
    seen = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]
    return seen, Path(seen[0]["save_dir"])


@pytest.mark.slow
def test_both_ranks_end_with_the_same_model_and_the_same_mwam(two):
    (first, second), _ = two
    for name, parameter in first["parameters"].items():
        assert torch.equal(parameter, second["parameters"][name]), name
    assert first["mwam"] == second["mwam"] and first["mwam"]["weights"]["rgb"] != first["mwam"]["weights"]["ir"]
    assert first["hooks"] == second["hooks"] == {0, 1}, "streams are hooked once, the rest is not"


@pytest.mark.slow
def test_two_processes_have_the_bank_of_one_with_the_same_global_batch(two, demo_section, tmp_path):
    alone = read_csv(run(MWAMTrainer, demo_section, tmp_path, **ARGUMENTS).save_dir / "mwam.csv")
    together = read_csv(two[1] / "mwam.csv")
    assert [row["epoch"] for row in together] == [row["epoch"] for row in alone] == ["1", "2", "3"]
    for ours, theirs in zip(together, alone, strict=True):
        for key in ours:
            assert float(ours[key]) == pytest.approx(float(theirs[key]), rel=1e-5), key


@pytest.mark.slow
def test_ranks_drop_modalities_of_their_own_samples_independently(two):
    (first, second), _ = two
    assert first["lacking"].shape == second["lacking"].shape == (3, 2, 4)
    assert not torch.equal(first["lacking"], second["lacking"])


@pytest.mark.slow
def test_all_ranks_work_in_the_folder_of_the_first_and_leave_an_earlier_run_alone(two):
    seen, folder = two
    assert {rank["save_dir"] for rank in seen} == {str(folder)} and folder.name != "run"
    assert not list((folder.parent / "run").iterdir())
    assert (folder / "weights" / "best.pt").is_file()


@pytest.mark.slow
def test_combinations_are_validated_by_all_ranks_in_the_same_epochs(two):
    rows = read_csv(two[1] / "results.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all("metrics/mAP50(rgb)" in row and "metrics/mAP50(ir)" in row for row in rows)


def test_a_worker_that_ultralytics_starts_has_the_trainer_and_all_arguments(demo_section, tmp_path, monkeypatch):
    pytest.importorskip("cloudpickle", reason="Ultralytics installs it when several devices are first asked for")
    own = {"mwam": {"gamma": 0.6, "mode": "update"}, "incomplete": {"views": 1, "p": 0.3}, "fusion": "add"}
    arguments = {**SHORT, **own, "select": {"select": "worst"}, "data": demo_section, "project": str(tmp_path)}
    parent = MWAMTrainer(overrides=arguments)
    parent._hold.release()  # one of several devices does not hold the folder: its first worker does
    parent.args.data = demo_section  # as it is in a parent, which writes no file
    parent.add_callback("on_train_end", heard)
    workers = []
    monkeypatch.setattr(MWAMTrainer, "train", lambda worker: workers.append(worker))
    file = generate_ddp_file(parent)
    try:
        runpy.run_path(file, run_name="__main__")
    finally:
        ddp_cleanup(parent, file)
    (worker,) = workers
    assert type(worker) is MWAMTrainer and worker.save_dir == parent.save_dir
    assert "heard" in [callback.__name__ for callback in worker.callbacks["on_train_end"]]
    differing = {key for key, value in vars(parent.args).items() if vars(worker.args)[key] != value}
    assert differing <= {"data"}, "which is the file that the first worker wrote"
    assert worker.mwam.config == parent.mwam.config and worker.mwam.config.gamma == 0.6
    for own in ("incomplete_config", "selection"):
        assert getattr(worker.run, own) == getattr(parent.run, own)
    assert worker.data["splits"] == parent.data["splits"]


def heard(trainer):
    """A callback of a user's own."""


@pytest.mark.parametrize(
    ("device", "number"), [(None, 1), ("", 1), ("cpu", 1), (0, 1), ("0,1", 2), ([0, 1, 2], 3), ("-1,-1", 2)]
)
def test_processes_are_counted_by_the_devices_that_are_named(device, number):
    assert number_of_processes(device) == number


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch": -1}, "batch=-1 only works on one device"),
        ({"batch": 0.7}, "give the total batch of all 2"),
    ],
)
def test_what_several_devices_cannot_do_is_refused_before_there_is_a_run_folder(
    demo_section, tmp_path, arguments, words
):
    overrides = {**SHORT, "data": demo_section, "project": str(tmp_path), "device": "0,1", **arguments}
    with pytest.raises(ValueError, match=words):
        MWAMTrainer(overrides=overrides)
    assert not list(tmp_path.iterdir())


def test_a_worker_takes_a_device_each_and_no_rectangular_batches(monkeypatch):
    monkeypatch.setattr(processes, "RANK", 3)
    monkeypatch.setattr(processes, "WORLD_SIZE", 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of_worker(None) == "0,1" and device_of_worker("1,0") == "1,0"
    check_processes({"device": [0, 1]})
    with pytest.raises(ValueError, match="device=0 must name a device for each of the 2 processes"):
        check_processes({"device": "0"})
    with pytest.raises(ValueError, match="rect=true gives each process"):
        check_processes({"rect": True})


def test_a_robustness_report_in_a_worker_is_refused(monkeypatch):
    monkeypatch.setattr("mwam_det.engine.facade.RANK", 0)
    with pytest.raises(NotImplementedError, match="one process"):
        MultimodalYOLO(TINY).robustness()


def test_a_folder_with_weights_is_not_left_to_be_deleted(tmp_path):
    refuse_to_delete(tmp_path / "none")
    (tmp_path / "weights").mkdir()
    refuse_to_delete(tmp_path)
    (tmp_path / "weights/best.pt").touch()
    with pytest.raises(ValueError, match="would first delete .* with best.pt in it"):
        refuse_to_delete(tmp_path)


@pytest.mark.parametrize("ends", [True, False])
def test_a_training_on_several_devices_leaves_an_earlier_run_alone(demo_section, tmp_path, monkeypatch, ends):
    weights = tmp_path / "run/weights/last.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"kept")
    will_start_workers = property(lambda trainer: True, lambda trainer, value: None)
    monkeypatch.setattr(MWAMTrainer, "ddp", will_start_workers, raising=False)
    arguments = {**SHORT, "data": demo_section, "project": str(tmp_path), "name": "run", "exist_ok": ends}
    if ends:
        with pytest.raises(ValueError, match="exist_ok=true: on several devices"):
            MWAMTrainer(overrides={**arguments, "device": "0,1"})
        with pytest.raises(ValueError, match="exist_ok=true: on several devices"):
            MWAMTrainer({**DEFAULT_CFG_DICT, "exist_ok": True}, {k: v for k, v in arguments.items() if k != "exist_ok"})
    else:
        MWAMTrainer(overrides=arguments)
    assert weights.read_bytes() == b"kept"
