import numpy as np
import pytest
from inspections import scene

from mwam_det.data.inspection.pixels import mean_chroma, same_picture


def test_grey_has_no_chroma_at_any_depth():
    grey = np.arange(100, dtype=np.uint8).reshape(10, 10, 1)
    assert mean_chroma(grey) == mean_chroma(np.dstack([grey] * 3)) == 0
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[..., 0] = 100
    assert mean_chroma(colour) == 100
    assert mean_chroma(colour.astype(np.uint16) * 257) == pytest.approx(100)


def test_two_even_images_are_not_called_the_same_picture():
    even = np.full((50, 60), 7, np.float32)
    assert not same_picture(even, even)
    assert same_picture(scene(0), 255 - 0.5 * (255 - scene(0)))
    assert not same_picture(scene(0), scene(1))
