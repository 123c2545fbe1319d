import pytest
import torch
from untrained import awake

from mwam_det.models.replay import FeatureTap, levels_of, run_from_levels, run_stream
from mwam_det.models.two_stream import build_two_stream, two_stream_cfg


@pytest.fixture(scope="module", params=["yolov8n.yaml", "yolov10n.yaml", "yolo11n.yaml"])
def model(request):
    torch.manual_seed(0)
    return awake(
        build_two_stream(two_stream_cfg(request.param, {"rgb": 3, "ir": 3, "depth": 1}), nc=2), channels=7
    ).double()


def prediction(output):
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def test_replacing_a_stream_is_running_the_model_on_the_other_input(model):
    images = torch.rand(2, 7, 64, 96).double()
    without = images.clone()
    without[:, 3:6] = 0
    with FeatureTap(model) as tap:
        complete = prediction(model(images))
        features = tap.take()
    nothing = [level.expand(2, -1, -1, -1) for level in run_stream(model, "ir", torch.zeros(1, 3, 64, 96).double())]
    expected = prediction(model(without))
    assert (expected - complete).abs().max() > 0.05, "the modality makes no difference"
    found = prediction(run_from_levels(model, {**features, "ir": nothing}))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


@torch.no_grad()
def test_a_stream_alone_gives_the_levels_that_a_forward_pass_gives(model):
    images = torch.rand(1, 7, 64, 64).double()
    with FeatureTap(model) as tap:
        model(images)
        features = tap.take()
    for alone, within in zip(run_stream(model, "depth", images[:, 6:]), features["depth"], strict=True):
        torch.testing.assert_close(alone, within, rtol=1e-7, atol=1e-7)


def test_the_levels_are_the_ones_that_the_fusions_read(model):
    assert levels_of(model) == model.yaml["levels"]


def test_a_tap_leaves_no_hook_behind(model):
    with FeatureTap(model):
        pass
    assert not any(layer._forward_hooks for layer in model.model)
