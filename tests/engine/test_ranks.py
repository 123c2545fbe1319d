"""Two processes that are interrupted, meet a loss that is not finite, or of which one dies."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from dying_rank import killed
from ranks import free_port, run_two, start_two
from tables import read_csv
from training import SHORT

from mwam_det import MWAMTrainer

ARGUMENTS = {
    **SHORT,
    "epochs": 4,
    "nbs": 12,  # a step takes three mini-batches, and an epoch has two
    "close_mosaic": 1,
    "warmup_epochs": 0,
    "mwam": {"mode": "hybrid"},
    "incomplete": {"views": 2, "weights": "mwam", "checkpoint": True},
    "select": {"select": "mean"},
}


@pytest.fixture(scope="module")
def ranks(demo_section, tmp_path_factory):
    """What each of two ranks had at the end of each of its trainings."""
    if not torch.distributed.is_available():
        pytest.skip("this torch is built without torch.distributed")
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "arguments.yaml").write_text(yaml.safe_dump({**ARGUMENTS, "data": demo_section}))
    run_two("interrupted_ranks.py", folder, folder / "arguments.yaml", folder, *(free_port() for _ in range(4)))
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


def differing(first, second):
    """Name what differs between two nested structures of tensors and numbers."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        return [f"{key}.{name}" for key in first for name in differing(first[key], second[key])]
    same = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    return [] if same else [""]


@pytest.mark.slow
def test_a_run_of_two_ranks_that_is_resumed_is_the_uninterrupted_one_bit_for_bit(ranks):
    for rank, seen in enumerate(ranks):
        for part in ("model", "averaged", "heads", "optimizer", "run"):
            assert not differing(seen["resumed"][part], seen["whole"][part]), (rank, part)
            assert part == "run" or differing(seen["interrupted"][part], seen["whole"][part]), "it was still to train"
    first, second = ranks[0]["whole"]["model"], ranks[1]["whole"]["model"]
    statistics = [name for name in first if name.endswith("running_mean")]
    assert any(not torch.equal(first[name], second[name]) for name in statistics), "each rank has its own"
    for name in ("results.csv", "mwam.csv"):
        whole, again = (read_csv(Path(ranks[0][run]["save_dir"]) / name) for run in ("whole", "resumed"))
        assert len(whole) == (4 if name == "results.csv" else 8)
        assert [{**row, "time": ""} for row in whole] == [{**row, "time": ""} for row in again]


@pytest.mark.slow
def test_the_heads_of_all_ranks_learn_from_all_samples(ranks):
    first, second = (seen["whole"]["heads"] for seen in ranks)
    assert first and not differing(first, second)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_any_rank_lets_all_begin_the_epoch_again(ranks):
    for seen in ranks:
        assert seen["struck"]["recovered"] == [False, True, False, False, False]
        tensors = [*seen["struck"]["model"].values(), *seen["struck"]["heads"].values()]
        assert all(tensor.isfinite().all() for tensor in tensors)
    first, second = (seen["struck"]["averaged"] for seen in ranks)
    assert not differing({name: first[name] for name in second}, second)
    assert not differing(ranks[0]["struck"]["heads"], ranks[1]["struck"]["heads"])


@pytest.fixture
def dying(demo_section, tmp_path):
    """The file with the arguments of a training of which a process dies."""
    if not torch.distributed.is_available():
        pytest.skip("this torch is built without torch.distributed")
    arguments = {**SHORT, "data": demo_section, "project": str(tmp_path), "name": "run"}
    (tmp_path / "arguments.yaml").write_text(yaml.safe_dump(arguments))
    return tmp_path / "arguments.yaml"


@pytest.mark.slow
def test_a_process_whose_neighbour_is_killed_ends_with_a_sentence_without_any_launcher(dying, tmp_path):
    survivor, victim = start_two("dying_rank.py", tmp_path, dying, "killed")
    try:
        assert victim.wait(timeout=200) == -9
        died = time.monotonic()
        assert survivor.wait(timeout=60) != 0 and time.monotonic() - died < 60
    finally:
        survivor.kill()
        victim.kill()
    last = tmp_path / "run/weights/last.pt"
    output = (tmp_path / "0.log").read_text()
    assert "ConnectionError: rank 0: another process of this training cannot be reached any more (" in output
    assert last.is_file() and f"look at what that process printed last. Continue with resume={last}" in output


@pytest.mark.slow
def test_torchrun_ends_the_others_and_prints_the_error_of_the_rank_that_failed(dying, tmp_path):
    script = Path(__file__).parents[1] / "helpers" / "dying_rank.py"
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    command = [sys.executable, *launcher, str(script), str(dying), "raises"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200)
    report = ended.stderr[ended.stderr.index("Root Cause") :]
    assert ended.returncode != 0 and "rank      : 1" in report and "ValueError: the sample is broken" in report


@pytest.mark.slow
def test_a_training_whose_worker_dies_ends_with_a_sentence_where_ultralytics_started_it(dying, tmp_path, capfd):
    pytest.importorskip("cloudpickle", reason="Ultralytics installs it when several devices are first asked for")
    arguments = yaml.safe_load(dying.read_text())
    parent = MWAMTrainer(overrides=arguments)
    parent._hold.release()  # one of several devices does not hold the folder: its first worker does
    parent.args.data, parent.ddp, parent.world_size = arguments["data"], True, 2  # as with device=[0,1] on two GPUs
    parent.add_callback("on_train_batch_start", killed)
    with pytest.raises(ChildProcessError, match="a process of this training failed.*above.* Continue with resume=.*pt"):
        parent.train()
    report = capfd.readouterr().err
    assert "Signal 9 (SIGKILL) received by PID" in report[report.index("Root Cause") :]
