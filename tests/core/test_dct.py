import pytest
import torch

from mwam_det.core.dct import split_patches, take_patches

LAYOUTS = {
    "contiguous": lambda: torch.rand(3, 2, 20, 33),
    "channels last": lambda: torch.rand(3, 2, 20, 33).to(memory_format=torch.channels_last),
    "channels of a stacked image": lambda: torch.rand(3, 6, 20, 33)[:, 3:5],
    "height and width exchanged": lambda: torch.rand(3, 2, 33, 20).mT,
    "grey repeated": lambda: torch.rand(3, 1, 20, 33).expand(3, 2, 20, 33),
    "every second pixel": lambda: torch.rand(3, 2, 40, 66)[..., ::2, ::2],
    "uint8": lambda: torch.randint(0, 256, (3, 2, 20, 33), dtype=torch.uint8),
    "volume": lambda: torch.rand(3, 2, 9, 20, 17),
}


@pytest.mark.parametrize("images", LAYOUTS.values(), ids=LAYOUTS)
def test_patches_are_the_same_however_they_lie_in_memory(images):
    images = images()
    dims = images.ndim - 2
    patches = split_patches(images, 8, dims)
    places = (torch.rand(patches.shape[:-dims]) < 0.5).nonzero(as_tuple=True)
    assert len(places[0]), "the draw found no patch"
    assert torch.equal(take_patches(images, places, 8), patches[places])


def test_no_patch_is_taken_from_no_place():
    images = torch.rand(1, 1, 8, 8)
    places = torch.zeros(1, 1, 1, 1, dtype=torch.bool).nonzero(as_tuple=True)
    assert take_patches(images, places, 8).shape == (0, 8, 8)
