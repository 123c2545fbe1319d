"""What holds for any mini-batch, checked on generated ones."""

import math
import warnings

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import pictures
from torch import nn

from mwam_det import MWAM, FRMBank, GradientModulator, MWAMConfig, allocate_weights
from mwam_det.core.allocation import share, weight
from mwam_det.core.frequency import RULES, joint_flat_patches, modality_preference

some = settings(deadline=None, derandomize=True, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
for_every_rule = pytest.mark.parametrize("rule", RULES)

sides = st.integers(16, 40)
seeds = st.integers(0, 10_000)
preferences = st.floats(1e3, 1e9)
several_preferences = st.lists(preferences, min_size=1, max_size=5)
names = st.permutations(["rgb", "ir", "depth", "event"])


@st.composite
def images_of(draw, size=None, batch=None):
    """One modality: content like photographs, noise, or stripes whose high coefficients are 0; uint8 or float."""
    batch = batch or draw(st.integers(2, 4))
    height, width = size or (draw(sides), draw(sides))
    channels, seed = draw(st.integers(1, 4)), draw(seeds)
    kind = draw(st.sampled_from(["photograph", "noise", "stripes"]))
    if kind == "photograph":
        images = torch.from_numpy(pictures(seed, batch, channels, height, width))
    else:
        rows = height if kind == "noise" else 1
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (batch, channels, rows, width), generator=generator, dtype=torch.uint8)
        images = images.expand(-1, -1, height, -1).contiguous()
    return images.float() / 255 if draw(st.booleans()) else images


@st.composite
def mini_batches(draw, least=2):
    """Modalities of one size by name."""
    size, batch = (draw(sides), draw(sides)), draw(st.integers(2, 4))
    modalities = draw(names)[: draw(st.integers(least, 4))]
    return {name: draw(images_of(size, batch)) for name in modalities}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Images this small take several times as long where threads have to wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def observed(inputs, rule="frequency_ratio", **config):
    mwam = MWAM(list(inputs), MWAMConfig(rule=rule, **config))
    mwam.observe(inputs)
    return mwam.last


def assert_same(first, second):
    """Two observations agree, by name."""
    for key in ("frm", "share", "weight"):
        assert getattr(first, key) == pytest.approx(getattr(second, key), rel=1e-4), key


# What a mini-batch may look like without a change of its weights ------------------------------------------------------


@for_every_rule
@some
@given(images=images_of(), cut=st.integers(1, 3))
def test_the_mean_over_two_parts_of_a_batch_weighted_by_their_size_is_that_of_the_whole(rule, images, cut):
    parts = [part for part in (images[:cut], images[cut:]) if len(part)]
    mean = sum(len(part) * modality_preference(part, rule=rule).item() for part in parts) / len(images)
    assert mean == pytest.approx(modality_preference(images, rule=rule).item(), rel=1e-5)


@for_every_rule
@some
@given(inputs=mini_batches(), data=st.data())
def test_repeating_channels_changes_no_weight(rule, inputs, data):
    repeated = {name: images.repeat(1, data.draw(st.integers(1, 3)), 1, 1) for name, images in inputs.items()}
    assert_same(observed(repeated, rule), observed(inputs, rule))


