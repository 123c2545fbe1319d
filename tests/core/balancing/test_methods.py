import dataclasses

import pytest
import torch
from balancing import NAMES, Streams

from mwam_det.core.balancing.balancer import Balancer, BalancingConfig
from mwam_det.core.balancing.methods import METHODS, balancing_config, make_balancer
from mwam_det.core.balancing.ogm_ge import OGMGE, OGMGEConfig

WITHOUT_EXTRAS = [name for name in METHODS if name != "torchjd"]


def test_a_recipe_names_a_method_and_its_settings():
    config = balancing_config({"method": "ogm_ge", "alpha": 0.8})
    assert config == OGMGEConfig(alpha=0.8)
    assert isinstance(make_balancer(config, NAMES), OGMGE)


@pytest.mark.parametrize("value", [False, None])
def test_no_balancing_is_none(value):
    assert balancing_config(value) is None


def test_the_methods_are_these():
    assert list(METHODS) == ["ogm_ge", "agm", "mslr", "mses", "lfm", "mmpareto", "torchjd"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_documented_with_its_source_and_settings(method):
    config, balancer = METHODS[method]
    assert any(year in balancer.__doc__ for year in ("2019", "2022", "2023", "2024", "arXiv"))
    for field in dataclasses.fields(config):
        assert field.name in ("start", "stop") or f"{field.name}:" in config.__doc__


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "balancing=True must be false or a mapping like {method: ogm_ge}; methods are ogm_ge, agm"),
        ("agm", "balancing='agm' must be false or a mapping"),
        ({"alpha": 1}, "names no method: add one of ogm_ge, agm, mslr, mses, lfm, mmpareto, torchjd"),
        ({"method": "ogmge"}, r"balancing.method='ogmge' must be one of .*\(did you mean 'ogm_ge'\?\)"),
        ({"method": 3}, "balancing.method=3 must be one of"),
        ({"method": ["agm"]}, r"balancing.method=\['agm'\] must be one of"),
        ({"method": "agm", "alhpa": 1}, r"balancing \(method=agm\): unknown key 'alhpa': did you mean 'alpha'\?"),
        ({"method": "mses", "patience": -1}, r"balancing \(method=mses\): patience=-1 must be"),
    ],
)
def test_anything_else_is_refused_with_the_choices(value, message):
    with pytest.raises(ValueError, match=message):
        balancing_config(value)


@pytest.mark.parametrize("names", [["rgb"], [], ["rgb", "rgb"]])
@pytest.mark.parametrize("method", WITHOUT_EXTRAS)
def test_fewer_than_two_modalities_are_refused(method, names):
    with pytest.raises(ValueError, match="must be distinct names, two or more"):
        make_balancer(balancing_config({"method": method}), names)


@pytest.mark.parametrize("method", WITHOUT_EXTRAS)
def test_the_state_of_another_method_or_of_other_modalities_is_refused(method):
    balancer = make_balancer(balancing_config({"method": method}), NAMES)
    state = balancer.state_dict()
    with pytest.raises(ValueError, match=f"the state is of balancing.method=other, not of {method}"):
        balancer.load_state_dict({**state, "method": "other"})
    with pytest.raises(ValueError, match=r"the state is of modalities \['a', 'b'\], not of \['ir', 'rgb'\]"):
        balancer.load_state_dict({**state, "factors": {"a": 1.0, "b": 1.0}})


def test_streams_of_other_names_are_refused():
    model = Streams(("rgb", "depth"))
    for method in ("ogm_ge", "agm", "mslr", "mses", "mmpareto"):
        balancer = make_balancer(balancing_config({"method": method}), NAMES)
        with pytest.raises(ValueError, match="streams name"):
            balancer.attach(model.streams, torch.optim.SGD(model.parameters(), 0.1))


def test_the_interface_itself_does_nothing():
    class Nothing(BalancingConfig):
        method = "nothing"

    balancer = Balancer(NAMES, Nothing())
    balancer.validated({"rgb": 0.1, "ir": 0.9})
    assert all(weight == 1 for weight in balancer.weights.values())
