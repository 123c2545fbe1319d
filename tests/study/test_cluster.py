"""A study on a Ray cluster of two nodes, which are processes of this machine."""

import json
import sys
import time
from pathlib import Path

import pytest
import yaml
from untrained import TINY

from mwam_det.study.cluster import _shares, run_on_cluster
from mwam_det.study.grid import compare

if sys.platform != "linux":
    pytest.skip("the extra test has Ray for Linux alone", allow_module_level=True)

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture
def cluster(monkeypatch):
    """A head that does no work, and two nodes with a CPU each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
    try:
        made.nodes = [made.add_node(**NODE) for _ in range(2)]
        yield made
    finally:
        made.shutdown()


@pytest.fixture
def tiny(demo_section, tmp_path, monkeypatch) -> str:
    """A recipe that is trained in a moment, in the working directory."""
    monkeypatch.chdir(tmp_path)
    train = {"epochs": 1, "imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "optimizer": "SGD", "plots": False}
    Path("tiny.yaml").write_text(yaml.safe_dump({"model": TINY, "data": demo_section, "train": train}))
    return "tiny.yaml"


def until(done, seconds=60):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_lost_node_costs_its_own_task_time_and_no_other_anything(cluster, tmp_path):
    nodes = iter(cluster.nodes)

    def work(place):  # nested: it travels whole, and a node need not find this file
        import ray

        node = ray.get_runtime_context().get_node_id()
        begun = [*place.log.parent.glob(f"{place.task}.begun*")]
        (place.log.parent / f"{place.task}.begun{len(begun)}").write_text(node)
        go, lost = place.log.parent / "go", place.log.parent / "lost"
        while not begun and (not go.exists() or lost.read_text() == node):
            time.sleep(0.05)  # each waits for the other; that of the lost node must not end before Ray has ended it
        print(place.task, "was done")

    seen, died = [], {}

    def changed(running):
        seen.append(running)
        if len(seen) == 1:
            until(lambda: len([*tmp_path.glob("*.begun0")]) == 2)
            (tmp_path / "lost").write_text((node := next(nodes)).node_id)
            cluster.remove_node(node, allow_graceful=False)
            (tmp_path / "go").touch()

    run_on_cluster(
        ["a", "b"], work, cluster.address, 1, tmp_path,
        log_of=lambda task: tmp_path / f"{task}.log", changed=changed, died=died.__setitem__,
    )  # fmt: skip
    assert not died and len(seen) == 3
    begun = {task: [file.read_text() for file in sorted(tmp_path.glob(f"{task}.begun*"))] for task in "ab"}
    assert sorted(map(len, begun.values())) == [1, 2], "the task of the lost node alone begins again"
    (moved,) = [nodes for nodes in begun.values() if len(nodes) == 2]
    (stayed,) = [nodes for nodes in begun.values() if len(nodes) == 1]
    assert moved[0] != stayed[0] and moved[1] == stayed[0]
    assert all("was done" in (tmp_path / f"{task}.log").read_text() for task in "ab")


@pytest.mark.slow
def test_a_study_is_trained_on_a_cluster_and_failures_are_told(cluster, tiny):
    result = compare(tiny, (), "baseline,mwam", 1, cluster=cluster.address)
    assert [run.state for run in result.runs] == ["done", "done"]
    record = json.loads(Path("runs/tiny-compare/mwam/seed0.json").read_text())
    assert record["state"] == "done" and "epochs completed" in Path("runs/tiny-compare/mwam/seed0.log").read_text()


@pytest.mark.slow
def test_a_folder_that_a_node_does_not_see_is_named(cluster, tmp_path):
    died = {}
    run_on_cluster(
        ["a"], print, cluster.address, 1, tmp_path / "elsewhere",
        log_of=lambda task: tmp_path / f"{task}.log", changed=lambda running: None, died=died.__setitem__,
    )  # fmt: skip
    assert f"does not see {tmp_path}/elsewhere: the nodes of a cluster need a shared folder" in died["a"]


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "jobs", "shares"),
    [
        ([node(CPU=1.0), node(CPU=8.0)], 1, (1, 0)),
        ([node(CPU=17.0, GPU=2.0), node(), node(alive=False, CPU=2.0)], 4, (4, 0.5)),
        ([node(CPU=17.0, GPU=3.0)], 2, (8, 1)),
        ([node(CPU=17.0, GPU=2.0)], 3, (5, 0.5)),
        ([node(CPU=17.0, GPU=8.0)], 1, (16, 1)),
        ([node(CPU=17.0, GPU=1.0)], 6, (2, 0.1666)),
        ([node(CPU=17.0, GPU=1.0), node(CPU=2.0)], 1, (16, 1)),
    ],
)
def test_runs_share_the_smallest_node_that_works(nodes, jobs, shares):
    assert _shares(nodes, jobs) == shares


def test_a_cluster_without_cpus_is_refused():
    with pytest.raises(ConnectionError, match="no node of the cluster has a CPU"):
        _shares([node(), node(alive=False, CPU=4.0)], 1)


@pytest.mark.parametrize(
    ("asked", "words"), [({"jobs": 0}, "jobs=0 must be"), ({"cluster": "auto", "devices": ("0",)}, "devices=0 and cl")]
)
def test_what_makes_no_sense_is_refused(asked, words):
    with pytest.raises(ValueError, match=words):
        compare("none.yaml", **asked)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ConnectionError, match="cluster=here must be auto or ray://HOST:PORT"):
        run_on_cluster([], None, "here", 1, Path(), log_of=None, changed=None, died=None)
