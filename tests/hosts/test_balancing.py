"""Every balancing method in the loop of the hosts, and in their recipes."""

import copy
import importlib.util

import pytest
import torch
from hosts import SIZE, Toy, ToyMD, killed_after, rooms_section, section, stream, toy_trainer
from torch import nn

from mwam_det import MWAMConfig
from mwam_det.core.balancing.methods import METHODS, balancing_config
from mwam_det.hosts.experiment import CLASSIFICATION, SEGMENTATION, HostExperiment, _plain
from mwam_det.hosts.models.access import modality_access
from mwam_det.training.checkpoints import changed_settings
from mwam_det.training.incomplete import IncompleteConfig, views_alone

SHORT = {"mses": {"patience": 0}, "mslr": {"window": 1}}
METHOD = [
    pytest.param(
        {"method": name, **SHORT.get(name, {})},
        id=name,
        marks=pytest.mark.skipif(
            name == "torchjd" and importlib.util.find_spec("torchjd") is None,
            reason="TorchJD is an extra: pip install '.[balancing]'",
        ),
    )
    for name in METHODS
]
MEASURING = [{"method": "ogm_ge", "alpha": 0, "noise": False}, {"method": "agm", "alpha": 0}]
"""Methods that only measure, with settings by which nothing follows."""


class Deep(nn.Module):
    """Two streams, behind whose fusion there are batch norms and dropout."""

    def __init__(self):
        super().__init__()
        self.streams = nn.ModuleDict({name: stream() for name in ("rgb", "ir")})
        self.head = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2))

    def forward(self, inputs, views=None):
        access = modality_access(inputs, views)
        return self.head(torch.cat([access(name, own(inputs[name])) for name, own in self.streams.items()], 1))


class DeepOfInputs(Deep):
    """The same, and it takes no views."""

    def forward(self, inputs):
        return super().forward(inputs)


def trainer_of(pictures, folder, model=ToyMD, balancing=None, **values):
    torch.manual_seed(0)
    values = {"mwam": None, "epochs": 3, **values}
    return toy_trainer(pictures, folder, model=model(), balancing=balancing_config(balancing), **values)


def same(first, second):
    first, second = (own.model.state_dict() for own in (first, second))
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.filterwarnings("ignore:balancing.patience")
@pytest.mark.parametrize("balancing", METHOD)
def test_a_killed_training_with_a_method_goes_on_to_the_same_results(pictures, tmp_path, balancing):
    whole = trainer_of(pictures, tmp_path / "whole", balancing=balancing)
    whole.train()
    killed = trainer_of(pictures, tmp_path / "killed", balancing=balancing)
    with killed_after(5, KeyboardInterrupt):  # in the third epoch
        killed.train()
    again = trainer_of(pictures, tmp_path / "killed", balancing=balancing)
    again.resume(torch.load(tmp_path / "killed" / "weights" / "last.pt", weights_only=True))
    assert again.epoch == 2
    again.train()
    assert same(again, whole)
    assert again.run.balancer.state_dict() == whole.run.balancer.state_dict()
    history = [(tmp_path / run / "history.csv").read_text() for run in ("killed", "whole")]
    assert history[0] == history[1] and ",factor_rgb,factor_ir," in history[0]


@pytest.mark.parametrize("balancing", [case for case in METHOD if case.id not in ("mses", "mslr")])
def test_a_method_changes_the_training(pictures, tmp_path, balancing):
    plain, balanced = (
        trainer_of(pictures, tmp_path / name, balancing=own, epochs=1)
        for name, own in (("plain", None), ("balanced", balancing))
    )
    plain.train()
    balanced.train()
    assert not same(plain, balanced)


@pytest.mark.parametrize("model", [Deep, DeepOfInputs])
@pytest.mark.parametrize("balancing", MEASURING, ids=lambda own: own["method"])
def test_views_that_only_measure_leave_the_training_bit_for_bit(pictures, tmp_path, balancing, model):
    """Weights, batch norms, dropout and the random numbers that follow: as if nobody had looked."""
    plain, measuring = (
        trainer_of(pictures, tmp_path / name, model, balancing=own)
        for name, own in (("plain", None), ("measuring", balancing))
    )
    plain.train()
    drawn = torch.rand(3)
    measuring.train()
    assert torch.equal(torch.rand(3), drawn)
    assert same(plain, measuring)


@pytest.mark.parametrize("model", [Deep, DeepOfInputs])
def test_what_is_measured_is_what_a_step_on_these_views_would_see_without_dropout(pictures, tmp_path, model):
    trainer = trainer_of(pictures, tmp_path, model, balancing={"method": "agm"})
    heard = {}
    trainer.run.balancer.observe = lambda evidence: heard.update(evidence=evidence)
    images = {name: torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8) for name in ("rgb", "ir")}
    target = torch.tensor([0, 1, 1, 0])
    trainer.model.train()
    trainer.run.begin_epoch(0, 1)
    twin, views = copy.deepcopy(trainer.model), views_alone(4, ("rgb", "ir"))
    twin.head[3].p = 0.0
    inputs = trainer.normalise(images)
    if model is Deep:
        complete, of_rgb, of_ir = views.split(twin(inputs, views))
    else:
        complete, of_rgb, of_ir = views.split(twin({name: views.mix(name, own) for name, own in inputs.items()}))
    trainer._step(images, target)
    evidence = heard["evidence"]
    for kept, expected in ((("rgb", "ir"), complete), (("rgb",), of_rgb), (("ir",), of_ir)):
        assert torch.allclose(evidence.logits[kept], expected, atol=1e-6)
    assert evidence.losses["ir",] == pytest.approx(nn.functional.cross_entropy(of_ir, target).item())
    assert evidence.losses["rgb", "ir"].requires_grad and not evidence.losses["ir",].requires_grad


