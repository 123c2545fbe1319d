import sys
from fractions import Fraction

import numpy as np
import pytest

from mwam_det.core.checks import is_finite_number

LARGEST = sys.float_info.max


@pytest.mark.parametrize("value", [0, -3, 0.5, LARGEST, -LARGEST, Fraction(1, 3), np.float32(2), np.int64(-7)])
def test_a_number_may_be_of_any_real_type(value):
    assert is_finite_number(value)


@pytest.mark.parametrize(
    "value",
    [True, None, "1", 1j, [1], float("nan"), float("inf"), -float("inf"), np.float32("inf"), 10**400, -(10**400)],
)
def test_what_a_float_cannot_hold_is_not_a_finite_number(value):
    assert not is_finite_number(value)
