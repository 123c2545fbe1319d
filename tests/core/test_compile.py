"""Scaled gradients of a compiled model, and what they are next to the derivative of the loss."""

import pytest
import torch
from torch import nn
from torch.autograd.gradcheck import GradcheckError

from mwam_det import MWAM, GradientModulator


class TwoStreams(nn.Module):
    def __init__(self):
        super().__init__()
        self.rgb, self.ir, self.head = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, rgb, ir):
        features = [stream(images.mean((2, 3))).tanh() for stream, images in ((self.rgb, rgb), (self.ir, ir))]
        return self.head(torch.cat(features, 1))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return TwoStreams()


def mini_batch(seed, noisy="rgb"):
    """Noise in one modality and a smooth picture in the other."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(4, 3, 16, 16, generator=generator)
    smooth = nn.functional.interpolate(torch.rand(4, 3, 3, 3, generator=generator), (16, 16), mode="bilinear")
    return {"rgb": noise, "ir": smooth} if noisy == "rgb" else {"rgb": smooth, "ir": noise}


def scaled_gradients(model, host):
    """Gradients of two mini-batches whose weights differ. `host` is what is called: the model, or it compiled."""
    mwam = MWAM(["rgb", "ir"])
    modulator = GradientModulator(mwam, {"rgb": model.rgb, "ir": model.ir})
    found, weights = [], []
    for inputs in (mini_batch(0), mini_batch(1, noisy="ir")):
        weights.append(mwam.observe(inputs))
        model.zero_grad()
        host(**inputs).square().mean().backward()
        found.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    modulator.remove()
    assert all((weights[0][name] - weights[1][name]).abs() > 0.05 for name in weights[0])
    return found


def assert_compiled_like_eager(model, host):
    expected, found = scaled_gradients(model, model), scaled_gradients(model, host)
    for before, after in zip(expected, found, strict=True):
        for name in before:
            assert torch.allclose(after[name], before[name], rtol=1e-4, atol=1e-8), name


def test_a_traced_model_gets_the_scaled_gradients_of_each_mini_batch(model, fresh_compiler):
    assert_compiled_like_eager(model, torch.compile(model, backend="eager"))


@pytest.mark.slow
def test_a_traced_backward_pass_gets_the_scaled_gradients_of_each_mini_batch(model, fresh_compiler):
    assert_compiled_like_eager(model, torch.compile(model, backend="aot_eager"))


def test_a_model_compiled_before_its_gradients_are_scaled_is_scaled_all_the_same(model, fresh_compiler):
    host = torch.compile(model, backend="eager")
    host(**mini_batch(0)).sum().backward()
    assert_compiled_like_eager(model, host)


@pytest.mark.slow
def test_a_model_compiled_to_machine_code_gets_the_scaled_gradients_of_each_mini_batch(model, machine_code):
    assert_compiled_like_eager(model, torch.compile(model, backend="inductor"))


# Next to the derivative -----------------------------------------------------------------------------------------------


def loss_and_parameters(model):
    """The loss of a mini-batch as a function of the parameters, in double precision, and the parameters by name."""
    model = model.double()
    inputs = {name: images.double() for name, images in mini_batch(0).items()}
    return lambda *parameters: model(**inputs).square().mean(), dict(model.named_parameters())


def numerical_gradient(loss, parameter, step=1e-5):
    """Central differences."""
    gradient = torch.zeros_like(parameter)
    with torch.no_grad():
        for index in range(parameter.numel()):
            value = parameter.view(-1)[index].item()
            parameter.view(-1)[index] = value + step
            ahead = loss().item()
            parameter.view(-1)[index] = value - step
            behind = loss().item()
            parameter.view(-1)[index] = value
            gradient.view(-1)[index] = (ahead - behind) / (2 * step)
    return gradient


def test_a_scaled_gradient_is_the_weight_times_the_numerical_derivative_of_the_loss(model):
    loss, parameters = loss_and_parameters(model)
    mwam = MWAM(["rgb", "ir"])
    GradientModulator(mwam, {"rgb": model.rgb, "ir": model.ir})
    weights = mwam.observe(mini_batch(0))
    loss().backward()
    for name, parameter in parameters.items():
        factor = weights[name.split(".")[0]].item() if name.split(".")[0] in weights else 1.0
        assert parameter.grad.abs().max() > 1e-4, name
        expected = numerical_gradient(loss, parameter) * factor
        assert torch.allclose(parameter.grad, expected, rtol=1e-6, atol=1e-9), name


def test_gradcheck_holds_as_long_as_the_weights_are_one_and_for_what_is_no_stream(model):
    loss, parameters = loss_and_parameters(model)
    mwam = MWAM(["rgb", "ir"])
    GradientModulator(mwam, {"rgb": model.rgb, "ir": model.ir})
    assert torch.autograd.gradcheck(loss, tuple(parameters.values()))
    mwam.observe(mini_batch(0))
    assert torch.autograd.gradcheck(loss, tuple(model.head.parameters()))


def test_gradcheck_sees_that_a_weighted_gradient_is_no_derivative(model):
    # It asks autograd for the gradient of the leaves, where the hooks run: what they return is K times the derivative.
    loss, _ = loss_and_parameters(model)
    mwam = MWAM(["rgb", "ir"])
    GradientModulator(mwam, {"rgb": model.rgb, "ir": model.ir})
    mwam.observe(mini_batch(0))
    for stream in (model.rgb, model.ir):
        with pytest.raises(GradcheckError, match="Jacobian mismatch"):
            torch.autograd.gradcheck(loss, tuple(stream.parameters()))
