import pytest
from reports import table

from mwam_det.robustness.origin import Origin, switch_in_words
from mwam_det.robustness.words import in_words

TWO, THREE = ("rgb", "ir"), ("rgb", "ir", "depth")


def words(rgb, ir, both):
    return in_words(table(TWO, {("rgb",): rgb, ("ir",): ir, TWO: both}))


def test_the_modality_that_costs_most_comes_first_and_the_figures_last():
    assert words(0.12, 0.72, 0.8) == (
        "Without ir this model finds 15 % of what it finds with both; without rgb, 90 % "
        "(mAP50: 0.800 with both, 0.720 without rgb, 0.120 without ir)."
    )


@pytest.mark.parametrize(
    ("rgb", "ir", "said"),
    [
        (0.0, 0.4, "Without ir this model finds nothing; without rgb, 50 % of what it finds with both ("),
        (0.001, 0.4, "finds less than 1 % of what it finds with both; without rgb, 50 % ("),
        (0.4, 0.8, "50 % of what it finds with both; without rgb, as much as with both ("),
        (0.4, 0.9, "50 % of what it finds with both; without rgb, more than with both ("),
        (0.9, 1.0, "Without ir this model finds more than with both; without rgb, more than with both ("),
    ],
)
def test_shares_of_nothing_of_everything_and_of_more_are_said_as_such(rgb, ir, said):
    assert said in words(rgb, ir, 0.8)


def test_a_model_that_finds_nothing_has_no_share():
    assert words(0.0, 0.3, 0.0).startswith("With both this model finds nothing") and "%" not in words(0.0, 0.3, 0.0)


def test_of_three_modalities_each_alone_is_taken_away():
    scores = {("rgb", "ir"): 0.4, ("rgb", "depth"): 0.2, ("ir", "depth"): 0.8, THREE: 0.8, ("rgb",): 0.1}
    assert in_words(table(THREE, scores)).startswith(
        "Without ir this model finds 25 % of what it finds with all modalities; without depth, 50 %; "
        "without rgb, as much as with all modalities ("
    )


def test_one_modality_cannot_be_missing():
    assert in_words(table(("rgb",), {("rgb",): 0.5})) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [(True, "on"), ({}, "on"), (False, "off"), (None, "off"), ({"views": 2, "p": 0.5}, "views=2, p=0.5")],
)
def test_a_switch_is_on_or_off_or_what_it_holds(value, said):
    assert switch_in_words(value) == said


def test_an_origin_knows_the_releases_that_made_it():
    import torch

    import mwam_det

    made = Origin.of({"MWAM": "off"}, ["torch"])
    assert made.versions == {"mwam_det": mwam_det.__version__, "torch": torch.__version__}
    assert made.date[:2] == "20" and made.to_dict()["trained"] == {"MWAM": "off"}
