"""The recipe that is the authors' published training, fact by fact, and on a set like CASIA-SURF."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hosts import write_faces

from mwam_det import MWAMConfig
from mwam_det.hosts.data.layout import find_samples
from mwam_det.hosts.data.samples import MultimodalDataset
from mwam_det.hosts.experiment import HostExperiment, load_checkpoint, load_host, read_teacher, train_experiment
from mwam_det.hosts.loop import Host, HostTrainer
from mwam_det.training.incomplete import IncompleteConfig

CFG = Path(__file__).parents[2] / "cfg" / "hosts"
FAST = {"imgsz": 32, "batch": 8, "device": "cpu"}


def recipe(name, data=None, **train):
    content = yaml.safe_load((CFG / f"casia_surf_{name}.yaml").read_text(encoding="utf-8"))
    content["data"]["path"] = str(data or content["data"]["path"])
    return HostExperiment.from_dict(f"casia_surf_{name}", {**content, "train": {**content["train"], **train}})


def rows(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def teacher(faces, tmp_path_factory):
    """A checkpoint of the teacher's recipe after one epoch."""
    _, folder = train_experiment(recipe("teacher", faces, epochs=1, **FAST), tmp_path_factory.mktemp("teacher"))
    return folder / "weights" / "best.pt"


# Fact by fact ---------------------------------------------------------------------------------------------------------


def test_mwam_has_the_arithmetic_of_the_published_code():
    assert recipe("published").config.mwam == MWAMConfig.published_code()


def test_every_sample_is_seen_in_one_of_the_combinations_each_as_likely_and_removed_behind_its_stream():
    for name in ("published", "mmanet"):
        incomplete = recipe(name).config.incomplete
        assert incomplete == IncompleteConfig(views=1, p=incomplete.p, level="features")
        assert incomplete.p == pytest.approx(6 / 7) and incomplete.start == 0


def test_the_first_epoch_is_passed_over_the_rate_rises_and_falls_as_there():
    """The rate of the 99 epochs that follow, as the authors' schedulers set it after each epoch from 0 to 99."""
    train = recipe("published").settings
    rise, falls = {1: 0.0, 2: 0.2, 3: 0.4, 4: 0.6, 5: 0.8}, {22: 0.1, 39: 0.01, 56: 0.001}
    rates, rate = [], 1.0
    for epoch in range(1, 100):
        rate = falls.get(epoch, rate)
        rates.append(rise.get(epoch, rate))
    assert [train.rate_factor(epoch) for epoch in range(train.epochs)] == pytest.approx(rates)


def test_the_teacher_has_no_warm_up_and_its_rate_falls_earlier():
    train = recipe("teacher").settings
    rates = [1.0] * 16 + [0.1] * 17 + [0.01] * 17 + [0.001] * 49  # the epochs from 1 to 99
    assert [train.rate_factor(epoch) for epoch in range(train.epochs)] == pytest.approx(rates)
    config = recipe("teacher").config
    assert config.incomplete is None and config.mwam is None


@pytest.mark.parametrize("name", ["published", "teacher"])
def test_all_else_is_as_in_the_published_configuration(name):
    train = recipe(name).settings
    assert (train.batch, train.lr0, train.momentum, train.weight_decay) == (64, 1e-3, 0.9, 5e-4)
    assert (train.optimizer, train.size, train.flip, train.degrees) == ("SGD", (112, 112), 0.5, 30)
    assert train.scale * 112 == pytest.approx(144, abs=0.1)
    if name == "published":
        assert (train.distillation, train.regularization, train.mining_epochs) == (30, 0.5, 5)


