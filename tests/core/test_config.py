import dataclasses

import pytest

from mwam_det import MWAMConfig
from mwam_det.core.config import mwam_config


def test_the_defaults_are_the_papers():
    config = MWAMConfig()
    assert (config.patch, config.band, config.omega) == (8, 2, 0.5)
    assert (config.alpha, config.beta, config.lam, config.gamma) == (1.5, 1.0, 6.0, 0.7)
    assert config.ignore == "joint_flat" and config.normalize is None


def test_a_dictionary_takes_a_configuration_there_and_back():
    config = MWAMConfig(gamma=1.0, lam=4.0, ignore=None)
    assert MWAMConfig.from_dict(config.to_dict()) == config


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MWAMConfig().gamma = 1.0


def test_an_unknown_key_is_refused_and_the_nearest_named():
    with pytest.raises(ValueError, match="'gama': did you mean 'gamma'"):
        MWAMConfig.from_dict({"gama": 1.0})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patch", 1),
        ("patch", 8.0),
        ("patch", "8"),
        ("band", 5),
        ("band", 0),
        ("band", True),
        ("sigma", 0.0),
        ("omega", 1.0),
        ("omega", -0.1),
        ("beta", 2.0),
        ("beta", -1.0),
        ("lam", "6"),
        ("gamma", None),
        ("lam", float("nan")),
        ("alpha", float("inf")),
        ("gamma", True),
        ("ignore", "flat"),
        ("pixels", "bytes"),
        ("normalize", "sum"),
        ("rule", "median"),
        ("align", "image"),
        ("mode", "both"),
        ("layout", "movie"),
        ("bank_start", "last"),
        ("share_of", "mean"),
        ("scaling", "learned"),
        ("preference", "guessed"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_key_and_value(key, value):
    with pytest.raises(ValueError, match=f"{key}={value!r}"):
        MWAMConfig(**{key: value})


def test_a_rule_that_pairs_no_coefficients_has_no_alignment():
    with pytest.raises(ValueError, match="pairs no coefficients"):
        MWAMConfig(rule="ac_ratio", align="map")


def test_the_presets_differ_from_the_paper_in_what_they_say_and_nothing_else():
    paper = MWAMConfig().to_dict()
    small = {"gamma": 1.0, "lam": 4.0}
    assert MWAMConfig.small_batch().to_dict() == {**paper, **small}
    published = {"gamma": 1.0, "lam": 10.0, "bank_start": "zero", "share_of": "batch", "ignore": None}
    assert MWAMConfig.published_code().to_dict() == {**paper, **published, "pixels": "signed"}


@pytest.mark.parametrize(
    ("value", "config"), [(True, MWAMConfig()), ({}, MWAMConfig()), (False, None), ({"lam": 4}, MWAMConfig(lam=4))]
)
def test_mwam_is_true_false_or_a_mapping(value, config):
    assert mwam_config(value) == config


@pytest.mark.parametrize(("value", "words"), [("yes", "'yes' must be true, false"), ({"lamda": 4}, "mean 'lam'")])
def test_any_other_mwam_is_refused(value, words):
    with pytest.raises(ValueError, match=words):
        mwam_config(value)
