import math
import warnings

import numpy as np
import pytest
import reference
import torch
from pictures import letterboxed, load_pairs, pictures

from mwam_det import MWAM, MWAMConfig
from mwam_det.core.frequency import signed_pixels


def batch(seed, **kwargs):
    return {"rgb": torch.from_numpy(pictures(seed, **kwargs)), "ir": torch.from_numpy(pictures(seed + 100, **kwargs))}


def test_a_series_of_mini_batches_follows_equations_2_4_5_and_6():
    mwam = MWAM(["rgb", "ir"])
    series = {"rgb": [], "ir": []}
    for seed in range(4):
        inputs = batch(seed)
        weights = mwam.observe(inputs)
        for name, images in inputs.items():
            series[name].append(reference.frm(images.numpy()))
        banked = [reference.banks(series[name])[-1] for name in ("rgb", "ir")]
        share = reference.shares(banked)
        assert list(mwam.last.bank.values()) == pytest.approx(banked, rel=1e-5)
        assert list(mwam.last.share.values()) == pytest.approx(share, rel=1e-5)
        assert [w.item() for w in weights.values()] == pytest.approx(reference.weights(share), rel=1e-5)


def signed(images):
    """Pixels as the published code normalises them."""
    return (images.numpy().astype(np.float64) - 127.5) / 128


def test_the_published_code_starts_its_bank_at_zero_and_relates_the_mini_batch_to_the_mean_of_the_banks():
    mwam = MWAM(["rgb", "ir"], MWAMConfig.published_code())
    banked = [0.0, 0.0]
    for seed in range(4):
        inputs = batch(seed)
        weights = mwam.observe(inputs)
        frm = [reference.frm(signed(images)) for images in inputs.values()]
        banked = [0.5 * past + 0.5 * value for past, value in zip(banked, frm, strict=True)]
        share = [value / (sum(banked) / 2 + 1e-6) for value in frm]
        assert list(mwam.last.bank.values()) == pytest.approx(banked, rel=1e-5)
        assert list(mwam.last.share.values()) == pytest.approx(share, rel=1e-5)
        expected = reference.weights(share, lam=10.0, gamma=1.0)
        assert [w.item() for w in weights.values()] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("ignore", [None, "joint_flat"])
def test_signed_pixels_are_measured_from_bytes_and_from_floats(ignore):
    inputs = {name: torch.from_numpy(letterboxed(own.numpy(), 16, 24)) for name, own in batch(0).items()}
    left_out = reference.flat_in_all([own.numpy() for own in inputs.values()], 8) if ignore else None
    wanted = [reference.frm(signed(images), leave_out=left_out) for images in inputs.values()]
    for given in (inputs, {name: images.double() / 255 for name, images in inputs.items()}):
        mwam = MWAM(["rgb", "ir"], MWAMConfig(pixels="signed", ignore=ignore))
        mwam.observe(given)
        assert list(mwam.last.frm.values()) == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(TypeError, match="must be uint8 or floating point"):
        signed_pixels(inputs["rgb"].long())


def test_black_padding_governs_signed_pixels_alone():
    """Where the published code reads black as −1, faces cut out on black make all weights equal."""
    inputs = batch(3)
    for images in inputs.values():
        images[..., 16:] = 0
    weights = {}
    for pixels in ("unit", "signed"):
        mwam = MWAM(["rgb", "ir"], MWAMConfig(pixels=pixels, ignore=None))
        weights[pixels] = [weight.item() for weight in mwam.observe(inputs).values()]
    assert abs(weights["unit"][0] - weights["unit"][1]) > 0.05
    assert weights["signed"] == pytest.approx([weights["signed"][0]] * 2, abs=0.01)


def test_an_absent_modality_is_none_to_signed_pixels_either():
    mwam = MWAM(["rgb", "ir"], MWAMConfig(pixels="signed"))
    weights = mwam.observe({**batch(0), "ir": torch.zeros_like(batch(0)["ir"])})
    assert weights["ir"] == 1 and mwam.last.frm["ir"] == 0 and math.isnan(mwam.last.share["ir"])


