import math

import pytest

from mwam_det.training.direction import DirectionCheck, contradiction, explain

SHARES = {"rgb": 0.6, "ir": 1.4}
AGREES, CONTRADICTS = {"rgb": 0.1, "ir": 0.6}, {"rgb": 0.6, "ir": 0.1}


def test_a_contradiction_names_what_is_preferred_and_what_is_depended_on():
    assert contradiction(SHARES, CONTRADICTS) == ("ir", "rgb")
    assert contradiction(SHARES, AGREES) is None


@pytest.mark.parametrize(
    ("shares", "alone"),
    [
        ({"rgb": 0.99, "ir": 1.01}, CONTRADICTS),
        (SHARES, {"rgb": 0.11, "ir": 0.10}),
        ({"rgb": math.nan, "ir": 1.0}, CONTRADICTS),
    ],
    ids=["equal shares", "equal metrics", "a modality without evidence"],
)
def test_what_is_not_clear_is_no_contradiction(shares, alone):
    assert contradiction(shares, alone) is None and explain(shares, alone) is None


def test_of_three_modalities_the_largest_of_each_kind_are_compared():
    assert contradiction({"a": 1.5, "b": 0.9, "c": 0.6}, {"a": 0.1, "b": 0.2, "c": 0.5}) == ("a", "c")


def test_the_third_contradiction_in_a_row_is_told_once():
    check = DirectionCheck()
    said = [check.update(SHARES, CONTRADICTS) for _ in range(5)]
    assert [text is not None for text in said] == [False, False, True, False, False]
    assert "ir 1.40" not in said[2] and "share T 1.40, rgb 0.60" in said[2]


def test_an_agreement_in_between_begins_the_row_again():
    check = DirectionCheck()
    assert not any(check.update(SHARES, alone) for alone in (CONTRADICTS, CONTRADICTS, AGREES, CONTRADICTS))
    assert check.update(SHARES, CONTRADICTS) is None and check.update(SHARES, CONTRADICTS) is not None
