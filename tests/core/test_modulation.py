import copy

import pytest
import torch
from torch import nn

from mwam_det import MWAM, GradientModulator


class TwoStreams(nn.Module):
    def __init__(self):
        super().__init__()
        self.rgb, self.ir, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(8, 2)

    def forward(self, rgb, ir):
        features = [self.rgb(rgb).relu().mean((2, 3)), self.ir(ir).relu().mean((2, 3))]
        return self.head(torch.cat(features, 1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TwoStreams()


def mini_batches(count):
    generator = torch.Generator().manual_seed(1)
    smooth = [torch.rand(4, 3, 3, 3, generator=generator) for _ in range(count)]
    return [
        {
            "rgb": torch.rand(4, 3, 24, 24, generator=generator),
            "ir": nn.functional.interpolate(s, (24, 24), mode="bicubic").clamp(0, 1),
        }
        for s in smooth
    ]


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def backward(model, inputs):
    model.zero_grad()
    model(**inputs).square().sum().backward()
    return gradients(model)


def test_streams_are_scaled_by_their_weight_and_the_head_is_left_alone(model):
    (inputs,) = mini_batches(1)
    plain = backward(model, inputs)
    mwam = MWAM(["rgb", "ir"])
    GradientModulator(mwam, {"rgb": model.rgb, "ir": model.ir})
    weights = mwam.observe(inputs)
    assert weights["rgb"] != weights["ir"]
    for name, gradient in backward(model, inputs).items():
        stream = name.split(".")[0]
        factor = weights[stream] if stream in weights else torch.tensor(1.0)
        assert torch.equal(gradient, plain[name] * factor), name


def test_accumulated_gradients_are_the_sum_of_separately_scaled_mini_batches(model):
    batches = mini_batches(4)
    mwam = MWAM(["rgb", "ir"])
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for inputs in batches:
        weights = mwam.observe(inputs)
        for name, gradient in backward(model, inputs).items():
            expected[name] += gradient * weights.get(name.split(".")[0], torch.tensor(1.0))
    mwam.reset()
    GradientModulator(mwam, {"rgb": model.rgb, "ir": model.ir})
    model.zero_grad()
    for inputs in batches:
        mwam.observe(inputs)
        model(**inputs).square().sum().backward()
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-6, atol=1e-7), name


def test_weights_of_one_leave_gradients_bit_for_bit(model):
    (inputs,) = mini_batches(1)
    plain = backward(model, inputs)
    GradientModulator(MWAM(["rgb", "ir"]), {"rgb": model.rgb, "ir": model.ir})
    for name, gradient in backward(model, inputs).items():
        assert torch.equal(gradient, plain[name])


def test_removing_it_ends_the_scaling(model):
    (inputs,) = mini_batches(1)
    plain = backward(model, inputs)
    mwam = MWAM(["rgb", "ir"])
    modulator = GradientModulator(mwam, {"rgb": model.rgb, "ir": model.ir})
    mwam.observe(inputs)
    modulator.remove()
    for name, gradient in backward(model, inputs).items():
        assert torch.equal(gradient, plain[name])


def test_copies_and_saved_models_carry_no_hooks(model, tmp_path):
    (inputs,) = mini_batches(1)
    plain = backward(model, inputs)
    mwam = MWAM(["rgb", "ir"])
    GradientModulator(mwam, {"rgb": model.rgb, "ir": model.ir})
    mwam.observe(inputs)
    torch.save(copy.deepcopy(model).state_dict(), tmp_path / "model.pt")
    clone = copy.deepcopy(model)
    for name, gradient in backward(clone, inputs).items():
        assert torch.equal(gradient, plain[name])


def test_frozen_parameters_are_passed_over(model):
    model.rgb.requires_grad_(False)
    mwam = MWAM(["rgb", "ir"])
    GradientModulator(mwam, {"rgb": model.rgb, "ir": model.ir})
    (inputs,) = mini_batches(1)
    mwam.observe(inputs)
    model(**inputs).sum().backward()
    assert model.rgb.weight.grad is None and model.ir.weight.grad is not None


def test_a_stream_may_be_a_list_of_parameters(model):
    (inputs,) = mini_batches(1)
    plain = backward(model, inputs)
    mwam = MWAM(["rgb", "ir"])
    GradientModulator(mwam, {"rgb": [model.rgb.weight], "ir": model.ir.parameters()})
    weights = mwam.observe(inputs)
    scaled = backward(model, inputs)
    assert torch.equal(scaled["rgb.weight"], plain["rgb.weight"] * weights["rgb"])
    assert torch.equal(scaled["rgb.bias"], plain["rgb.bias"])


@pytest.mark.parametrize(
    ("streams", "words"),
    [
        (lambda m: {"rgb": m.rgb}, "the modalities are"),
        (lambda m: {"rgb": m.rgb, "ir": m.rgb}, "belongs to the streams of both"),
        (lambda m: {"rgb": m.rgb, "ir": nn.Identity()}, "'ir' has no parameters"),
    ],
)
def test_streams_that_make_no_sense_are_refused(model, streams, words):
    with pytest.raises(ValueError, match=words):
        GradientModulator(MWAM(["rgb", "ir"]), streams(model))
