"""Agreement between ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def mean_over_ranks(values: Tensor, counts: Tensor) -> Tensor:
    """Average values over all ranks, weighted by how many samples each rank drew them from.

    Args:
        values: Shape (M,), float.
        counts: Shape (M,), the dtype and device of `values`; 0 where this rank has nothing to say.

    Returns:
        Shape (M,), the same on every rank; 0 where no rank had a sample. `values` itself if torch.distributed is not
        initialised.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return values
    total = torch.stack([values * counts, counts])
    dist.all_reduce(total)
    return total[0] / total[1].clamp(min=1)
