"""MMANet: its two losses against their equations, what is mined, and a whole training beside MWAM."""

import csv

import numpy as np
import pytest
import torch
import yaml
from hosts import killed_after, section, write_pictures
from torch.nn import functional as F

from mwam_det.hosts.experiment import CLASSIFICATION, HostExperiment, load_host, train_experiment
from mwam_det.hosts.models.classifiers import SFMD
from mwam_det.hosts.models.mmanet import MMANetGuidance, Teacher, margin_aware_distillation, prediction_shift
from mwam_det.training.incomplete import IncompleteConfig, Views, draw_views

FAST = {"imgsz": 32, "batch": 4, "device": "cpu", "schedule": "constant"}


def test_distillation_compares_how_samples_resemble_each_other_where_the_teacher_is_unsure():
    random = np.random.default_rng(0)
    student, teacher = random.normal(size=(2, 3, 4, 2, 2))
    logits = random.normal(size=(3, 5))

    def relations(features):
        flat = features.reshape(3, -1)
        gram = flat @ flat.T
        return gram / np.linalg.norm(gram, axis=1, keepdims=True)

    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropy = -(odds * np.log(odds)).sum(1)
    apart = (relations(student) - relations(teacher)) ** 2
    wanted = sum(entropy[j] / entropy.sum() * apart[i, j] for i in range(3) for j in range(3))
    found = margin_aware_distillation(*map(torch.from_numpy, (student, teacher, logits)))
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_distillation_is_0_for_a_student_like_its_teacher_and_for_a_certain_teacher():
    features = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    assert margin_aware_distillation(features, 2 * features, torch.randn(3, 2)) < 1e-10
    certain = torch.tensor([[1e4, 0.0]] * 3)
    assert margin_aware_distillation(features, -features.roll(1, 1), certain) == 0


def test_predictions_shift_by_the_divergence_of_their_softmaxed_frequencies():
    assert prediction_shift(torch.tensor([3, 7]), torch.tensor([3, 7])) == 0
    complete, incomplete = np.exp([0.6, 0.4, 0.0]), np.exp([0.0, 0.9, 0.1])
    complete, incomplete = complete / complete.sum(), incomplete / incomplete.sum()
    wanted = (incomplete * np.log(incomplete / complete)).sum()
    assert prediction_shift(torch.tensor([6, 4, 0]), torch.tensor([0, 18, 2])) == pytest.approx(wanted)


# The guidance ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def guided():
    """An SF-MD of three modalities with its guidance."""
    torch.manual_seed(0)
    channels = {"rgb": 3, "depth": 1, "ir": 3}
    model, teacher = (SFMD(channels, 2) for _ in range(2))
    guidance = MMANetGuidance(model, Teacher(teacher, lambda images: images), list(channels), 2, 30, 0.5, 4)
    return model.train(), teacher, guidance


def batch(count=4):
    generator = torch.Generator().manual_seed(1)
    return {n: torch.randn(count, c, 32, 32, generator=generator) for n, c in {"rgb": 3, "depth": 1, "ir": 3}.items()}


def one_view(**lacking):
    return Views({name: ~torch.tensor([lacking.get(name, [False] * 4)]) for name in ("rgb", "depth", "ir")}, (1.0,))


def test_what_moves_predictions_most_is_mined_from_the_second_epoch_on(guided):
    _, _, guidance = guided
    asked = []

    def count(shifted):
        def of(combinations):
            asked.append(list(combinations))
            return {c: torch.tensor([9, 1] if set(c) == shifted else [5, 5]) for c in combinations}

        return of

    guidance.end_epoch(1, None)  # nobody asks yet
    guidance.end_epoch(2, count({"depth", "ir"}))
    assert guidance.without is None and guidance.shifts.argmax() == 0
    once = guidance.shifts[0].item()
    guidance.end_epoch(3, count({"rgb", "ir"}))
    assert guidance.shifts.tolist() == [once, once, 0]
    guidance.shifts[0] *= 2  # the sum of all epochs decides
    guidance.end_epoch(4, None)
    assert guidance.without == "rgb"
    assert asked == [[("depth", "ir"), ("rgb", "ir"), ("rgb", "depth"), ("rgb", "depth", "ir")]] * 2
    guidance.end_epoch(5, None)  # it is known


def test_of_modalities_that_are_missed_alike_the_last_is_mined(guided):
    _, _, guidance = guided
    for epoch in (2, 3):
        guidance.end_epoch(epoch, lambda combinations: {c: torch.tensor([10, 0]) for c in combinations})
    guidance.end_epoch(4, None)
    assert guidance.without == "ir"


def test_there_are_no_losses_before_the_weak_combinations_are_known(guided):
    model, _, guidance = guided
    model(batch())
    assert guidance.losses(batch(), torch.tensor([0, 1, 0, 1]), one_view()) == {}


