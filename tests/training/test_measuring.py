import copy

import torch
from torch import nn

from mwam_det.training.measuring import evaluating, measuring


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.MultiheadAttention(4, 1, dropout=0.5))


def test_a_model_in_training_is_measured_by_its_mini_batch_and_keeps_and_draws_nothing():
    net, seen = model(), torch.randn(8, 4)
    before, drawn = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    with measuring(net.modules()):
        features = net[2](net[1](net[0](seen)))
        net[3](features, features, features)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.allclose(features.mean(0), torch.zeros(4), atol=1e-6)
    assert all(module.training for module in net.modules())
    net[1](seen)
    assert not torch.equal(net[1].running_mean, before["1.running_mean"])


def test_a_batch_norm_that_is_frozen_is_measured_as_frozen():
    net, seen = model()[:2], torch.randn(8, 4)
    net[1].eval()
    expected = net(seen)
    with measuring(net.modules()):
        assert torch.equal(net(seen), expected)
    assert not net[1].training and net[1].track_running_stats


def test_modules_are_as_they_were_after_an_error():
    net = model()
    for look in (evaluating, measuring):
        try:
            with look(net.modules()):
                raise RuntimeError
        except RuntimeError:
            pass
        assert all(module.training for module in net.modules()) and net[1].track_running_stats
