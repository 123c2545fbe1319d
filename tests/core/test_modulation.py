import copy

import pytest
import torch
from torch import nn
from ultralytics.optim import MuSGD

from mwam_det import MWAM, GradientModulator, MWAMConfig, UpdateModulator
from mwam_det.core.modulation import keeps_gradient_scale, modulate


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


def test_a_parameter_that_gets_no_gradient_is_left_without():
    class Gate(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            return x * w

        @staticmethod
        def backward(ctx, gradient):
            return gradient, None

    w, x = nn.Parameter(torch.ones(3)), torch.ones(3, requires_grad=True)
    GradientModulator(MWAM(["rgb"]), {"rgb": [w]})
    Gate.apply(x, w).sum().backward()
    assert w.grad is None and x.grad is not None


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


def fixed(rgb, ir):
    """An MWAM whose weights are given."""
    mwam = MWAM(["rgb", "ir"])
    mwam.weights = {"rgb": torch.tensor(rgb), "ir": torch.tensor(ir)}
    return mwam


def musgd(parameters, lr):
    parameters = list(parameters)
    filters = [p for p in parameters if p.ndim in (2, 4)]
    groups = [
        {"params": filters, "use_muon": True, "lr": lr, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0},
        {"params": [p for p in parameters if p.ndim == 1], "lr": lr, "momentum": 0.9, "nesterov": True},
    ]
    return MuSGD(groups, muon=0.2, sgd=1.0)


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "SGD foreach": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, foreach=True),
    "SGD fused": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-3),
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=1e-3),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=1e-3),
    "RAdam": lambda p: torch.optim.RAdam(p, lr=1e-3),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-4),
    "MuSGD": lambda p: musgd(p, lr=1e-3),
}


def train(model, name, attach=None, steps=12):
    """Train a copy of the model and return how far each of its parameters came."""
    model = copy.deepcopy(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = OPTIMIZERS[name](model.parameters())
    if attach:
        attach(model, optimizer)
    for inputs in mini_batches(steps):
        optimizer.zero_grad()
        (model(**inputs) - 1).square().mean().backward()
        optimizer.step()
    return {name: p.detach() - before[name] for name, p in model.named_parameters()}


def displacement(model, name, attach):
    """How far each stream comes over how far it comes by itself."""
    plain, scaled = train(model, name), train(model, name, attach)

    def length(moves, stream):
        return torch.cat([m.flatten() for n, m in moves.items() if n.startswith(stream)]).norm()

    return [(length(scaled, stream) / length(plain, stream)).item() for stream in ("rgb", "ir")]


def by_gradient(model, optimizer):
    GradientModulator(fixed(0.5, 1.5), {"rgb": model.rgb, "ir": model.ir})


def by_update(model, optimizer):
    UpdateModulator(fixed(0.5, 1.5), {"rgb": model.rgb, "ir": model.ir}, optimizer)


@pytest.mark.parametrize(
    ("name", "expected"), [("SGD", (0.5, 1.5)), ("AdamW", (1.0, 1.0)), ("RMSprop", (1.0, 1.0)), ("MuSGD", None)]
)
def test_scaled_gradients_move_the_streams_as_far_as_the_optimizer_lets_them(model, name, expected):
    moved = displacement(model, name, by_gradient)
    if expected is None:  # in part: more than by the weight, less than not at all
        assert 0.52 < moved[0] < 0.98 and 1.02 < moved[1] < 1.48
    else:
        assert moved == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scaled_updates_move_the_streams_by_their_weight_with_every_optimizer(model, name):
    assert displacement(model, name, by_update) == pytest.approx([0.5, 1.5], abs=0.06)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_scaled_first_step_is_the_weight_times_the_step_and_the_head_is_left_alone(model, name):
    plain, scaled = train(model, name, steps=1), train(model, name, by_update, steps=1)
    for key, move in plain.items():
        factor = {"rgb": 0.5, "ir": 1.5}.get(key.split(".")[0], 1.0)
        assert torch.allclose(scaled[key], move * factor, rtol=1e-3, atol=2e-8), key


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_scaled_by_one_are_left_bit_for_bit(model, name):
    def attach(model, optimizer):
        UpdateModulator(fixed(1.0, 1.0), {"rgb": model.rgb, "ir": model.ir}, optimizer)

    plain, scaled = train(model, name), train(model, name, attach)
    assert all(torch.equal(scaled[key], move) for key, move in plain.items())


def test_a_step_without_a_gradient_moves_nothing(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    by_update(model, optimizer)
    before = copy.deepcopy(model.state_dict())
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_removing_the_update_modulator_ends_the_scaling(model):
    def attach(model, optimizer):
        UpdateModulator(fixed(0.5, 1.5), {"rgb": model.rgb, "ir": model.ir}, optimizer).remove()

    plain, scaled = train(model, "AdamW"), train(model, "AdamW", attach)
    assert all(torch.equal(scaled[key], move) for key, move in plain.items())


@pytest.mark.parametrize(
    ("mode", "optimizer", "kind"),
    [
        ("gradient", "SGD", GradientModulator),
        ("update", "SGD", UpdateModulator),
        ("auto", "SGD", GradientModulator),
        ("auto", "AdamW", UpdateModulator),
        ("auto", "MuSGD", UpdateModulator),
        ("auto", "RMSprop", UpdateModulator),
    ],
)
def test_the_mode_chooses_the_modulator_and_auto_the_one_that_is_exact(model, mode, optimizer, kind):
    mwam = MWAM(["rgb", "ir"], MWAMConfig(mode=mode))
    attached = modulate(mwam, {"rgb": model.rgb, "ir": model.ir}, OPTIMIZERS[optimizer](model.parameters()))
    assert type(attached) is kind


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradient_mode_warns_exactly_where_the_optimizer_undoes_it(model, name, recwarn):
    optimizer = OPTIMIZERS[name](model.parameters())
    modulate(MWAM(["rgb", "ir"]), {"rgb": model.rgb, "ir": model.ir}, optimizer)
    assert any("rescales gradients" in str(w.message) for w in recwarn) == (not keeps_gradient_scale(optimizer))
    assert keeps_gradient_scale(optimizer) == name.startswith("SGD")