@for_every_rule
@some
@given(inputs=mini_batches(), data=st.data())
def test_padding_every_modality_with_a_constant_of_its_own_changes_no_weight(rule, inputs, data):
    # Rows and columns that fill no patch would fill one together with padding.
    inputs = {n: images[..., : images.shape[2] // 8 * 8, : images.shape[3] // 8 * 8] for n, images in inputs.items()}
    left, right, top, bottom = (8 * data.draw(st.integers(0, 3)) for _ in range(4))
    padded = {}
    for name, images in inputs.items():
        value = data.draw(st.integers(0, 255))
        value = value / 255 if images.is_floating_point() else value
        padded[name] = nn.functional.pad(images, (left, right, top, bottom), value=value)
    assert_same(observed(padded, rule), observed(inputs, rule))


@for_every_rule
@some
@given(inputs=mini_batches(), data=st.data())
def test_the_order_of_the_modalities_is_only_an_order(rule, inputs, data):
    shuffled = {name: inputs[name] for name in data.draw(st.permutations(list(inputs)))}
    assert_same(observed(shuffled, rule), observed(inputs, rule))


@for_every_rule
@some
@given(inputs=mini_batches(), data=st.data())
def test_the_order_of_the_images_in_a_batch_changes_no_weight(rule, inputs, data):
    order = data.draw(st.permutations(range(len(next(iter(inputs.values()))))))
    assert_same(observed({name: images[order] for name, images in inputs.items()}, rule), observed(inputs, rule))


@some
@given(inputs=mini_batches(), data=st.data())
def test_a_patch_is_left_out_exactly_where_it_is_flat_in_every_modality(inputs, data):
    rows, columns = (side // 8 for side in next(iter(inputs.values())).shape[-2:])
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    inputs = {name: images.clone() for name, images in inputs.items()}
    before = joint_flat_patches(inputs.values())
    for images in inputs.values():
        images[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = data.draw(st.integers(0, 1))
    expected = before.clone()
    expected[0, row, column] = True
    assert torch.equal(joint_flat_patches(inputs.values()), expected)


# From preference to weight --------------------------------------------------------------------------------------------

curves = st.fixed_dictionaries(
    {"alpha": st.floats(1, 3), "beta": st.floats(0.1, 1), "lam": st.floats(0.5, 6), "gamma": st.floats(0, 2)}
)


@some
@given(shares=st.lists(st.floats(0, 4), min_size=2, max_size=6, unique_by=lambda t: round(t, 3)), curve=curves)
def test_a_larger_share_gets_a_strictly_smaller_weight_between_its_bounds(shares, curve):
    weights = weight(torch.tensor(sorted(shares), dtype=torch.float64), **curve)
    assert (weights.diff() < 0).all()
    assert (weights > curve["alpha"] - curve["beta"]).all() and (weights < curve["alpha"]).all()


@some
@given(inputs=mini_batches(), seed=seeds)
def test_the_shares_of_the_banks_add_up_to_the_number_of_modalities(inputs, seed):
    mwam = MWAM(list(inputs), MWAMConfig(share_of="bank"))
    for _ in range(2):
        mwam.observe(inputs)
        seen = [value for value in mwam.last.share.values() if not math.isnan(value)]
        assert sum(seen) == pytest.approx(len(seen), abs=1e-6)
        inputs = {name: images.flip(0).roll(seed, -1) for name, images in inputs.items()}


@some
@given(frm=several_preferences, factor=st.floats(1e-2, 1e3))
def test_a_common_factor_on_all_preferences_changes_no_share(frm, factor):
    frm = torch.tensor(frm, dtype=torch.float64)
    assert torch.allclose(share(frm * factor), share(frm), rtol=1e-6)


@some
@given(frm=several_preferences, curve=curves)
def test_normalized_weights_have_a_mean_of_one_and_keep_their_ratios(frm, curve):
    frm = torch.tensor(frm, dtype=torch.float64)
    weights, normalized = (allocate_weights(frm, **curve, normalize=how) for how in (None, "mean"))
    assert normalized.mean().item() == pytest.approx(1)
    assert torch.allclose(normalized / normalized[0], weights / weights[0])


@for_every_rule
@some
@given(inputs=mini_batches())
def test_normalized_weights_of_a_mini_batch_have_a_mean_of_one_over_the_modalities_with_evidence(rule, inputs):
    seen = observed(inputs, rule, normalize="mean")
    weights = [seen.weight[name] for name, value in seen.frm.items() if value > 0]
    assert not weights or sum(weights) / len(weights) == pytest.approx(1)


@some
@given(series=st.lists(preferences, min_size=1, max_size=12), omega=st.floats(0, 0.99))
def test_a_bank_stays_between_the_least_and_the_most_that_it_saw(series, omega):
    bank = FRMBank(omega, start="first")
    for count, value in enumerate(series, 1):
        banked = bank.update({"rgb": value})["rgb"]
        seen = series[:count]
        assert min(seen) * (1 - 1e-12) <= banked <= max(seen) * (1 + 1e-12)


# Bad input ------------------------------------------------------------------------------------------------------------


@st.composite
def troubled_mini_batches(draw):
    """Mini-batches that a sensor, a loader or an augmentation spoiled, in one modality or in all."""
    inputs = draw(mini_batches(least=1))
    victims = draw(st.lists(st.sampled_from(list(inputs)), min_size=1, unique=True))
    trouble = draw(
        st.sampled_from(["pixel", "flat", "zero", "zero image", "one modality zero", "small", "mixed sizes"])
    )
    if trouble == "pixel":
        value = draw(st.sampled_from([math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-40]))
        dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
        for name in victims:
            images = inputs[name] = inputs[name].to(dtype, copy=True)
            images.view(-1)[draw(st.integers(0, images.numel() - 1))] = value
    elif trouble in ("flat", "zero"):
        inputs = {n: torch.full_like(x, draw(st.integers(0, 1)) * (trouble == "flat")) for n, x in inputs.items()}
    elif trouble == "zero image":
        inputs = {n: x * (torch.arange(len(x)) > 0).to(x.dtype)[:, None, None, None] for n, x in inputs.items()}
    elif trouble == "one modality zero":
        inputs[victims[0]] = torch.zeros_like(inputs[victims[0]])
    elif trouble == "small":
        height, width = draw(st.integers(1, 7)), draw(st.integers(1, 20))
        inputs.update({name: inputs[name][..., :height, :width] for name in victims})
    else:
        inputs.update({name: inputs[name][..., :-3, :] for name in victims})
    return inputs


@for_every_rule
@some
@given(
    inputs=troubled_mini_batches(),
    start=st.sampled_from(["first", "zero"]),
    share_of=st.sampled_from(["bank", "batch"]),
    ignore=st.sampled_from(["joint_flat", None]),
    normalize=st.sampled_from([None, "mean"]),
)
def test_bad_input_gives_finite_weights_and_gradients_and_leaves_a_bank_that_works(rule, inputs, start, **config):
    mwam = MWAM(list(inputs), MWAMConfig(rule=rule, bank_start=start, **config))
    streams = {name: nn.Parameter(torch.zeros(3)) for name in inputs}
    GradientModulator(mwam, {name: [parameter] for name, parameter in streams.items()})
    good = {name: torch.from_numpy(pictures(seed)) for seed, name in enumerate(inputs)}
    for mini_batch in (inputs, good, inputs, good):
        banked = dict(mwam.bank.values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights = mwam.observe(mini_batch)
        assert all(math.isfinite(weight) and weight >= 0 for weight in weights.values())
        assert all(math.isfinite(value) for value in mwam.bank.values.values())
        if not all(math.isfinite(value) for value in mwam.last.frm.values()):
            assert set(mwam.last.weight.values()) == {1.0} and mwam.bank.values == banked
        for parameter in streams.values():
            parameter.grad = None
        sum(parameter.sum() for parameter in streams.values()).backward()  # a gradient of 1 without weights
        for name, parameter in streams.items():
            assert torch.equal(parameter.grad, torch.full((3,), weights[name].item()))
        if mini_batch is good:
            assert all(0 <= value <= len(good) * 2 for value in mwam.last.share.values())


# Configuration --------------------------------------------------------------------------------------------------------


@st.composite
def configurations(draw):
    patch, rule = draw(st.integers(4, 32)), draw(st.sampled_from(RULES))
    alpha = draw(st.floats(0, 10))
    return MWAMConfig(
        patch=patch,
        band=draw(st.integers(2, patch // 2)),
        sigma=draw(st.floats(1e-12, 1)),
        omega=draw(st.floats(0, 1, exclude_max=True)),
        alpha=alpha,
        beta=draw(st.floats(0, alpha)),
        lam=draw(st.floats(-100, 100)),
        gamma=draw(st.floats(-10, 10)),
        ignore=draw(st.sampled_from(["joint_flat", None])),
        normalize=draw(st.sampled_from(["mean", None])),
        rule=rule,
        align=draw(st.sampled_from(["patch", "map"])) if rule == "frequency_ratio" else "patch",
        mode=draw(st.sampled_from(["gradient", "update", "auto"])),
        bank_start=draw(st.sampled_from(["first", "zero"])),
        share_of=draw(st.sampled_from(["bank", "batch"])),
    )


@some
@given(config=configurations())
def test_a_configuration_comes_back_from_a_dictionary_and_from_a_file(config):
    assert MWAMConfig.from_dict(config.to_dict()) == config
    assert MWAMConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


@some
@given(config=configurations(), data=st.data())
def test_what_a_dictionary_leaves_out_keeps_its_default(config, data):
    keys = data.draw(st.sets(st.sampled_from(["lam", "gamma", "omega", "sigma", "normalize", "mode"])))
    partial = MWAMConfig.from_dict({key: config.to_dict()[key] for key in keys})
    assert partial.to_dict() == {**MWAMConfig().to_dict(), **{key: config.to_dict()[key] for key in keys}}
