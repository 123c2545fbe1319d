"""A step of a detector on every combination of modalities, in one of two processes or alone.

Both processes have the same images, and one that is alone has them twice: Ultralytics normalises a loss by the objects,
and batch norms, by the images of each process, so that with others the gradients would differ in stock trainings too.
"""

from pathlib import Path

import torch
from labels import labelled_batch
from ranks import one_of_two
from ultralytics.cfg import get_cfg
from untrained import TINY, awake

from mwam_det import MWAM, GradientModulator
from mwam_det.engine.compat import spread_on_cpu
from mwam_det.models.two_stream import build_two_stream, streams_of, two_stream_cfg
from mwam_det.models.views import VIEWS, IncompleteViews
from mwam_det.training.incomplete import IncompleteConfig, draw_views

MODALITIES = {"rgb": 3, "ir": 2}


def small_objects():
    """A mini-batch whose boxes are as large as those that the model finds first."""
    batch = labelled_batch()
    return {**batch, "bboxes": torch.tensor([[0.5, 0.5, 0.25, 0.25], [0.4, 0.6, 0.25, 0.25]])}


def twice(batch):
    labels = {key: torch.cat([batch[key]] * 2) for key in ("img", "cls", "bboxes")}
    return {**labels, "batch_idx": torch.cat([batch["batch_idx"], batch["batch_idx"] + 2])}


def step(batch, wrap, world_size):
    """Observe, go forward in all views and backward as Ultralytics' loop does; the gradients by parameter."""
    torch.manual_seed(0)
    model = build_two_stream(two_stream_cfg(TINY, MODALITIES), nc=2)
    model.args = get_cfg()
    awake(model, sum(MODALITIES.values()))
    for boxes in model.model[-1].cv2:
        boxes[-1].bias.data.view(4, -1)[:, 1] += (
            5  # boxes of two strides: where none fits, Ultralytics' loss has a floor
        )
    mwam = MWAM(list(MODALITIES))
    GradientModulator(mwam, streams_of(model))
    host = wrap(model)
    IncompleteViews(model)
    mwam.observe(dict(zip(MODALITIES, batch["img"].split(list(MODALITIES.values()), 1), strict=True)))
    views = draw_views(len(batch["img"]), list(MODALITIES), IncompleteConfig(weights="mwam"), mwam.weights)
    loss = host.train()({**batch, VIEWS: views})[0].sum() * world_size
    loss.backward()
    return {name: own.grad for name, own in model.named_parameters() if own.grad is not None}


def gradients_alone():
    return step(twice(small_objects()), lambda model: model, 1)


def gradients_of_a_rank(rank, folder):
    with one_of_two(rank, folder):
        found = step(small_objects(), lambda model: spread_on_cpu(model, compiled=False), 2)
    torch.save(found, Path(folder) / f"{rank}.pt")