def test_the_regularisation_is_over_the_samples_without_the_mined_modality(guided):
    model, teacher, guidance = guided
    guidance.weakest.fill_(1)
    guidance.network.eval()
    inputs, target = batch(), torch.tensor([0, 1, 0, 1])
    seen = {}
    model.fused.register_forward_hook(lambda module, args, output: seen.update(streams=args[0], fused=output))
    logits = model(inputs)
    weak = one_view(depth=[True, False, True, False], ir=[True, True, False, False])
    losses = guidance.losses(inputs, target, weak)
    each = F.cross_entropy(guidance.network(seen["streams"]), target, reduction="none")
    assert torch.allclose(losses["regularization"], 0.5 * (each[0] + each[2]) / 4)
    with torch.no_grad():
        wanted = margin_aware_distillation(seen["fused"], teacher.fused(_streams(teacher, inputs)), teacher(inputs))
    assert torch.allclose(losses["distillation"], 30 * wanted)
    (F.cross_entropy(logits, target) + sum(losses.values())).backward()
    assert all(own.grad is None for own in teacher.parameters())
    assert all(own.grad is not None for module in (model, guidance) for own in module.parameters())


def test_with_several_views_the_losses_are_their_average(guided):
    model, teacher, guidance = guided
    guidance.weakest.fill_(1)
    for module in (model, guidance.network):
        module.eval()
    inputs, target = batch(), torch.tensor([0, 1, 0, 1])
    views = draw_views(4, ["rgb", "depth", "ir"], IncompleteConfig())

    def losses(own):
        model.fused.train()  # where the guidance listens; its batch norms do not
        for module in model.fused.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        model(inputs, own)
        return guidance.losses(inputs, target, own)

    together = losses(views)
    one_by_one = [
        losses(Views({name: own[view : view + 1] for name, own in views.present.items()}, (1.0,))) for view in range(7)
    ]
    for name, value in together.items():
        assert value.item() == pytest.approx(sum(own[name].item() for own in one_by_one) / 7, rel=1e-4), name


def _streams(model, inputs):
    return torch.cat([stream(inputs[name]) for name, stream in model.streams.items()], 1)


def test_the_guidance_keeps_neither_host_nor_teacher(guided):
    _, _, guidance = guided
    assert {key.split(".")[0] for key in guidance.state_dict()} == {"network", "shifts", "weakest"}


# A training -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def triples(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("triples"), modalities=("rgb", "depth", "ir"))


def content(triples, **train):
    modalities = {name: f"{{split}}/{name}" for name in ("rgb", "depth", "ir")}
    return {
        "task": CLASSIFICATION,
        "model": "mmanet",
        "data": section(triples, modalities=modalities),
        "incomplete": {"views": 1, "p": 6 / 7},
        "train": {**FAST, "epochs": 5, "mining_epochs": 3, **train},
    }


@pytest.fixture(scope="module")
def teacher(triples, tmp_path_factory):
    recipe = {**content(triples, epochs=1), "model": "sf-md", "mwam": False, "incomplete": False}
    _, folder = train_experiment(HostExperiment.from_dict("sfmd", recipe), tmp_path_factory.mktemp("teacher"))
    return str(folder / "weights" / "best.pt")


def rows(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_results_and_leaves_an_sfmd(triples, teacher, tmp_path):
    recipe = content(triples, teacher=teacher)
    report, whole = train_experiment(HostExperiment.from_dict("mma", recipe), tmp_path / "whole")
    assert len(report.results) == 7
    history = rows(whole / "history.csv")
    assert history[2]["loss_distillation"] == "" and float(history[3]["loss_distillation"]) > 0
    last = history[-1]
    parts = sum(float(last[f"loss_{name}"]) for name in ("fused", "distillation", "regularization"))
    assert float(last["loss"]) == pytest.approx(parts, rel=1e-4)
    assert rows(whole / "mwam.csv")
    model, _, _ = load_host(whole / "weights" / "best.pt")
    stock = SFMD({"rgb": 3, "depth": 3, "ir": 3}, 2)
    assert model.state_dict().keys() == stock.state_dict().keys()

    with killed_after(9, KeyboardInterrupt):  # in the fifth epoch
        train_experiment(HostExperiment.from_dict("mma", recipe), tmp_path / "killed")
    again = content(triples, teacher=teacher, resume=str(tmp_path / "killed" / "weights" / "last.pt"))
    train_experiment(HostExperiment.from_dict("mma", again))
    for name in ("history.csv", "mwam.csv"):
        assert (tmp_path / "killed" / name).read_text() == (whole / name).read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"incomplete": False}, "model=mmanet learns from a teacher"),
        ({"train": FAST}, "set train.teacher to the best.pt of an sf-md"),
        ({"model": "sf-md"}, "train.teacher='t.pt' is for model=mmanet or mmanet-3x3, not for sf-md"),
    ],
    ids=["no dropout", "no teacher", "another model"],
)
def test_what_mmanet_needs_is_said_before_it_begins(triples, changes, words):
    with pytest.raises(ValueError, match=words):
        HostExperiment.from_dict("mma", {**content(triples, teacher="t.pt"), **changes})


@pytest.mark.slow
def test_a_teacher_that_cannot_teach_is_refused_before_anything_is_written(triples, teacher, tmp_path):
    def refused(recipe, words):
        with pytest.raises(ValueError, match=words):
            train_experiment(HostExperiment.from_dict("mma", yaml.safe_load(yaml.safe_dump(recipe))), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    refused(content(triples, teacher="none.pt"), "train.teacher: none.pt cannot be read as a checkpoint")
    other = content(triples, teacher=teacher)
    other["data"]["modalities"] = {"rgb": "{split}/rgb", "depth": "{split}/depth"}
    refused(other, r"is a SFMD of modalities and classes .*it must be an SFMD of")
