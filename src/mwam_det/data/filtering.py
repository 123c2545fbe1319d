"""Low- and high-pass filters of images by a window of their spectrum, as in the paper's study (Section 3.1 and A.5).

The 2-D FFT of each channel is shifted so that the DC component lies in its middle. A low-pass filter of window n keeps
the n×n coefficients around it and sets all others to 0; a high-pass filter sets these to 0 and keeps the others. The
inverse FFT gives the filtered image. A window of n holds the frequencies of up to n / 2 cycles per image side, whatever
the size of the image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

PASSES = ("low", "high")

MID_GREY = 128
"""The level of 0 in a high-pass image of 8 bits, whose values are as often negative as positive."""


@dataclass(frozen=True)
class WindowFilter:
    """A filter of a modality.

    Attributes:
        keeps: "low" or "high", the frequencies that are kept.
        window: Side n of the square window in the middle of the spectrum, in coefficients, at least 1.
    """

    keeps: str
    window: int


def read_filters(value: Any, modalities: Collection[str]) -> dict[str, WindowFilter]:
    """Read the key "filter" of a data section, like {ir: {low: 16}}.

    Args:
        value: A filter by modality: {low: n} or {high: n} with a window n, false or null for none. Or false or null.
        modalities: Names of the modalities.

    Returns:
        The filter of each modality that has one, in the order of `modalities`.

    Raises:
        ValueError: If a modality, a key or a window is wrong; the message names it and the choices.
    """
    if value is None or value is False:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(
            f"filter={value!r} must map modalities to values, like {{{next(iter(modalities))}: {{low: 16}}}}, or be "
            "false"
        )
    for name in value:
        if name not in modalities:
            raise ValueError(f"filter: {name} is not a modality: choose from {', '.join(modalities)}")
    given = {name: value[name] for name in modalities if value.get(name) not in (None, False)}
    return {name: _filter(name, content) for name, content in given.items()}


def _filter(name: str, content: Any) -> WindowFilter:
    if not isinstance(content, Mapping) or len(content) != 1:
        raise ValueError(f"filter: {name}={content!r} must be {{low: n}} or {{high: n}} with a window n, like 16")
    ((keeps, window),) = content.items()
    if keeps not in PASSES:
        raise ValueError(f"filter: {name} has the key {keeps!r}: choose from {', '.join(PASSES)}")
    if type(window) is not int or window < 1:
        raise ValueError(f"filter: {name}.{keeps}={window!r} must be a whole number of coefficients, at least 1")
    return WindowFilter(keeps, window)


def low_pass(pixels: np.ndarray, window: int) -> np.ndarray:
    """Keep the n×n coefficients in the middle of the shifted spectrum of an image, and set the others to 0.

    The middle is the DC component, at (H // 2, W // 2); the window reaches from n // 2 coefficients before it to
    n − n // 2 − 1 after it. An even n thus includes the frequency −n / 2 but not n / 2; the real part of the resulting
    complex image is taken, in which both have half their amplitude.

    Args:
        pixels: Shape (H, W, C), real.
        window: Side n of the window, at least 1. A window as large as the image keeps everything.

    Returns:
        The shape of `pixels`, float64.
    """
    height, width = pixels.shape[:2]
    (rows, opposite_rows), (columns, opposite_columns) = _inside(height, window), _inside(width, window)
    half = width // 2 + 1  # the rest of the spectrum of real values follows from symmetry
    # taking the real part of the image equals averaging the window and its mirror image
    mask = (np.outer(rows, columns[:half]) + np.outer(opposite_rows, opposite_columns[:half])) / 2
    spectrum = np.fft.rfft2(pixels, axes=(0, 1)) * mask[..., None]
    return np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))


def high_pass(pixels: np.ndarray, window: int) -> np.ndarray:
    """Set the n×n coefficients in the middle of the shifted spectrum to 0 and keep the others, see `low_pass`."""
    return pixels - low_pass(pixels, window)


def apply_filter(pixels: np.ndarray, applied: WindowFilter) -> np.ndarray:
    """Filter an image of 8 bits.

    Args:
        pixels: Shape (H, W, C), uint8.
        applied: The filter.

    Returns:
        The same shape, uint8, rounded and clipped to 0…255. A high-pass image has no DC component: 0 becomes
        `MID_GREY`, and what is brighter or darker by more than 127 is clipped.
    """
    if applied.keeps == "low":
        values = low_pass(pixels, applied.window)
    else:
        values = high_pass(pixels, applied.window) + MID_GREY
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _inside(side: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each frequency of an axis, in FFT's order, is inside the window, and whether its opposite is."""
    frequency = np.fft.ifftshift(np.arange(side) - side // 2)
    inside = ((-(window // 2) <= frequency) & (frequency < window - window // 2)).astype(float)
    return inside, inside[-np.arange(side) % side]
