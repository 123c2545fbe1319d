"""Two processes that are interrupted, or meet a loss that is not finite."""

from pathlib import Path

import pytest
import torch
import yaml
from ranks import free_port, run_two
from tables import read_csv
from training import SHORT

ARGUMENTS = {
    **SHORT,
    "epochs": 4,
    "nbs": 12,  # a step takes three mini-batches, and an epoch has two
    "close_mosaic": 1,
    "warmup_epochs": 0,
    "mwam": {"mode": "hybrid"},
    "incomplete": {"views": 2, "weights": "mwam"},
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