@pytest.mark.slow
def test_gradients_are_scaled_from_the_stem_to_the_excitation_behind_layer_2_and_nowhere_else(faces, teacher, tmp_path):
    def gradients(mwam):
        experiment = recipe("published", faces, **FAST)
        data = find_samples(experiment.data, segmentation=False)
        model, task = experiment.build(data)
        guide = recipe("published", faces, teacher=str(teacher), **FAST).build_guidance(model, data)
        guide.weakest.fill_(0)  # both losses have begun
        sets = [MultimodalDataset(data.splits[split], data.modalities, (32, 32)) for split in ("train", "val")]
        host = Host(model, model.streams, task, 2, *sets, tmp_path, experiment.settings, guidance=guide)
        host.config = replace(experiment.config, mwam=mwam)
        trainer = HostTrainer(host)
        trainer.model.train()
        trainer.run.begin_epoch(5, 99)
        samples = [sets[0][index] for index in range(8)]
        images = {name: torch.stack([own[name] for own, _, _ in samples]) for name in ("rgb", "depth", "ir")}
        trainer._step(images, torch.stack([target for _, target, _ in samples]))
        named = {f"model.{name}": own for name, own in model.named_parameters()}
        named |= {f"guidance.{name}": own for name, own in guide.named_parameters()}
        return {name: own.grad.clone() for name, own in named.items()}, trainer.mwam

    plain, _ = gradients(None)
    scaled, mwam = gradients(MWAMConfig())  # its weights are far from 1 and from each other
    weights = sorted(weight.item() for weight in mwam.weights.values())
    assert min(abs(weight - 1) for weight in weights) > 0.05 and min(np.diff(weights)) > 0.05
    reached = {name: set() for name in mwam.weights}
    for name, gradient in plain.items():
        parts = name.split(".")
        weight = 1.0
        if parts[1] == "streams":
            weight = mwam.weights[parts[2]]
            reached[parts[2]].add(parts[5] if parts[4] == "resnet" else "squeeze-and-excitation")
        assert torch.allclose(scaled[name], gradient * weight, rtol=1e-4, atol=1e-7), name
    assert set(map(frozenset, reached.values())) == {
        frozenset({"conv1", "bn1", "layer1", "layer2", "squeeze-and-excitation"})
    }


@pytest.mark.slow
def test_the_teacher_sees_everything_and_stays_as_it_is(faces, teacher):
    experiment = recipe("published", faces, teacher=str(teacher), **FAST)
    data = find_samples(experiment.data, segmentation=False)
    model, _ = experiment.build(data)
    guide = experiment.build_guidance(model, data)
    frozen, _ = guide._teacher
    assert not frozen.training and not any(own.requires_grad for own in frozen.parameters())
    known = read_teacher(teacher, ["rgb", "depth", "ir"], ["fake", "real"]).model.state_dict()
    assert all(torch.equal(value, known[name]) for name, value in frozen.state_dict().items())
    assert not set(guide.parameters()) & set(frozen.parameters())


# On faces -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_recipe_trains_on_a_set_with_the_lists_of_casia_surf(faces, teacher, tmp_path):
    changes = {"epochs": 5, "mining_epochs": 3, "warmup_epochs": 2, "step_epochs": [4], "teacher": str(teacher)}
    before = load_checkpoint(teacher)["model"]
    report, folder = train_experiment(recipe("published", faces, **changes, **FAST), tmp_path / "run")
    assert len(report.results) == 7
    history = rows(folder / "history.csv")
    assert [row["loss_distillation"] != "" for row in history] == [False, False, False, True, True]
    assert all(float(row["loss"]) > 0 for row in history)
    measured = rows(folder / "mwam.csv")
    assert len(measured) == 5 * 3
    banks = dict.fromkeys(("rgb", "depth", "ir"), 0.0)  # they start at 0, and T is the mini-batch over their mean
    for row in measured:
        frm = {name: float(row[f"frm_{name}"]) for name in banks}
        banks = {name: 0.5 * past + 0.5 * frm[name] for name, past in banks.items()}
        for name, value in frm.items():
            share = value / (sum(banks.values()) / 3)
            weight = 1.5 - 1 / (1 + np.exp(-10 * (share - 1)))
            assert float(row[f"weight_{name}"]) == pytest.approx(weight, abs=1e-4)
    model, _, _ = load_host(folder / "weights" / "best.pt")
    assert model.encoders["rgb"].conv1.kernel_size == (3, 3)
    after = load_checkpoint(teacher)["model"]
    assert all(torch.equal(value, after[name]) for name, value in before.items())
