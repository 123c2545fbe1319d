import math

import pytest
import torch
from balancing_of_a_rank import expected_gradients, factors_over_steps, run_a_rank
from torch import multiprocessing as mp


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes found on its part."""
    if not torch.distributed.is_available():
        pytest.skip("this torch is built without torch.distributed")
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_a_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.slow
def test_ranks_with_unequal_parts_agree_on_the_factors_of_the_whole_batch(ranks):
    first, second = (rank["steps"] for rank in ranks)
    assert first == second
    for found, expected in zip(first, factors_over_steps(), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
        assert len(set(found.values())) == 2


@pytest.mark.slow
def test_a_rank_without_evidence_takes_the_factors_of_those_that_have_some(ranks):
    first, second = (rank["gap"] for rank in ranks)
    assert first == second
    assert first[0] == pytest.approx({"rgb": 1, "ir": 1 - math.tanh(0.3 * math.exp(2.0 - 1.5))})
    assert first[1] == {"rgb": 1, "ir": 1}


@pytest.mark.slow
def test_each_rank_combines_its_own_gradients_and_then_they_are_averaged(ranks):
    first, second = (rank["combined"] for rank in ranks)
    expected = expected_gradients()
    for name, gradient in first.items():
        assert torch.equal(gradient, second[name]), name
    for part, wanted in expected.items():
        prefix = "head." if part == "head" else f"streams.{part}."
        found = torch.cat([own.flatten() for name, own in first.items() if name.startswith(prefix)])
        assert torch.allclose(found, wanted, atol=1e-6), part
