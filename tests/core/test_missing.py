import pytest
import torch

from mwam_det import performance_collapse_rate
from mwam_det.core.missing import (
    check_missing,
    collapse_without_each,
    drop_modalities,
    modality_combinations,
)

SLICES = {"rgb": slice(0, 3), "ir": slice(3, 4)}


def test_all_combinations_are_listed_with_the_complete_one_last():
    assert modality_combinations(["rgb", "ir"]) == [("rgb",), ("ir",), ("rgb", "ir")]
    assert len(modality_combinations("abcd")) == 15
    assert modality_combinations("abc")[-1] == ("a", "b", "c")


def test_dropping_zeroes_the_channels_of_that_modality_in_a_copy():
    images = torch.ones(2, 4, 5, 5)
    dropped = drop_modalities(images, SLICES, ["ir"])
    assert dropped[:, :3].eq(1).all() and dropped[:, 3].eq(0).all() and images.eq(1).all()


def test_dropping_nothing_returns_the_batch_itself():
    images = torch.ones(2, 4, 5, 5)
    assert drop_modalities(images, SLICES, ()) is images


def test_an_unknown_modality_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="unknown modality lidar: choose from rgb, ir"):
        check_missing(["lidar"], SLICES)


def test_dropping_everything_is_refused():
    with pytest.raises(ValueError, match="nothing is left"):
        check_missing(["ir", "rgb"], SLICES)


@pytest.mark.parametrize(
    ("full", "missing", "rate"), [(0.79, 0.215, 72.785), (0.5, 0.5, 0), (0.4, 0.5, -25), (0, 0, None)]
)
def test_the_collapse_rate_is_equation_26_in_per_cent_and_undefined_for_a_full_score_of_zero(full, missing, rate):
    assert performance_collapse_rate(full, missing) == (rate if rate is None else pytest.approx(rate, abs=1e-3))


def test_dependence_is_what_is_lost_without_each_modality():
    scores = {("a", "b", "c"): 0.8, ("a", "b"): 0.4, ("a", "c"): 0.8, ("b", "c"): 1.0, ("a",): 0.1}
    assert collapse_without_each(scores, ["a", "b", "c"]) == pytest.approx({"a": -25.0, "b": 0.0, "c": 50.0})


def test_a_model_that_finds_nothing_tells_no_dependence():
    assert collapse_without_each({("a", "b"): 0.0, ("a",): 0.0, ("b",): 0.3}, ["a", "b"]) is None
