"""One of two processes that observe parts of the same mini-batch. A module, so that a spawned process finds it."""

import torch
from torch import distributed as dist

from mwam_det import MWAM


def whole_batch():
    generator = torch.Generator().manual_seed(0)
    rgb = torch.randint(0, 256, (6, 3, 24, 24), generator=generator, dtype=torch.uint8)
    ir = (torch.nn.functional.interpolate(rgb[:, :, ::4, ::4].float(), (24, 24), mode="bilinear")).byte()
    ir[:2] = 0  # rank 0 has no infrared image at all in what it sees below
    return {"rgb": rgb, "ir": ir}


def observe_a_share(rank, store, results):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    part = slice(0, 2) if rank == 0 else slice(2, 6)
    mwam = MWAM(["rgb", "ir"])
    mwam.observe({name: images[part] for name, images in whole_batch().items()})
    results[rank] = mwam.last
    dist.destroy_process_group()
