import pytest
import torch
from torch import multiprocessing as mp
from two_ranks import run_a_rank, two_streams, whole_batch

from mwam_det import MWAM
from mwam_det.core.distributed import mean_over_ranks


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes found on its half."""
    if not torch.distributed.is_available():
        pytest.skip("this torch is built without torch.distributed")
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_a_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(ranks):
    """What a single process finds on the whole."""
    return ranks[0]["alone"]


def test_without_torch_distributed_values_are_returned_as_they_are():
    values = torch.tensor([1.0, 2.0])
    assert mean_over_ranks(values, torch.tensor([3.0, 0.0])) is values


@pytest.mark.slow
def test_two_ranks_with_unequal_parts_agree_on_the_weights_of_the_whole_batch(ranks):
    first, second = (rank["observed"] for rank in ranks)
    assert first == second
    whole = whole_batch()
    mwam = MWAM(["rgb", "ir"])
    mwam.observe({"rgb": whole["rgb"], "ir": whole["ir"]})
    assert first.frm["rgb"] == pytest.approx(mwam.last.frm["rgb"], rel=1e-6)
    seen = MWAM(["ir"])  # a rank on which a modality is absent says nothing about it
    seen.observe({"ir": whole["ir"][2:]})
    assert first.frm["ir"] == pytest.approx(seen.last.frm["ir"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["gradients", "accumulated"])
def test_ranks_observe_what_a_single_process_observes_on_the_whole_batch(ranks, alone, key):
    (_, first), (_, second), (_, whole) = ranks[0][key], ranks[1][key], alone[key]
    assert first == second
    for found, expected in zip(first, whole, strict=True):
        for what in ("frm", "bank", "share", "weight"):
            assert getattr(found, what) == pytest.approx(getattr(expected, what), rel=1e-5), what
        assert abs(expected.weight["rgb"] - expected.weight["ir"]) > 0.1  # else nothing is told apart


@pytest.mark.slow
@pytest.mark.parametrize("key", ["gradients", "accumulated"])
def test_averaged_gradients_of_the_ranks_are_the_scaled_gradients_of_the_whole_batch(ranks, alone, key):
    for name, expected in alone[key][0].items():
        first, second = (rank[key][0][name] for rank in ranks)
        assert torch.equal(first, second), name
        assert torch.allclose(first, expected, rtol=1e-5, atol=1e-12), name


@pytest.mark.slow
@pytest.mark.parametrize("key", ["one step", "steps"])
def test_scaled_steps_of_adamw_end_at_the_same_parameters_on_both_ranks_and_in_a_single_process(ranks, alone, key):
    start = dict(two_streams().named_parameters())
    for name, expected in alone[key].items():
        first, second = (rank[key][name] for rank in ranks)
        assert torch.equal(first, second), name
        assert torch.allclose(first, expected, rtol=0, atol=1e-6), name
        assert not torch.allclose(first, start[name], rtol=0, atol=1e-4), name


@pytest.mark.slow
def test_gradients_that_no_wrapper_averages_are_averaged_where_any_rank_has_one(ranks):
    for rank in ranks:
        values = {name: value for name, (value, _) in rank["beside"].items()}
        assert all(torch.equal(value, torch.zeros(2)) for value in values.values()), "as on rank 0"
        gradients = {name: gradient for name, (_, gradient) in rank["beside"].items()}
        assert torch.equal(gradients["both"], torch.full((2,), 2 * 1.5))
        assert torch.equal(gradients["first"], torch.full((2,), 2 * 0.5))
        assert gradients["none"] is None
