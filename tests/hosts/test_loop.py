import csv
import errno
import math
from pathlib import Path

import pytest
import torch
from hosts import Toy, ToyMD, killed_after, toy_trainer
from torch import nn
from torch.nn import functional as F

from mwam_det import MWAMConfig
from mwam_det.hosts.evaluation import Evaluation
from mwam_det.hosts.loop import HostTrainer, save_whole
from mwam_det.training.incomplete import IncompleteConfig, Views
from mwam_det.training.selection import Selection


def rows(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def weights_of(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_host_learns_and_leaves_checkpoints_and_histories(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, epochs=12, flip=0.0, schedule="constant")
    trainer.train()
    history = rows(tmp_path / "history.csv")
    assert [row["epoch"] for row in history] == [str(epoch) for epoch in range(1, 13)]
    assert float(history[-1]["loss"]) < 0.7 * float(history[0]["loss"])
    assert float(history[-1]["val_loss"]) < 0.7 * float(history[0]["val_loss"])
    assert max(float(row["accuracy(rgb+ir)"]) for row in history) > 0.9
    mwam = rows(tmp_path / "mwam.csv")
    assert len(mwam) == 24 and float(mwam[0]["frm_rgb"]) > 0
    assert {file.name for file in (tmp_path / "weights").iterdir()} == {"best.pt", "last.pt"}


@pytest.mark.parametrize("epochs", [1, 8, 9, 10])
def test_one_cycle_rises_and_falls_however_few_the_steps(pictures, tmp_path, epochs):
    trainer = toy_trainer(pictures, tmp_path, epochs=epochs, batch=8, schedule="one-cycle")
    rates = []
    for _ in range(epochs * trainer.steps):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.schedule.step()
    assert trainer.steps == 1 and max(rates) <= 0.1 and trainer.optimizer.param_groups[0]["lr"] < 1e-5


def test_without_mwam_a_run_is_a_plain_training_bit_for_bit(pictures, tmp_path):
    settings = {"epochs": 1, "schedule": "constant", "weight_decay": 0.0}
    trainer = toy_trainer(pictures, tmp_path, mwam=None, **settings)
    torch.manual_seed(0)
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    order = torch.Generator().manual_seed(0)
    loader = torch.utils.data.DataLoader(trainer.host.train_set, 4, shuffle=True, generator=order)
    for images, target, _ in loader:
        loss = F.cross_entropy(model(trainer.normalise(images)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trainer.train()
    assert equal(weights_of(trainer), model.state_dict())
    assert not (tmp_path / "mwam.csv").is_file()


def test_weights_of_one_change_nothing_and_others_the_streams_alone(pictures, tmp_path):
    def first_step(mwam):
        trainer = toy_trainer(pictures, tmp_path / "x", mwam=mwam, epochs=1, batch=8, schedule="constant")
        before = weights_of(trainer)
        trainer.train()
        after = weights_of(trainer)
        return {name: after[name] - value for name, value in before.items() if "weight" in name}, trainer.mwam

    plain, _ = first_step(None)
    ones, _ = first_step(MWAMConfig(alpha=1.0, beta=0.0))
    assert equal(plain, ones)
    scaled, mwam = first_step(MWAMConfig())
    for name, move in plain.items():
        weight = mwam.weights[name.split(".")[1]] if name.startswith("streams") else 1.0
        assert torch.allclose(scaled[name] + 0, move * weight + 0, atol=2e-4), name
    assert mwam.weights["rgb"] != 1


class Killed(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"mwam": MWAMConfig(mode="hybrid"), "incomplete": IncompleteConfig(1, "input"), "schedule": "one-cycle"},
        {"mwam": MWAMConfig(preference="measured"), "schedule": "step", "step_epochs": 1, "optimizer": "AdamW"},
        {"schedule": "step", "step_epochs": 2, "warmup_epochs": 2, "degrees": 30.0},
        {"host": ToyMD, "selection": Selection("worst", 2), "incomplete": IncompleteConfig(2, weights="mwam")},
        {"workers": 1, "incomplete": IncompleteConfig(1, "input", p=0.3)},
    ],
    ids=["hybrid", "measured", "warm-up", "selection", "workers"],
)
@pytest.mark.filterwarnings("ignore:AdamW rescales gradients")
def test_a_killed_run_goes_on_to_the_same_results(pictures, tmp_path, values):
    values = {"epochs": 3, "scale": 1.3, **values}
    host = values.pop("host", Toy)

    def fresh(name):
        torch.manual_seed(0)
        return toy_trainer(pictures, tmp_path / name, model=host(), **values)

    whole = fresh("whole")
    whole.train()

    killed = fresh("killed")
    with killed_after(5, Killed):  # in the third epoch
        killed.train()
    again = toy_trainer(pictures, tmp_path / "killed", model=host(), **values)
    again.resume(torch.load(tmp_path / "killed" / "weights" / "last.pt", weights_only=True))
    assert again.epoch == 2
    again.train()
    assert equal(weights_of(again), weights_of(whole))
    assert again.mwam.state_dict() == whole.mwam.state_dict()
    for name in ("history.csv", "mwam.csv"):
        if (tmp_path / "whole" / name).is_file():
            assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()
    best = [torch.load(tmp_path / run / "weights" / "best.pt", weights_only=True) for run in ("whole", "killed")]
    assert best[0]["epoch"] == best[1]["epoch"] and equal(best[0]["model"], best[1]["model"])


def test_the_number_of_workers_changes_nothing(pictures, tmp_path):
    runs = [toy_trainer(pictures, tmp_path / str(n), epochs=1, scale=1.5, workers=n) for n in (0, 1)]
    for run in runs:
        run.train()
    assert equal(*map(weights_of, runs))


def test_a_checkpoint_of_other_streams_is_refused(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, epochs=1)
    trainer.train()
    content = torch.load(tmp_path / "weights" / "last.pt", weights_only=True)
    other = toy_trainer(pictures, tmp_path, mwam=MWAMConfig(mode="loss"))
    with pytest.raises(ValueError, match="the checkpoint belongs to another host or other settings"):
        other.resume(content)
    on_gpu = toy_trainer(pictures, tmp_path)
    on_gpu.scaler = torch.amp.GradScaler("cpu")  # one that scales, where that of a training on a CPU has no state
    on_gpu.resume(content)
    assert on_gpu.epoch == 1 and on_gpu.scaler.get_scale() == 2**16


# Losses ---------------------------------------------------------------------------------------------------------------


def test_auxiliary_losses_are_weighted_and_their_heads_leave_no_trace(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, mwam=MWAMConfig(mode="loss"), epochs=1, batch=8)
    heads = {name: head.weight.clone() for name, head in trainer.heads.heads.items()}
    trainer.train()
    (row,) = rows(tmp_path / "history.csv")
    parts = sum(float(trainer.mwam.weights[name]) * float(row[f"loss_{name}"]) for name in ("rgb", "ir"))
    assert float(row["loss"]) == pytest.approx(float(row["loss_fused"]) + parts, rel=1e-5)
    assert all(not torch.equal(head.weight, heads[name]) for name, head in trainer.heads.heads.items())
    best = torch.load(tmp_path / "weights" / "best.pt", weights_only=True)
    assert best["model"].keys() == Toy().state_dict().keys() and "heads" not in best


def test_a_head_learns_from_the_samples_that_have_its_modality(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, mwam=MWAMConfig(mode="loss"))
    trainer.model(trainer.normalise({name: torch.zeros(2, 3, 16, 16, dtype=torch.uint8) for name in ("rgb", "ir")}))
    views = Views({"rgb": torch.tensor([[False, False]]), "ir": torch.tensor([[False, True]])}, (1.0,), "input")
    logits = trainer.heads.heads["ir"](trainer.heads._features["ir"])
    losses = trainer._losses_alone(torch.tensor([0, 1]), views)
    assert losses["rgb"] == 0
    assert torch.allclose(losses["ir"], F.cross_entropy(logits[1:], torch.tensor([1])))


class Tangled(Toy):
    """Never calls a stream as a module."""

    def forward(self, inputs):
        return self.head(torch.cat([self._run(name, own) for name, own in inputs.items()], 1))

    def _run(self, name, features):
        for layer in self.streams[name]:
            features = layer(features)
        return features


def test_auxiliary_losses_are_refused_where_a_stream_has_no_output_of_its_own(pictures, tmp_path):
    with pytest.raises(ValueError, match=r"Tangled fuses inside its streams \(rgb, ir\): use gradient"):
        toy_trainer(pictures, tmp_path, model=Tangled(), mwam=MWAMConfig(mode="hybrid"))


class Exploding(Toy):
    def forward(self, inputs):
        return super().forward(inputs) * math.nan


@pytest.mark.parametrize(("amp", "words"), [(False, "smaller train.lr0$"), (True, "train.amp=false")])
def test_a_loss_that_is_no_number_stops_the_run_and_says_what_to_try(pictures, tmp_path, amp, words):
    with pytest.raises(FloatingPointError, match=f"the loss is nan in epoch 1.*{words}"):
        toy_trainer(pictures, tmp_path, model=Exploding(), amp=amp).train()


def test_mixed_precision_trains_and_mwam_measures_the_same(pictures, tmp_path):
    runs = {amp: toy_trainer(pictures, tmp_path / str(amp), epochs=1, amp=amp) for amp in (True, False)}
    for run in runs.values():
        run.train()
    assert runs[True].mwam.state_dict()["bank"] == runs[False].mwam.state_dict()["bank"]
    losses = [float(rows(tmp_path / str(amp) / "history.csv")[0]["loss"]) for amp in (True, False)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


# Missing modalities ---------------------------------------------------------------------------------------------------


class Listening(Toy):
    """Notes which samples come without which modality in training."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, inputs):
        if self.training:
            self.seen.append({name: (own == 0).flatten(1).all(1) for name, own in inputs.items()})
        return super().forward(inputs)


def test_modalities_are_dropped_in_training_after_mwam_has_seen_them(pictures, tmp_path):
    model = Listening()
    trainer = toy_trainer(pictures, tmp_path, model=model, incomplete=IncompleteConfig(1, "input", p=1.0), epochs=8)
    trainer.train()
    lacking = {name: torch.cat([step[name] for step in model.seen]) for name in ("rgb", "ir")}
    assert (lacking["rgb"] ^ lacking["ir"]).all()  # one of the two, in each sample
    assert 0.25 < lacking["rgb"].float().mean() < 0.75
    assert all(float(row[f"frm_{name}"]) > 0 for row in rows(tmp_path / "mwam.csv") for name in ("rgb", "ir"))


class Separate(ToyMD):
    """Batch norms answer as in evaluation, so that samples do not see each other."""

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


@pytest.mark.parametrize("level", ["features", "input"])
def test_the_loss_of_all_views_is_the_weighted_sum_of_separate_losses(pictures, tmp_path, level):
    config = IncompleteConfig(level=level, weights=[0.5, 0.2, 0.3])
    trainer = toy_trainer(pictures, tmp_path, model=Separate(), incomplete=config, mwam=None)
    trainer.model.train()
    generator = torch.Generator().manual_seed(0)
    images = {n: torch.randint(1, 256, (4, 3, 16, 16), generator=generator, dtype=torch.uint8) for n in ("rgb", "ir")}
    target = torch.tensor([0, 1, 1, 0])
    inputs = trainer.normalise(images)
    separate = []
    for kept in (("rgb", "ir"), ("rgb",), ("ir",)):
        own = {name: value if name in kept else torch.zeros_like(value) for name, value in inputs.items()}
        separate.append(F.cross_entropy(trainer.model(own), target).item())
    assert len(set(separate)) == 3
    found = trainer._step(images, target)["loss"]
    assert found == pytest.approx(0.5 * separate[0] + 0.2 * separate[1] + 0.3 * separate[2], rel=1e-5)


def test_incomplete_views_follow_the_complete_one_if_asked(pictures, tmp_path):
    def loss(distill):
        torch.manual_seed(0)
        config = IncompleteConfig(distill=distill)
        trainer = toy_trainer(pictures, tmp_path, model=Separate(), incomplete=config, mwam=None)
        trainer.model.train()
        trainer.run.begin_epoch(5, 10)  # warmed up
        images = {name: torch.full((4, 3, 16, 16), 9, dtype=torch.uint8) for name in ("rgb", "ir")}
        return trainer._step(images, torch.tensor([0, 1, 1, 0]))["loss"]

    added = [loss(distill) - loss(0.0) for distill in (1.0, 2.0)]
    assert added[0] > 1e-4 and added[1] == pytest.approx(2 * added[0], rel=1e-3)


def test_epochs_before_the_views_are_no_rivals_of_those_with_them(pictures, tmp_path, monkeypatch):
    config = IncompleteConfig(level="input", start=0.5)
    trainer = toy_trainer(pictures, tmp_path, incomplete=config, mwam=None, epochs=4)
    found = iter([0.9, 0.8, 0.1, 0.05])
    monkeypatch.setattr(trainer, "evaluate", lambda kept: Evaluation({kept[0]: next(found)}, {}, 4, 0.0))
    trainer.train()
    assert torch.load(tmp_path / "weights" / "best.pt", weights_only=True)["epoch"] == 3 and trainer.best == 0.1


def test_a_host_is_refused_the_views_that_it_cannot_have(pictures, tmp_path):
    with pytest.raises(ValueError, match=r"forward\(inputs, views\), which Toy lacks: use level: input"):
        toy_trainer(pictures, tmp_path, incomplete=IncompleteConfig())
    toy_trainer(pictures, tmp_path, incomplete=IncompleteConfig(level="input"), epochs=1).train()
    with pytest.raises(ValueError, match=r"incomplete\.checkpoint is for models of Ultralytics"):
        toy_trainer(pictures, tmp_path, incomplete=IncompleteConfig(level="input", checkpoint=True))


def test_without_incomplete_views_no_sample_lacks_anything(pictures, tmp_path):
    model = Listening()
    toy_trainer(pictures, tmp_path, model=model, epochs=1).train()
    assert not any(step[name].any() for step in model.seen for name in ("rgb", "ir"))


def test_all_combinations_are_validated_where_they_decide(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, selection=Selection("mean", 2), epochs=3)
    trainer.train()
    history = rows(tmp_path / "history.csv")
    assert all(row[f"accuracy({c})"] for row in history for c in ("rgb", "ir", "rgb+ir"))
    # the first and the third epoch are due; in between, what the first one found of the others is all that is known
    means = [sum(float(row[f"accuracy({c})"]) for c in ("rgb", "ir", "rgb+ir")) / 3 for row in history]
    assert trainer.best == pytest.approx(max(means[0], means[2]), abs=1e-6)


def test_an_epoch_that_is_due_is_counted_from_0_as_in_ultralytics(pictures, tmp_path, monkeypatch):
    trainer, due = toy_trainer(pictures, tmp_path, selection=Selection("mean", 3), epochs=5), []
    evaluate = trainer.evaluate
    monkeypatch.setattr(trainer, "evaluate", lambda found: (due.append(len(found) > 1), evaluate(found))[1])
    trainer.train()
    assert due == [True, False, False, True, True]


def test_where_complete_input_decides_it_alone_is_validated(pictures, tmp_path):
    toy_trainer(pictures, tmp_path, epochs=1).train()
    (row,) = rows(tmp_path / "history.csv")
    assert row["accuracy(rgb)"] == "" and row["accuracy(rgb+ir)"]


def test_measured_preference_weighs_by_what_the_host_depends_on(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, mwam=MWAMConfig(preference="measured"), epochs=1)
    trainer.run.take_in({("rgb",): 0.9, ("ir",): 0.5, ("rgb", "ir"): 0.9})
    assert trainer.mwam.weights["rgb"] < trainer.mwam.weights["ir"]


# Schedules ------------------------------------------------------------------------------------------------------------


def rates(trainer, epochs, key="lr"):
    found = []
    for _ in range(epochs * trainer.steps):
        found.append(trainer.optimizer.param_groups[0][key])
        trainer.optimizer.step()
        trainer.schedule.step()
    return found


def test_steps_divide_the_rate_every_so_many_epochs(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, schedule="step", step_epochs=2, epochs=5, lr0=1.0)
    assert rates(trainer, 5)[:: trainer.steps] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_steps_may_be_a_list_of_epochs(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, schedule="step", step_epochs=[1, 4], epochs=5, lr0=1.0)
    assert rates(trainer, 5)[:: trainer.steps] == pytest.approx([1, 0.1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(("schedule", "wanted"), [("step", [0, 0.5, 1, 0.1, 0.01]), ("constant", [0, 0.5, 1, 1, 1])])
def test_a_warm_up_rises_from_0_epoch_by_epoch(pictures, tmp_path, schedule, wanted):
    values = {"schedule": schedule, "step_epochs": [3, 4], "epochs": 5, "lr0": 0.2, "warmup_epochs": 2}
    trainer = toy_trainer(pictures, tmp_path, **values)
    found = rates(trainer, 5)
    assert found[:: trainer.steps] == pytest.approx([0.2 * rate for rate in wanted])
    assert found[1 :: trainer.steps] == found[:: trainer.steps]


def test_the_rate_in_the_history_is_the_one_that_an_epoch_was_trained_at(pictures, tmp_path):
    values = {"schedule": "step", "step_epochs": [3], "epochs": 4, "lr0": 0.2, "warmup_epochs": 2}
    toy_trainer(pictures, tmp_path, **values).train()
    assert [float(row["lr"]) for row in rows(tmp_path / "history.csv")] == pytest.approx([0, 0.1, 0.2, 0.02])


def test_a_rate_of_0_trains_nothing(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, schedule="constant", lr0=0.0, epochs=1)
    before = weights_of(trainer)
    trainer.train()
    assert torch.equal(before["head.weight"], weights_of(trainer)["head.weight"])


def test_one_cycle_rises_for_a_tenth_and_then_falls_to_almost_nothing(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, schedule="one-cycle", epochs=20, lr0=1.0)
    found = rates(trainer, 20)
    top = found.index(max(found))
    assert found[0] == pytest.approx(1 / 25) and max(found) == pytest.approx(1, abs=0.01)
    assert top == pytest.approx(len(found) / 10, abs=1)
    assert found[top:] == sorted(found[top:], reverse=True) and found[-1] < 0.01


def test_one_cycle_takes_the_momentum_down_and_up_as_pytorchs_own(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path, schedule="one-cycle", epochs=20)
    steps = 20 * trainer.steps
    stock = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(stock, 0.1, steps + 1, pct_start=0.1)
    wanted = []
    for _ in range(steps):
        wanted.append(stock.param_groups[0]["momentum"])
        stock.step()
        schedule.step()
    found = rates(trainer, 20, "momentum")
    assert found == pytest.approx(wanted)
    assert (max(found), min(found)) == pytest.approx((0.95, 0.85), abs=1e-3) and found[0] == 0.95


def test_the_cycle_is_about_the_momentum_that_is_asked_for(pictures, tmp_path):
    def cycle(**values):
        return toy_trainer(pictures, tmp_path, schedule="one-cycle", epochs=20, **values)

    adam = [betas[0] for betas in rates(cycle(optimizer="Adam", momentum=0.8, mwam=None), 20, "betas")]
    assert (max(adam), min(adam)) == pytest.approx((0.85, 0.75), abs=1e-3)
    high = rates(cycle(momentum=0.98), 20, "momentum")
    assert (max(high), min(high)) == pytest.approx((0.99, 0.93), abs=1e-3)
    assert set(rates(cycle(momentum=0.0), 20, "momentum")) == {0.0}


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_other_schedules_leave_the_momentum(pictures, tmp_path, schedule):
    assert set(rates(toy_trainer(pictures, tmp_path, schedule=schedule), 2, "momentum")) == {0.9}


def test_sgd_is_with_nesterovs_momentum_or_without_any(pictures, tmp_path):
    for momentum in (0.9, 0.0):
        optimizer = toy_trainer(pictures, tmp_path, momentum=momentum).optimizer
        assert optimizer.param_groups[0]["nesterov"] == bool(momentum)


def test_a_constant_rate_stays(pictures, tmp_path):
    assert set(rates(toy_trainer(pictures, tmp_path, schedule="constant", lr0=0.5), 2)) == {0.5}


def test_a_host_that_has_one_sample_to_learn_from_is_refused(pictures, tmp_path):
    host = toy_trainer(pictures, tmp_path).host
    host.train_set.samples = host.train_set.samples[:1]
    with pytest.raises(ValueError, match="two samples"):
        HostTrainer(host)


def test_any_module_with_streams_will_do(pictures, tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.head = nn.Conv2d(3, 2, 16), nn.Conv2d(3, 2, 16), nn.Linear(4, 2)
            self.streams = {"rgb": self.left, "ir": self.right}

        def forward(self, inputs):
            features = [self.streams[name](inputs[name]).flatten(1) for name in ("rgb", "ir")]
            return self.head(torch.cat(features, 1))

    trainer = toy_trainer(pictures, tmp_path, model=Own(), epochs=1)
    trainer.train()
    assert rows(tmp_path / "mwam.csv")


def test_a_full_disk_is_told_with_the_file_and_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    file = tmp_path / "last.pt"
    save_whole({"epoch": 1}, file)

    def full(self, data):
        self.open("wb").write(data[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"No space left on device: '.*last.pt'"):
        patch.setattr(Path, "write_bytes", full)
        save_whole({"epoch": 2}, file)
    assert torch.load(file)["epoch"] == 1 and [own.name for own in tmp_path.iterdir()] == ["last.pt"]
