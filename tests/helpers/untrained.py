"""Untrained models that answer to their input."""

import torch
from torch import nn


@torch.no_grad()
def awake(model: nn.Module, channels: int) -> nn.Module:
    """Let batch norms see noise once: with fresh statistics the input hardly reaches the head. Returns it in eval mode.

    Class scores of objects are raised, so that there are predictions.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(torch.rand(8, channels, 96, 96))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    head = model.model[-1]
    for scores in (*getattr(head, "cv3", ()), *getattr(head, "one2one_cv3", ())):
        scores[-1].bias.fill_(-2.0)
    return model.eval()
