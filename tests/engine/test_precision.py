"""Steps of Ultralytics' trainer in mixed precision: with a scaled loss, and in bfloat16."""

import math
from statistics import fmean

import pytest
import torch
from training import at_start, batch_of_bytes, step

STEPS = {
    "MWAM, gradient": {"incomplete": True, "mwam": {"mode": "gradient"}},
    "MWAM, update": {"mwam": {"mode": "update"}},
    "MWAM, hybrid": {"incomplete": {"views": 2, "distill": 0.5}, "mwam": {"mode": "hybrid"}},
    "ogm_ge": {"mwam": False, "balancing": {"method": "ogm_ge"}},
    "agm": {"mwam": False, "balancing": {"method": "agm"}, "incomplete": True},
    "mmpareto": {"mwam": False, "balancing": {"method": "mmpareto"}},
    "torchjd": {"mwam": False, "balancing": {"method": "torchjd"}},
}


@pytest.fixture(params=STEPS)
def trainers(request, demo_section, tmp_path):
    """Build trainers of one kind of step, all alike."""
    if request.param == "torchjd":
        pytest.importorskip("torchjd", reason="TorchJD is an extra: pip install '.[balancing]'")
    return lambda: at_start(demo_section, tmp_path, **STEPS[request.param])


def weights(trainer):
    return torch.cat([own.detach().flatten() for own in trainer.model.parameters()])


@pytest.mark.slow
def test_a_scaled_loss_makes_the_same_step(trainers):
    plain, scaled = trainers(), trainers()
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = weights(plain)
    assert torch.equal(weights(scaled), before)
    losses = [[step(trainer, batch_of_bytes()) for _ in range(2)] for trainer in (plain, scaled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert (weights(plain) - before).abs().max() > 1e-4
    assert torch.allclose(weights(scaled), weights(plain), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MWAM, gradient", "MWAM, hybrid", "agm", "mmpareto"])
def test_in_bfloat16_losses_are_finite_and_fall(demo_section, tmp_path, name):
    trainer, batch = at_start(demo_section, tmp_path, **STEPS[name]), batch_of_bytes()
    losses = [step(trainer, batch, torch.bfloat16) for _ in range(40)]
    assert all(map(math.isfinite, losses)) and weights(trainer).isfinite().all()
    # They rise at first, as in float32: a detector that finds nothing yet has few places assigned to its labels.
    assert fmean(losses[-6:]) < 0.75 * max(losses[:20]), losses
