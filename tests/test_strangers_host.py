"""MWAM in a model that is not of this package: a two-branch network of torchvision's parts, in five added lines."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

TEXT = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")


def lines():
    shown = re.findall(r"^```diff\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    block = next(block for block in shown if "resnet18" in block)
    return ["+from mwam_det import MWAM, GradientModulator", *block.splitlines()]


def train(code):
    """Run the lines on one mini-batch of noise beside a smooth picture; return the change of each parameter."""
    torch.manual_seed(0)
    smooth = nn.functional.interpolate(torch.rand(4, 3, 3, 3), (32, 32), mode="bilinear")
    batch = torch.rand(4, 3, 32, 32), smooth, torch.randint(0, 10, (4,))
    torch.manual_seed(1)
    scope = {"torch": torch, "nn": nn, "resnet18": resnet18, "loader": [batch]}
    exec(compile(code, "extending.md", "exec"), scope)
    torch.manual_seed(1)
    start = dict(scope["TwoBranches"]().named_parameters())
    return {name: own.detach() - start[name].detach() for name, own in scope["model"].named_parameters()}, scope


@pytest.mark.slow
def test_a_strangers_host_takes_mwam_in_five_added_lines_that_scale_its_branches_alone():
    added = [line for line in lines() if line.startswith("+")]
    assert 1 <= len(added) <= 5
    plain, _ = train("\n".join(line[1:] for line in lines() if not line.startswith("+")))
    found, scope = train("\n".join(line[1:] for line in lines()))
    weights = scope["mwam"].weights
    assert weights["rgb"] > 1 > weights["depth"]
    for name, move in plain.items():
        factor = float(weights.get(name.split(".")[0], 1.0))
        assert move.norm() > 0 and float(found[name].norm() / move.norm()) == pytest.approx(factor, rel=0.02), name