def test_the_configured_rule_is_the_one_that_is_measured():
    mwam = MWAM(["rgb", "ir"], MWAMConfig(rule="ac_ratio"))
    inputs = batch(0)
    mwam.observe(inputs)
    expected = [reference.by_rule(images.numpy(), "ac_ratio") for images in inputs.values()]
    assert list(mwam.last.frm.values()) == pytest.approx(expected, rel=1e-5)


def test_weights_are_scalars_without_gradient():
    for weight in MWAM(["rgb", "ir"]).observe(batch(0)).values():
        assert weight.shape == () and weight.dtype == torch.float32 and not weight.requires_grad


def test_weights_are_one_before_the_first_mini_batch():
    assert [w.item() for w in MWAM(["rgb", "ir"]).weights.values()] == [1, 1]


def test_three_modalities_with_other_channel_counts_are_weighed():
    inputs = {**batch(0), "depth": torch.from_numpy(pictures(7, channels=1))}
    weights = MWAM(["rgb", "ir", "depth"]).observe(inputs)
    share = reference.shares([reference.frm(images.numpy()) for images in inputs.values()])
    assert [w.item() for w in weights.values()] == pytest.approx(reference.weights(share), rel=1e-5)


def test_an_absent_modality_keeps_its_bank_is_left_out_of_the_mean_and_is_not_scaled():
    mwam = MWAM(["rgb", "ir", "depth"])
    first = {**batch(0), "depth": torch.from_numpy(pictures(7))}
    mwam.observe(first)
    before = dict(mwam.last.bank)
    second = {**first, "ir": torch.zeros_like(first["ir"])}
    weights = mwam.observe(second)
    assert mwam.last.bank["ir"] == before["ir"]
    assert weights["ir"].item() == 1 and math.isnan(mwam.last.share["ir"])
    share = reference.shares([mwam.last.bank["rgb"], mwam.last.bank["depth"]])
    assert [weights["rgb"].item(), weights["depth"].item()] == pytest.approx(reference.weights(share), rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_pixel_gives_weights_of_one_for_that_step_and_is_said_once_and_counted(bad):
    mwam = MWAM(["rgb", "ir"])
    good = {name: images.float() / 255 for name, images in batch(0).items()}
    mwam.observe(good)
    before = dict(mwam.bank.values)
    broken = {**good, "ir": good["ir"].clone()}
    broken["ir"][0, 0, 3, 3] = bad
    with pytest.warns(UserWarning, match="NaN or Inf"):
        weights = mwam.observe(broken)
    assert [w.item() for w in weights.values()] == [1, 1]
    assert mwam.bank.values == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mwam.observe(broken)
    assert sum(mwam.skipped.values()) == 2


def test_an_image_smaller_than_a_patch_gives_weights_of_one():
    mwam = MWAM(["rgb", "ir"])
    with pytest.warns(UserWarning, match="smaller than a patch"):
        weights = mwam.observe({"rgb": torch.rand(1, 3, 7, 30), "ir": torch.rand(1, 3, 7, 30)})
    assert [w.item() for w in weights.values()] == [1, 1]


def test_a_batch_that_is_all_padding_gives_weights_of_one():
    mwam = MWAM(["rgb", "ir"])
    grey = torch.full((1, 3, 16, 16), 114, dtype=torch.uint8)
    with pytest.warns(UserWarning, match="flat in all"):
        weights = mwam.observe({"rgb": grey, "ir": grey})
    assert [w.item() for w in weights.values()] == [1, 1]


def test_padding_does_not_change_the_weights_unless_it_is_asked_to_count():
    plain = batch(3)
    padded = {name: torch.from_numpy(letterboxed(images.numpy(), 16, 24)) for name, images in plain.items()}
    values = {}
    for key, config, inputs in (
        ("plain", None, plain),
        ("padded", None, padded),
        ("literal", MWAMConfig(ignore=None), padded),
    ):
        mwam = MWAM(["rgb", "ir"], config)
        mwam.observe(inputs)
        values[key] = mwam.last.share["rgb"]
    assert values["padded"] == pytest.approx(values["plain"], rel=1e-5)
    assert abs(values["literal"] - 1) < abs(values["plain"] - 1) / 10


def test_modalities_of_different_size_are_measured_and_the_lost_rule_is_said_once():
    mwam = MWAM(["rgb", "ir"])
    inputs = {"rgb": batch(0)["rgb"], "ir": torch.from_numpy(pictures(1, height=24, width=32))}
    with pytest.warns(UserWarning, match="share no patch grid"):
        mwam.observe(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mwam.observe(inputs)
    assert mwam.last.frm["ir"] == pytest.approx(reference.frm(inputs["ir"].numpy()), rel=1e-5)


def test_a_saved_state_continues_where_it_was():
    mwam, other = MWAM(["rgb", "ir"]), MWAM(["rgb", "ir"])
    mwam.observe(batch(0))
    other.load_state_dict(mwam.state_dict())
    mwam.observe(batch(1))
    other.observe(batch(1))
    assert mwam.last == other.last


def test_the_state_is_plain_python_so_that_any_checkpoint_can_hold_it():
    mwam = MWAM(["rgb", "ir"])
    mwam.observe(batch(0))
    state = mwam.state_dict()
    assert all(type(value) is float for key in ("bank", "weights") for value in state[key].values())
    assert type(state["skipped"]) is dict and type(state["frozen"]) is bool


def test_the_state_of_other_modalities_is_refused():
    mwam = MWAM(["rgb", "depth"])
    mwam.observe({"rgb": batch(0)["rgb"], "depth": batch(0)["ir"]})
    with pytest.raises(ValueError, match="not of"):
        MWAM(["rgb", "ir"]).load_state_dict(mwam.state_dict())


def test_a_frozen_mwam_measures_nothing_and_keeps_its_weights_through_a_checkpoint():
    mwam, other = MWAM(["rgb", "ir"]), MWAM(["rgb", "ir"])
    weights = {name: weight.item() for name, weight in mwam.observe(batch(0)).items()}
    mwam.freeze()
    before = mwam.state_dict()
    other.load_state_dict(before)
    for frozen in (mwam, other):
        assert {name: weight.item() for name, weight in frozen.observe(batch(1)).items()} == weights
        assert frozen.state_dict() == before
    mwam.freeze(False)
    assert {name: weight.item() for name, weight in mwam.observe(batch(1)).items()} != weights


def test_adaptive_scaling_takes_the_farthest_modality_through_its_range():
    mwam = MWAM(["rgb", "ir"], MWAMConfig(scaling="adaptive"))
    noise = torch.randint(0, 256, (2, 3, 40, 56), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    weights = mwam.observe({"rgb": noise, "ir": batch(0)["ir"]})
    preferred = max(mwam.last.bank, key=mwam.last.bank.get)
    assert weights[preferred].item() == pytest.approx(1.5 - 0.95, abs=1e-6)
    assert max(weight.item() for weight in weights.values()) == pytest.approx(1.5 - 0.05, abs=1e-6)


@pytest.mark.parametrize("layout", ["volume", "slices", "video"])
def test_volumes_and_videos_are_weighed_by_the_layout_that_is_configured(layout):
    from mwam_det.core.frequency import frequency_ratio_metric

    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 16, 24, 24)
    flair = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    t1 = torch.nn.functional.avg_pool3d(flair.float(), 3, stride=1, padding=1).byte()
    mwam = MWAM(["flair", "t1"], MWAMConfig(layout=layout))
    mwam.observe({"flair": flair, "t1": t1})
    expected = [frequency_ratio_metric(images, layout=layout).item() for images in (flair, t1)]
    assert list(mwam.last.frm.values()) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=layout):
        mwam.observe({"flair": flair[:, :, 0], "t1": t1[:, :, 0]})


MEASURED = MWAMConfig(preference="measured")


def test_measured_dependence_goes_through_the_same_bank_and_equations():
    mwam = MWAM(["rgb", "ir"], MEASURED)
    for values in ((10.0, 90.0), (30.0, 50.0)):
        weights = mwam.measure(dict(zip(("rgb", "ir"), values, strict=True)))
    assert mwam.last.bank == {"rgb": 20.0, "ir": 70.0}
    expected = reference.weights(reference.shares([20.0, 70.0]))
    assert [weight.item() for weight in weights.values()] == pytest.approx(expected, rel=1e-6)
    assert weights["ir"] < weights["rgb"]


def test_between_measurements_the_weights_stay_whatever_the_mini_batches_are():
    mwam = MWAM(["rgb", "ir"], MEASURED)
    assert [weight.item() for weight in mwam.observe(batch(0)).values()] == [1, 1]
    measured = {name: weight.item() for name, weight in mwam.measure({"rgb": 10.0, "ir": 90.0}).items()}
    assert {name: weight.item() for name, weight in mwam.observe(batch(1)).items()} == measured


def test_a_modality_without_which_the_model_is_better_counts_as_not_depended_on():
    mwam = MWAM(["rgb", "ir"], MEASURED)
    mwam.measure({"rgb": -20.0, "ir": 50.0})
    assert mwam.last.share["rgb"] == 0 and mwam.weights["rgb"].item() == pytest.approx(1.485, abs=1e-3)


def test_a_model_that_depends_on_no_modality_gets_weights_of_one():
    mwam = MWAM(["rgb", "ir"], MEASURED)
    with pytest.warns(UserWarning, match="depends on no single modality"):
        weights = mwam.measure({"rgb": 0.0, "ir": -5.0})
    assert [weight.item() for weight in weights.values()] == [1, 1] and not mwam.bank.values


@pytest.mark.parametrize(
    ("values", "words"), [({"rgb": 1.0}, "dependence names"), ({"rgb": 1.0, "ir": math.nan}, "ir")]
)
def test_a_measurement_that_says_nothing_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        MWAM(["rgb", "ir"], MEASURED).measure(values)


def test_reset_forgets_bank_counts_and_weights():
    mwam = MWAM(["rgb", "ir"])
    mwam.observe(batch(0))
    mwam.reset()
    assert mwam.last is None and not mwam.bank.values and [w.item() for w in mwam.weights.values()] == [1, 1]


def test_reset_forgets_for_how_long_a_modality_has_shown_no_detail():
    mwam, grey = MWAM(["rgb", "ir"]), {**batch(0), "ir": torch.full_like(batch(0)["ir"], 7)}
    for _ in range(19):
        mwam.observe(grey)
    mwam.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mwam.observe(grey)


def test_inputs_that_are_not_the_modalities_are_refused():
    with pytest.raises(ValueError, match=r"\['rgb'\]"):
        MWAM(["rgb", "ir"]).observe({"rgb": torch.rand(1, 3, 16, 16)})


@pytest.mark.parametrize("names", [[], ["rgb", "rgb"]])
def test_repeated_or_no_names_are_refused(names):
    with pytest.raises(ValueError, match="distinct names"):
        MWAM(names)


def test_six_real_pairs_give_the_recorded_shares_also_when_letterboxed(shared_data):
    rgb, ir = load_pairs(shared_data / "dronevehicle6")
    shares = {}
    for key, config, pad in (("content", None, 0), ("padded", None, 64), ("literal", MWAMConfig(ignore=None), 64)):
        mwam = MWAM(["rgb", "ir"], config)
        pair = {n: torch.from_numpy(letterboxed(x, pad, pad)) for n, x in (("rgb", rgb), ("ir", ir))}
        mwam.observe(pair)
        shares[key] = mwam.last.share["rgb"]
    assert shares["content"] == pytest.approx(0.33, abs=0.005)
    assert shares["padded"] == pytest.approx(shares["content"], rel=1e-5)
    assert shares["literal"] == pytest.approx(0.98, abs=0.005)


@pytest.mark.parametrize("value", [0, 128])
def test_a_modality_that_shows_no_detail_for_a_while_is_told_once(value):
    generator = torch.Generator().manual_seed(0)
    mwam = MWAM(["rgb", "ir"])
    told = []
    for step in range(45):
        rgb = torch.randint(0, 256, (2, 3, 32, 32), generator=generator, dtype=torch.uint8)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mwam.observe({"rgb": rgb, "ir": torch.full((2, 3, 32, 32), value, dtype=torch.uint8)})
        told += [(step, str(warning.message)) for warning in caught]
    ((step, text),) = told
    assert step == 19 and text.startswith("ir shows no detail in 20 mini-batches in a row")


def test_modalities_with_detail_are_not_spoken_of():
    generator = torch.Generator().manual_seed(0)
    mwam = MWAM(["rgb", "ir"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(25):
            images = torch.randint(0, 256, (2, 2, 3, 32, 32), generator=generator, dtype=torch.uint8)
            mwam.observe({"rgb": images[0], "ir": images[1] // 16})
