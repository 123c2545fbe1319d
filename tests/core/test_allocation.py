import pytest
import reference
import torch

from mwam_det import allocate_weights
from mwam_det.core.allocation import share


@pytest.mark.parametrize("frm", [[1.0, 1.0], [4.6e7, 2.3e8], [1e10, 1e-3], [3.0, 2.0, 1.0], [5.0]])
def test_weights_are_those_of_equations_5_and_6(frm):
    expected = reference.weights(reference.shares(frm))
    assert allocate_weights(torch.tensor(frm, dtype=torch.float64)).tolist() == pytest.approx(expected, rel=1e-9)


def test_two_equal_modalities_get_the_papers_weight_which_is_not_one():
    assert allocate_weights(torch.tensor([2.0, 2.0])).tolist() == pytest.approx([0.6418, 0.6418], abs=1e-4)


def test_the_preferred_modality_gets_the_smaller_weight():
    weights = allocate_weights(torch.tensor([1.0, 2.0, 3.0]))
    assert weights[0] > weights[1] > weights[2]


def test_shares_sum_to_the_number_of_modalities():
    assert share(torch.tensor([1.0, 2.0, 9.0], dtype=torch.float64)).sum().item() == pytest.approx(3, rel=1e-6)


def test_normalised_weights_have_mean_one_and_keep_their_ratio():
    frm = torch.tensor([1.0, 3.0], dtype=torch.float64)
    plain, normalised = allocate_weights(frm), allocate_weights(frm, normalize="mean")
    assert normalised.mean().item() == pytest.approx(1)
    assert (normalised[0] / normalised[1]).item() == pytest.approx((plain[0] / plain[1]).item())


def test_a_beta_of_zero_gives_every_modality_alpha():
    assert allocate_weights(torch.tensor([1.0, 9.0]), alpha=1, beta=0).tolist() == [1, 1]


@pytest.mark.parametrize("frm", [torch.tensor(1.0), torch.ones(2, 2), torch.ones(0)])
def test_anything_but_a_vector_of_frms_is_refused(frm):
    with pytest.raises(ValueError, match=r"\(M,\)"):
        allocate_weights(frm)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="'sum'"):
        allocate_weights(torch.ones(2), normalize="sum")


@pytest.mark.parametrize("frm", [[1.0, 3.0], [1.0, 1.3], [5.0, 1.0, 1.0, 1.0]])
def test_adaptive_scaling_uses_the_same_range_however_far_apart_the_shares_are(frm):
    weights = allocate_weights(torch.tensor(frm, dtype=torch.float64), scaling="adaptive")
    assert min(weights.tolist()) == pytest.approx(0.55, abs=1e-5)


def test_adaptive_scaling_does_not_stretch_shares_that_are_nearly_equal():
    weights = allocate_weights(torch.tensor([1.0, 1.001], dtype=torch.float64), scaling="adaptive")
    assert weights.tolist() == pytest.approx([1.0, 1.0], abs=0.01)


def test_an_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match="'learned'"):
        allocate_weights(torch.ones(2), scaling="learned")
