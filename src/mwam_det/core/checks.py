"""Checks of user-supplied values."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, TypeGuard


def is_finite_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a real number that is finite as a float; a bool is not one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an integer too large for a float
        return False