def test_methods_act_beside_mwam_its_weights_first(pictures, tmp_path):
    def move(**values):
        trainer = trainer_of(pictures, tmp_path / "x", epochs=1, batch=8, schedule="constant", momentum=0.0, **values)
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.train()
        return trainer, {name: value - before[name] for name, value in trainer.model.state_dict().items()}

    _, plain = move(weight_decay=0.0)
    balancing = {"method": "ogm_ge", "noise": False, "alpha": 0.5}
    trainer, moved = move(mwam=MWAMConfig(), balancing=balancing, weight_decay=0.0)
    factors = {name: trainer.mwam.weights[name] * trainer.run.balancer.weights[name] for name in ("rgb", "ir")}
    assert len({float(weight) for weight in trainer.run.balancer.weights.values()}) == 2
    for name in ("rgb", "ir"):
        key = f"streams.{name}.0.weight"
        assert torch.allclose(moved[key], plain[key] * factors[name], rtol=1e-4, atol=1e-7)


def test_a_method_that_trains_views_is_refused_by_a_model_that_takes_none(pictures, tmp_path):
    with pytest.raises(ValueError, match=r"mmpareto needs a forward\(inputs, views\), which Toy lacks"):
        trainer_of(pictures, tmp_path, Toy, balancing={"method": "mmpareto"})


# Recipes --------------------------------------------------------------------------------------------------------------


def experiment(pictures, **changes):
    content = {"task": CLASSIFICATION, "data": section(pictures), "mwam": False, **changes}
    return HostExperiment.from_dict("x", content)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"balancing": {"method": "ogm"}},
            "balancing.method='ogm' must be one of ogm_ge, .*did you mean 'ogm_ge'",
        ),
        ({"balancing": {"alpha": 0.3}}, "names no method: add one of ogm_ge"),
        ({"balancing": True}, "must be false or a mapping like {method: ogm_ge}"),
        (
            {"balancing": {"method": "ogm_ge", "alfa": 1}},
            r"balancing \(method=ogm_ge\): unknown key 'alfa': did you mean 'alpha'",
        ),
        (
            {"balancing": {"method": "agm"}, "incomplete": {"views": 2}},
            "incomplete.views=2: balancing.method=agm compares each modality alone",
        ),
        ({"balancing": {"method": "mmpareto"}, "incomplete": True}, "mmpareto trains views of its own"),
        ({"balancing": {"method": "mmpareto"}, "mwam": True}, "mwam.mode=gradient: balancing.method=mmpareto combines"),
        ({"balancing": {"method": "mslr", "rates": {"depth": 2}}}, "rates names depth, but the modalities are rgb, ir"),
        (
            {"balancing": {"method": "torchjd", "aggregator": "Best"}},
            "aggregator='Best' must be|needs the package",
        ),
    ],
)
def test_a_recipe_whose_balancing_cannot_be_used_is_refused(pictures, changes, words):
    with pytest.raises(ValueError, match=words):
        experiment(pictures, **changes)


@pytest.mark.parametrize("off", [None, False])
def test_a_recipe_without_balancing_is_the_one_of_before(pictures, off):
    assert experiment(pictures, balancing=off).config.balancing is None
    assert changed_settings(_plain(experiment(pictures)), _plain(experiment(pictures, balancing=off))) == ""


def test_a_run_is_not_resumed_with_another_method(pictures):
    first, second = (experiment(pictures, balancing={"method": name}) for name in ("lfm", "mmpareto"))
    assert "balancing.method was lfm, is mmpareto" in changed_settings(_plain(first), _plain(second))


def test_incomplete_views_serve_a_method_and_are_trained_as_without_it(pictures, tmp_path):
    own = {"incomplete": IncompleteConfig(), "balancing": {"method": "agm", "alpha": 0}}
    plain = trainer_of(pictures, tmp_path / "plain", Deep, incomplete=IncompleteConfig())
    balanced = trainer_of(pictures, tmp_path / "balanced", Deep, **own)
    plain.train()
    balanced.train()
    assert same(plain, balanced)


@pytest.mark.slow
@pytest.mark.parametrize("balancing", [case for case in METHOD if case.id in ("agm", "lfm", "torchjd")])
def test_a_recipe_of_segmentation_trains_with_a_method_of_each_kind(rooms, tmp_path, balancing):
    """Whose streams are fused on the way, with losses at several scales and labels that do not count."""
    content = {
        "task": SEGMENTATION,
        "model": "esanet-md-r18",
        "data": rooms_section(rooms),
        "mwam": False,
        "balancing": balancing,
        "train": {"imgsz": 32, "batch": 2, "epochs": 1, "device": "cpu", "project": str(tmp_path)},
    }
    report, folder = HostExperiment.from_dict("rooms", content).train()
    state = torch.load(folder / "weights" / "last.pt", weights_only=True)["run"]["balancer"]
    assert state["method"] == balancing["method"]
    if balancing["method"] == "agm":
        assert set(state["factors"].values()) != {1.0}
    assert len(report.results) == 3
