import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tasks_of_workers import note
from ultralytics.utils import torch_utils

from mwam_det.experiments import share_threads
from mwam_det.hosts import threads as host_threads
from mwam_det.study.workers import run_all, threads_each

HELPERS = Path(__file__).parents[1] / "helpers"


def run(folder, tasks, jobs, devices=()):
    """Run tasks; return the tasks that ran after each change, and those that died."""
    seen, died = [], {}
    run_all(
        tasks, note, jobs, devices, log_of=lambda task: folder / f"{task}.log", changed=lambda own: seen.append([*own]),
        died=died.__setitem__,
    )  # fmt: skip
    return seen, died


@pytest.mark.slow
def test_tasks_run_at_the_same_time_and_share_devices_and_threads(tmp_path):
    seen, died = run(tmp_path, ["meets1", "meets2"], 2, ("0", "1"))
    assert ["meets1", "meets2"] in seen and seen[-1] == [] and not died
    told = [(tmp_path / f"meets{number}.device").read_text().split() for number in (1, 2)]
    assert [device for device, _ in told] == ["0", "1"]
    assert {int(threads) for _, threads in told} == {threads_each(2)}
    assert (tmp_path / "meets1.log").read_text() == "meets1 prints\n"


@pytest.mark.slow
def test_a_process_that_dies_costs_its_task_alone(tmp_path):
    _, died = run(tmp_path, ["killed", "exits", "lives"], 2)
    assert died == {
        "killed": "its process was ended by SIGKILL (out of memory?)",
        "exits": "its process ended with exit status 3",
    }
    assert (tmp_path / "lives.device").read_text() == f"None {threads_each(2)}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "ignored"),
    [(signal.SIGINT, False), (signal.SIGKILL, False), (signal.SIGKILL, True)],  # a shell's & ignores SIGINT in scripts
    ids=["SIGINT", "SIGKILL", "SIGKILL, SIGINT ignored"],
)
def test_processes_end_with_the_one_that_began_them_however_it_ends(how, ignored, tmp_path):
    code = f"""
import signal, sys; sys.path.insert(0, {str(HELPERS)!r})
from pathlib import Path
from tasks_of_workers import note
from ultralytics.utils import torch_utils
from mwam_det.study.workers import run_all
if __name__ == "__main__":
    {"signal.signal(signal.SIGINT, signal.SIG_IGN)" if ignored else ""}
    run_all(["waits"], note, 1, log_of=lambda task: Path("waits.log"), changed=print, died=print)
"""
    (tmp_path / "main.py").write_text(code)
    main = subprocess.Popen([sys.executable, "main.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "waits.begun")
    main.send_signal(how)
    main.wait(60)
    wait_for(tmp_path / "interrupted")


@pytest.mark.parametrize(("cores", "jobs", "threads"), [(2, 1, 1), (2, 2, 1), (16, 1, 15), (16, 4, 3), (8, 20, 1)])
def test_all_cores_but_one_are_shared_out(cores, jobs, threads, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert threads_each(jobs) == threads


def wait_for(file, seconds=60):
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"{file.name} never came"
        time.sleep(0.02)


@pytest.mark.parametrize(("share", "threads"), [(1, 1), (1000, None)], ids=["less", "more"])
def test_a_share_of_the_machine_is_never_more_than_a_run_alone_takes(share, threads, monkeypatch):
    alone = torch_utils.NUM_THREADS, host_threads.MOST_THREADS
    monkeypatch.setattr(torch_utils, "NUM_THREADS", alone[0])
    monkeypatch.setattr(host_threads, "MOST_THREADS", alone[1])
    share_threads(share)
    assert ((threads, threads) if threads else alone) == (torch_utils.NUM_THREADS, host_threads.MOST_THREADS)
