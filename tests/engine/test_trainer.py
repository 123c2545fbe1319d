import copy
import re
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
from tables import read_csv
from training import SHORT, StockTrainer, at_start, batch_of_bytes, run
from ultralytics.utils.torch_utils import unwrap_model
from untrained import TINY

from mwam_det import GradientModulator, MWAMTrainer, UpdateModulator
from mwam_det.cli import main
from mwam_det.data.errors import DatasetError
from mwam_det.engine.combinations import OnePassValidator
from mwam_det.models.two_stream import SPLIT_LAYER, streams_of, two_stream_cfg
from mwam_det.models.views import VIEWS


@pytest.fixture(scope="module")
def stock(demo_section, tmp_path_factory):
    return run(StockTrainer, demo_section, tmp_path_factory.mktemp("stock"), freeze=[0])


@pytest.fixture(scope="module")
def trained(demo_section, tmp_path_factory):
    return run(MWAMTrainer, demo_section, tmp_path_factory.mktemp("mwam"))


def rows_of(trainer):
    return [{key: float(value) for key, value in row.items()} for row in read_csv(trainer.save_dir / "mwam.csv")]


@pytest.mark.parametrize("mwam", [False, {"alpha": 1.0, "beta": 0.0}], ids=["off", "all weights one"])
def test_without_mwam_or_with_weights_of_one_losses_are_the_stock_trainers_bit_for_bit(
    stock, demo_section, tmp_path, mwam
):
    ours = run(MWAMTrainer, demo_section, tmp_path, mwam=mwam)
    assert len(ours.losses) == 4 and ours.losses == stock.losses
    for name, tensor in stock.model.state_dict().items():
        assert torch.equal(tensor, ours.model.state_dict()[name]), name


def test_with_mwam_the_first_loss_is_the_same_and_later_ones_are_not(stock, trained):
    assert trained.losses[0] == stock.losses[0]
    assert trained.losses[2:] != stock.losses[2:]


def test_every_mini_batch_is_recorded_with_weights_that_follow_from_its_bank(trained):
    rows = rows_of(trained)
    assert [(row["epoch"], row["iteration"]) for row in rows] == [(1, 1), (1, 2), (2, 3), (2, 4)]
    for before, row in zip(rows, rows[1:], strict=False):
        for name in ("rgb", "ir"):
            expected = 0.5 * before[f"bank_{name}"] + 0.5 * row[f"frm_{name}"]
            assert row[f"bank_{name}"] == pytest.approx(expected, rel=1e-6)
    for row in rows:
        assert row["share_rgb"] + row["share_ir"] == pytest.approx(2, rel=1e-6)
        assert (row["weight_rgb"] > row["weight_ir"]) == (row["bank_rgb"] < row["bank_ir"])


def test_the_split_stays_the_identity_through_training_and_checkpoint(trained):
    for model in (unwrap_model(trained.model), torch.load(trained.best, weights_only=False)["model"]):
        split = model.model[SPLIT_LAYER].conv
        assert torch.equal(split.weight.float()[..., 0, 0], torch.eye(6)) and split.bias.eq(0).all()


def test_a_finished_checkpoint_has_nothing_of_mwam_beyond_its_arguments(trained, stock):
    ours, theirs = (torch.load(t.best, weights_only=False) for t in (trained, stock))
    assert ours.keys() == theirs.keys() and ours["train_args"].keys() == theirs["train_args"].keys()
    assert {k: v.shape for k, v in ours["model"].state_dict().items()} == {
        k: v.shape for k, v in theirs["model"].state_dict().items()
    }


@pytest.mark.slow
def test_accumulated_gradients_equal_the_sum_of_separately_scaled_micro_batches(demo_section, tmp_path_factory):
    from mwam_det.data.synthetic import write_demo

    folder = write_demo(tmp_path_factory.mktemp("large") / "set", train=64, val=2, size=(64, 64))
    seen = {"batches": [], "weights": []}

    class Recorder(MWAMTrainer):
        def preprocess_batch(self, batch):
            if not seen["batches"]:
                seen["model"] = copy.deepcopy(unwrap_model(self.model))
            batch = super().preprocess_batch(batch)
            seen["batches"].append(copy.deepcopy(batch))
            seen["weights"].append({name: weight.clone() for name, weight in self.mwam.weights.items()})
            return batch

        def optimizer_step(self):
            seen.setdefault(
                "gradients", {k: p.grad.clone() for k, p in self.model.named_parameters() if p.requires_grad}
            )
            super().optimizer_step()

    run(
        Recorder, {**demo_section, "path": str(folder)}, tmp_path_factory.mktemp("accumulation"),
        batch=16, nbs=64, epochs=1, warmup_epochs=0,
    )  # fmt: skip
    assert len(seen["batches"]) == 4 and any(w["rgb"] != w["ir"] for w in seen["weights"])

    model, expected = seen["model"].train(), {}
    model.criterion = None
    owner = {id(p): name for name, stream in streams_of(model).items() for p in stream.parameters()}
    for batch, weights in zip(seen["batches"], seen["weights"], strict=True):
        model.zero_grad()
        model(batch)[0].sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                scaled = parameter.grad * weights.get(owner.get(id(parameter)), torch.tensor(1.0))
                expected[name] = expected.get(name, 0) + scaled
    for name, gradient in seen["gradients"].items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-5 * expected[name].abs().max()), name


@pytest.mark.slow
def test_a_run_killed_in_its_third_epoch_resumes_with_its_bank_and_its_curves_join(
    demo_section, tmp_path, monkeypatch, capsys
):
    import yaml

    monkeypatch.chdir(tmp_path)
    train = {key: value for key, value in SHORT.items() if key not in ("model", "epochs")}
    recipe = {"model": TINY, "data": demo_section, "train": {**train, "epochs": 5}, "report": False}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(recipe))
    code = """
        import os, signal, sys
        from mwam_det.engine.trainer import MWAMTrainer
        from mwam_det.cli import main
        prepare = MWAMTrainer.preprocess_batch
        def killed_in_the_third_epoch(self, batch):
            if self.epoch == 2 and self.run.history._pending:
                os.kill(os.getpid(), signal.SIGKILL)
            return prepare(self, batch)
        MWAMTrainer.preprocess_batch = killed_in_the_third_epoch
        main(["train", "short.yaml"])
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, timeout=300)
    assert killed.returncode == -9, killed.stderr.decode()[-2000:]
    run_folder = tmp_path / "runs" / "short"
    before = read_csv(run_folder / "mwam.csv")
    assert [row["epoch"] for row in before] == ["1", "1", "2", "2"]

    assert main(["train", "short.yaml", "train.resume=true"]) == 0
    rows = read_csv(run_folder / "mwam.csv")
    assert rows[:4] == before
    assert [int(row["iteration"]) for row in rows] == list(range(1, 11))
    assert [row["epoch"] for row in rows[::2]] == ["1", "2", "3", "4", "5"]
    for name in ("rgb", "ir"):
        expected = 0.5 * float(rows[3][f"bank_{name}"]) + 0.5 * float(rows[4][f"frm_{name}"])
        assert float(rows[4][f"bank_{name}"]) == pytest.approx(expected, rel=1e-6)
    results = read_csv(run_folder / "results.csv")
    assert [row["epoch"] for row in results] == ["1", "2", "3", "4", "5"]
    assert not (tmp_path / "runs" / "short2").exists()
    assert main(["train", "short.yaml", "train.resume=nowhere.pt"]) == 2
    assert "train.resume=nowhere.pt is not a file" in capsys.readouterr().err


def struck_once():
    """A trainer whose loss is NaN once, in its second epoch; `struck` tells that it was."""

    class Struck(MWAMTrainer):
        struck = False

        def optimizer_step(self):
            if self.epoch == 1 and not self.struck:
                Struck.struck = True
                self.loss = self.loss * float("nan")
            super().optimizer_step()

    return Struck


@pytest.mark.slow
def test_an_epoch_repeated_after_a_nan_loss_continues_from_the_checkpoints_bank(demo_section, tmp_path):
    Struck = struck_once()
    trainer = run(Struck, demo_section, tmp_path, batch=8, nbs=8, epochs=3, warmup_epochs=0)
    rows = rows_of(trainer)
    assert Struck.struck and [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[1]["bank_ir"] == pytest.approx(0.5 * rows[0]["bank_ir"] + 0.5 * rows[1]["frm_ir"], rel=1e-6)


@pytest.mark.slow
def test_an_epoch_begun_again_with_a_smaller_batch_leaves_no_rows_of_its_first_try(demo_section, tmp_path):
    class Tight(MWAMTrainer):
        def preprocess_batch(self, batch):
            batch = super().preprocess_batch(batch)
            if self.batch_size == 4 and len(self.run.history._pending) == 2:
                raise RuntimeError("CUDA out of memory")
            return batch

    trainer = run(Tight, demo_section, tmp_path, epochs=1)
    assert trainer.batch_size == 2
    assert [row["iteration"] for row in rows_of(trainer)] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_run_under_the_name_of_an_earlier_one_leaves_none_of_its_records(demo_section, tmp_path):
    first = run(MWAMTrainer, demo_section, tmp_path, epochs=1)
    (first.save_dir / "robustness.json").write_text("{}")
    second = run(MWAMTrainer, demo_section, tmp_path, epochs=1, mwam=False, exist_ok=True)
    assert second.save_dir == first.save_dir
    assert not (second.save_dir / "mwam.csv").exists() and not (second.save_dir / "robustness.json").exists()


@pytest.mark.slow
def test_the_log_of_a_training_speaks_of_this_training_alone(demo_section, tmp_path, log):
    trainer = run(
        MWAMTrainer, demo_section, tmp_path, epochs=1, cache="ram", incomplete={"views": 2}, deterministic=True
    )
    text = "\n".join(line for _, line in log)
    for noise in ("nn.modules", "agnostic_nms=", "non-deterministic", "Freezing layer", "unfinished", "Overriding"):
        assert noise not in text
    assert "summary" in text and str(trainer.best) in text and "Starting training" in text
    assert not any(level == "WARNING" for level, _ in log), text
    assert not re.search(rf"{re.escape(str(demo_section['path']))}\S*\.cache", text)


@pytest.mark.slow
def test_a_single_class_run_is_validated_as_one(demo_section, tmp_path, log):
    run(MWAMTrainer, demo_section, tmp_path, epochs=1, single_cls=True)
    assert not any("Skipping labels" in text for _, text in log)


def test_the_weights_of_a_checkpoint_are_taken_over(trained, demo_section, tmp_path):
    trainer = MWAMTrainer(
        overrides={**SHORT, "model": str(trained.best), "data": demo_section, "project": str(tmp_path)}
    )
    trainer.setup_model()
    expected = torch.load(trained.best, weights_only=False)["model"].float().state_dict()
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_single_stream_checkpoint_is_refused_as_the_model_itself(demo_section, tmp_path):
    from ultralytics import YOLO

    YOLO(TINY).save(tmp_path / "single.pt")
    trainer = MWAMTrainer(
        overrides={**SHORT, "data": demo_section, "project": str(tmp_path), "model": str(tmp_path / "single.pt")}
    )
    with pytest.raises(DatasetError, match="single stream"):
        trainer.setup_model()


def test_a_model_for_other_modalities_is_refused(demo_section, tmp_path):
    trainer = MWAMTrainer(overrides={**SHORT, "data": demo_section, "project": str(tmp_path)})
    with pytest.raises(DatasetError, match="'thermal': 3"):
        trainer.get_model(two_stream_cfg(TINY, {"rgb": 3, "thermal": 3}))


def test_a_mistake_in_mwam_costs_no_run_folder(demo_section, tmp_path):
    with pytest.raises(ValueError, match="did you mean 'gamma'"):
        MWAMTrainer(overrides={**SHORT, "data": demo_section, "project": str(tmp_path), "mwam": {"gama": 1}})
    assert not list(tmp_path.iterdir())


def test_a_dataset_for_single_images_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "coco.yaml").write_text("path: .\ntrain: images\nval: images\nnames: {0: person}\n")
    with pytest.raises(DatasetError, match=r"coco\.yaml: the key 'modalities' is missing"):
        MWAMTrainer(overrides={**SHORT, "data": str(tmp_path / "coco.yaml"), "project": str(tmp_path)})


@pytest.mark.parametrize("optimizer", ["AdamW", "MuSGD"])
def test_an_optimizer_that_undoes_the_scaling_is_named_with_the_remedy(demo_section, tmp_path, optimizer):
    trainer = MWAMTrainer(
        overrides={**SHORT, "data": demo_section, "project": str(tmp_path), "optimizer": optimizer, "epochs": 1}
    )
    with pytest.warns(UserWarning, match=f"{optimizer} rescales gradients.*mode='update'"):
        trainer._setup_train()


@pytest.mark.parametrize(
    ("mode", "optimizer", "modulator"),
    [
        ("gradient", "SGD", GradientModulator),
        ("auto", "SGD", GradientModulator),
        ("auto", "MuSGD", UpdateModulator),
        ("update", "SGD", UpdateModulator),
    ],
)
def test_the_mode_decides_what_is_scaled(demo_section, tmp_path, mode, optimizer, modulator):
    trainer = MWAMTrainer(
        overrides={
            **SHORT,
            "data": demo_section,
            "project": str(tmp_path),
            "optimizer": optimizer,
            "mwam": {"mode": mode},
            "epochs": 1,
        }
    )
    trainer._setup_train()
    assert [type(attachment) for attachment in trainer.run.attachments] == [modulator]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_scaled_updates_with_weights_of_one_are_the_stock_trainers_bit_for_bit(demo_section, tmp_path, optimizer):
    stock = run(StockTrainer, demo_section, tmp_path / "stock", freeze=[0], optimizer=optimizer, nbs=4)
    ones = {"mode": "update", "alpha": 1.0, "beta": 0.0}
    ours = run(MWAMTrainer, demo_section, tmp_path / "ours", mwam=ones, optimizer=optimizer, nbs=4)
    assert ours.losses == stock.losses
    scaled = run(MWAMTrainer, demo_section, tmp_path / "scaled", mwam={"mode": "update"}, optimizer=optimizer, nbs=4)
    assert scaled.losses[0] == stock.losses[0] and scaled.losses != stock.losses


@pytest.fixture(scope="module")
def with_heads(demo_section, tmp_path_factory):
    seen = []

    class Watched(MWAMTrainer):
        def save_model(self):
            saved = super().save_model()
            seen.append(torch.load(self.last, weights_only=False))
            return saved

    trainer = run(Watched, demo_section, tmp_path_factory.mktemp("heads"), mwam={"mode": "hybrid"}, nbs=4)
    return trainer, seen


@pytest.mark.slow
def test_auxiliary_heads_learn_and_are_in_no_finished_checkpoint(with_heads, stock):
    trainer, seen = with_heads
    first, last = (checkpoint["train_args"]["run_state"]["heads"] for checkpoint in seen)
    assert any(not torch.equal(first[name], last[name]) for name in first)
    assert "run_state" in seen[0]["train_args"] and not getattr(seen[0]["ema"].args, "run_state", None)
    for file in (trainer.best, trainer.last):
        ours, theirs = (torch.load(f, weights_only=False) for f in (file, stock.best))
        assert ours["train_args"].keys() == theirs["train_args"].keys()
        assert ours["model"].state_dict().keys() == theirs["model"].state_dict().keys()
        assert file.stat().st_size < 1.01 * stock.best.stat().st_size
        assert all(not module._forward_hooks for module in ours["model"].modules())


@pytest.mark.slow
def test_a_resumed_run_has_its_auxiliary_heads_and_their_optimizer_state_back(demo_section, tmp_path):
    class Stopped(Exception):
        pass

    class Stopping(MWAMTrainer):
        def save_model(self):
            super().save_model()
            raise Stopped

    arguments = {"mwam": {"mode": "loss"}, "nbs": 4, "epochs": 3}
    with pytest.raises(Stopped):
        run(Stopping, demo_section, tmp_path, **arguments)
    last = tmp_path / "run" / "weights" / "last.pt"
    saved = torch.load(last, weights_only=False)["train_args"]["run_state"]

    class Resumed(MWAMTrainer):
        def _load_checkpoint_state(self, ckpt):
            super()._load_checkpoint_state(ckpt)
            self.restored = copy.deepcopy(self.heads.state_dict())
            self.momentum = [self.optimizer.state.get(p) for p in self.heads.heads["rgb"].cv3.parameters()]
            self.bank = self.mwam.state_dict()

    trainer = run(Resumed, demo_section, tmp_path, resume=str(last))
    assert all(torch.equal(tensor, saved["heads"][name]) for name, tensor in trainer.restored.items())
    assert trainer.momentum and all(state and "momentum_buffer" in state for state in trainer.momentum)
    assert trainer.bank["bank"] == saved["mwam"]["bank"]
    assert [row["epoch"] for row in rows_of(trainer)] == [1, 1, 2, 2, 3, 3]
    assert "run_state: null" in (trainer.save_dir / "args.yaml").read_text()


@pytest.mark.slow
def test_auxiliary_losses_survive_the_recovery_from_a_nan_loss(demo_section, tmp_path):
    Struck = struck_once()
    arguments = {"mwam": {"mode": "hybrid"}, "batch": 8, "nbs": 8, "epochs": 3, "warmup_epochs": 0}
    trainer = run(Struck, demo_section, tmp_path, **arguments)
    assert Struck.struck and [row["epoch"] for row in rows_of(trainer)] == [1, 2, 3]
    assert len(trainer._attached) == 1
    plain = run(MWAMTrainer, demo_section, tmp_path, batch=8, nbs=8, epochs=1, warmup_epochs=0)
    assert trainer.losses[-1] > 1.5 * plain.losses[-1], "the losses of the heads are part of the loss again"


@pytest.fixture
def scored(monkeypatch):
    """Let validations find given values of mAP50 and fitness, by available modalities and epoch (from 0)."""

    def score(scores):
        found = OnePassValidator.by_combination.fget

        def by_combination(self):
            known = found(self)
            values = scores if isinstance(scores, dict) else scores(self.epoch)
            return {
                available: SimpleNamespace(
                    box=SimpleNamespace(map50=values[available], map=0.0), fitness=values[available]
                )
                for available in known
            }

        def call(self, trainer=None, model=None, **kwargs):
            self.epoch = trainer.epoch if trainer else None
            return validate(self, trainer, model, **kwargs)

        validate = OnePassValidator.__call__
        monkeypatch.setattr(OnePassValidator, "__call__", call)
        monkeypatch.setattr(OnePassValidator, "by_combination", property(by_combination))

    return score


@pytest.mark.slow
def test_measured_preference_follows_the_validation_without_each_modality(demo_section, tmp_path, scored):
    scored({("ir",): 0.6, ("rgb",): 0.2, ("rgb", "ir"): 0.8})
    mwam = {"preference": "measured", "omega": 0.0}
    trainer = run(MWAMTrainer, demo_section, tmp_path, mwam=mwam, epochs=3)
    assert trainer.mwam.last.frm == pytest.approx({"rgb": 25.0, "ir": 75.0})
    rows = rows_of(trainer)
    assert [row["epoch"] for row in rows] == [2, 2, 3, 3], "nothing is known before the first validation"
    assert all(row["share_rgb"] == pytest.approx(0.5) and row["weight_rgb"] > row["weight_ir"] for row in rows)


def results_of(trainer):
    return read_csv(trainer.save_dir / "results.csv")


@pytest.mark.slow
@pytest.mark.parametrize(("select", "best"), [("mean", 1), ("worst", 2)])
def test_the_best_checkpoint_is_the_one_that_the_selection_asks_for(demo_section, tmp_path, scored, select, best):
    values = {
        0: {("rgb",): 0.1, ("ir",): 0.3, ("rgb", "ir"): 0.9},
        1: {("rgb",): 0.2, ("ir",): 0.7, ("rgb", "ir"): 0.8},
        2: {("rgb",): 0.3, ("ir",): 0.3, ("rgb", "ir"): 0.5},
    }
    scored(lambda epoch: values[2 if epoch is None else epoch])
    trainer = run(MWAMTrainer, demo_section, tmp_path, mwam=False, select={"select": select}, epochs=3)
    assert trainer.stopper.best_epoch == best + 1
    expected = {"mean": 1.7 / 3, "worst": 0.3}[select]
    assert trainer.best_fitness == pytest.approx(expected, abs=1e-3)
    rows = results_of(trainer)
    assert [float(row["metrics/mAP50(rgb)"]) for row in rows] == [0.1, 0.2, 0.3]
    assert [float(row["metrics/mAP50(ir)"]) for row in rows] == [0.3, 0.7, 0.3]


@pytest.mark.slow
def test_combinations_are_validated_every_so_many_epochs_and_only_these_can_be_the_best(demo_section, tmp_path, scored):
    values = [0.1, 0.9, 0.3, 0.2]
    scored(lambda epoch: dict.fromkeys([("rgb",), ("ir",), ("rgb", "ir")], values[epoch or 0]))
    selection = {"select": "mean", "every": 2}
    trainer = run(MWAMTrainer, demo_section, tmp_path, mwam=False, select=selection, epochs=4)
    rows = [float(row["metrics/mAP50(rgb)"]) for row in results_of(trainer)]
    assert rows == [0.1, 0.1, 0.3, 0.2], "what is not measured stays as it was; the last epoch counts whenever it comes"
    assert trainer.stopper.best_epoch == 3 and trainer.best_fitness == pytest.approx(0.3)


@pytest.mark.slow
def test_epochs_that_are_left_out_are_no_epochs_without_progress(demo_section, tmp_path, scored):
    values = [0.1, 0.9, 0.3, 0.9, 0.2, 0.9]
    scored(lambda epoch: dict.fromkeys([("rgb",), ("ir",), ("rgb", "ir")], values[epoch or 0]))
    selection = {"select": "worst", "every": 2}
    trainer = run(MWAMTrainer, demo_section, tmp_path, mwam=False, select=selection, epochs=6, patience=1)
    assert [row["epoch"] for row in results_of(trainer)] == ["1", "2", "3", "4", "5"]
    assert trainer.stopper.best_epoch == 3


@pytest.mark.slow
def test_patience_is_a_number_of_epochs_that_count(demo_section, tmp_path, scored):
    values = [0.3, 0.9, 0.2, 0.9, 0.1, 0.9, 0.1, 0.9]
    scored(lambda epoch: dict.fromkeys([("rgb",), ("ir",), ("rgb", "ir")], values[epoch or 0]))
    selection = {"select": "mean", "every": 2}
    trainer = run(MWAMTrainer, demo_section, tmp_path, mwam=False, select=selection, epochs=8, patience=2)
    assert len(results_of(trainer)) == 5, "epochs 3 and 5 count, and are no better than the first"
    assert trainer.stopper.best_epoch == 1


@pytest.mark.slow
def test_where_one_modality_finds_nothing_the_mean_decides_between_equally_bad_epochs(demo_section, tmp_path, scored):
    values = [0.2, 0.5, 0.3]
    scored(lambda epoch: {("rgb",): 0.0, ("ir",): values[epoch or 0], ("rgb", "ir"): 0.4})
    trainer = run(MWAMTrainer, demo_section, tmp_path, mwam=False, select={"select": "worst"}, epochs=3)
    assert trainer.stopper.best_epoch == 2


@pytest.mark.slow
def test_a_run_without_selection_validates_as_ultralytics_does(demo_section, tmp_path):
    trainer = run(MWAMTrainer, demo_section, tmp_path)
    assert type(trainer.validator).__name__ == "MultimodalValidator"
    assert not any("(rgb)" in column for column in results_of(trainer)[0])


@pytest.mark.slow
def test_a_contradiction_that_lasts_is_told_once_with_both_figures(demo_section, tmp_path, scored, log):
    scored({("ir",): 0.01, ("rgb",): 0.5, ("rgb", "ir"): 0.6})
    mwam = {"mode": "observe"}
    trainer = run(MWAMTrainer, demo_section, tmp_path, mwam=mwam, select={"select": "mean"}, epochs=5)
    assert trainer.mwam.last.share["ir"] > trainer.mwam.last.share["rgb"], "the set is not what the test needs"
    said = [text for level, text in log if "MWAM measures" in text]
    assert len(said) == 1
    assert all(part in said[0] for part in ("mAP50 0.500", "0.010", "mwam.rule=ac_ratio", "3 validations in a row"))


# Incomplete views


class Watching(MWAMTrainer):
    """Keeps how each step sees its mini-batch."""

    def preprocess_batch(self, batch):
        batch = super().preprocess_batch(batch)
        self.__dict__.setdefault("seen", []).append(batch.get(VIEWS))
        return batch


@pytest.mark.slow
def test_samples_lack_one_modality_and_never_both(demo_section, tmp_path):
    trainer = run(Watching, demo_section, tmp_path, mwam=False, incomplete={"views": 1}, epochs=8)
    rgb, ir = (torch.cat([~views.present[name][0] for views in trainer.seen]) for name in ("rgb", "ir"))
    assert len(rgb) == 64 and not (rgb & ir).any()
    assert 8 <= rgb.sum() <= 26 and 8 <= ir.sum() <= 26


@pytest.mark.slow
def test_views_begin_where_they_are_asked_to_and_before_that_the_run_is_as_without(demo_section, tmp_path):
    without = run(MWAMTrainer, demo_section, tmp_path / "without", mwam=False, epochs=4)
    trainer = run(Watching, demo_section, tmp_path / "late", mwam=False, incomplete={"start": 0.5}, epochs=4)
    assert [views is not None for views in trainer.seen] == [False] * 4 + [True] * 4
    assert trainer.losses[:4] == without.losses[:4] and trainer.losses[4] != without.losses[4]


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2])
def test_epochs_before_the_views_are_no_rivals_of_those_with_them(demo_section, tmp_path, scored, every):
    values = [0.9, 0.8, 0.7, 0.1, 0.3, 0.2]
    scored(lambda epoch: dict.fromkeys([("rgb",), ("ir",), ("rgb", "ir")], values[epoch or 0]))
    arguments = {"incomplete": {"start": 0.5}, "select": {"select": "mean", "every": every}, "patience": 2}
    trainer = run(MWAMTrainer, demo_section, tmp_path, mwam=False, epochs=6, **arguments)
    assert len(results_of(trainer)) == 6, "patience counts before the views"
    assert trainer.best_fitness == pytest.approx(0.3) and trainer.stopper.best_epoch == 5


@pytest.mark.slow
@pytest.mark.parametrize("off", [False, None])
def test_complete_input_alone_is_the_stock_trainer_bit_for_bit(demo_section, tmp_path, stock, off):
    ours = run(MWAMTrainer, demo_section, tmp_path, mwam=False, incomplete=off)
    assert ours.losses == stock.losses


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"mwam": {"mode": "update"}, "incomplete": True},
        {"mwam": {"mode": "hybrid"}, "incomplete": {"weights": "mwam", "distill": 0.5}},
        {"mwam": {"mode": "loss"}, "incomplete": {"views": 2, "level": "input"}},
        {"mwam": False, "incomplete": True, "share_backbone": True, "fusion": "late"},
        {"mwam": True, "incomplete": {"views": 2}, "multi_scale": 0.5, "optimizer": "MuSGD"},
        {"mwam": True, "incomplete": True, "freeze": ["rgb"], "model": "yolo26n.yaml"},
        {"mwam": {"mode": "hybrid"}, "incomplete": {"checkpoint": True, "distill": 0.5}},
    ],
    ids=["update", "hybrid", "input", "shared", "multi_scale", "freeze", "checkpoint"],
)
@pytest.mark.filterwarnings("ignore:MuSGD rescales")
def test_views_go_with_all_that_shapes_a_step(demo_section, tmp_path, arguments):
    trainer = run(Watching, demo_section, tmp_path, **arguments)
    assert all(views is not None for views in trainer.seen)
    assert all(torch.isfinite(torch.tensor(trainer.losses))) and trainer.best.is_file()
    saved = torch.load(trainer.best, weights_only=False)["model"]
    assert not any(own._forward_hooks or own._forward_pre_hooks for own in saved.modules())


@pytest.mark.slow
def test_views_survive_the_recovery_from_a_nan_loss(demo_section, tmp_path):
    Struck = struck_once()
    arguments = {"incomplete": {"views": 2}, "batch": 8, "nbs": 8, "epochs": 3, "warmup_epochs": 0}
    trainer = run(Struck, demo_section, tmp_path, **arguments)
    assert Struck.struck and all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    hooks = sum(len(own._forward_pre_hooks) for own in trainer.model.modules())
    fresh = run(MWAMTrainer, demo_section, tmp_path / "fresh", **arguments)
    assert hooks == sum(len(own._forward_pre_hooks) for own in fresh.model.modules()) > 0


@pytest.mark.slow
def test_mwam_measures_complete_images_whatever_a_step_sees(demo_section, tmp_path):
    alone = run(MWAMTrainer, demo_section, tmp_path, mwam={"mode": "observe"}, epochs=1)
    for level in ("features", "input"):
        arguments = {"mwam": {"mode": "observe"}, "incomplete": {"views": 1, "p": 1.0, "level": level}, "epochs": 1}
        dropped = run(MWAMTrainer, demo_section, tmp_path, **arguments)
        assert [row["frm_rgb"] for row in rows_of(alone)] == [row["frm_rgb"] for row in rows_of(dropped)]
        assert alone.losses != dropped.losses


@pytest.mark.slow
def test_mwams_weights_let_the_preferred_modality_be_missing_more_often(demo_section, tmp_path):
    arguments = {"mwam": {"mode": "observe", "lam": 50.0}, "incomplete": {"views": 1, "p": 1.0, "weights": "mwam"}}
    trainer = run(Watching, demo_section, tmp_path, epochs=8, **arguments)
    rgb, ir = (torch.cat([~views.present[name][0] for views in trainer.seen]) for name in ("rgb", "ir"))
    preferred, other = (ir, rgb) if trainer.mwam.last.share["ir"] > 1 else (rgb, ir)
    assert preferred.sum() > 1.5 * other.sum()


@pytest.mark.slow
def test_gradients_of_auxiliary_heads_are_clipped_with_those_of_the_model(demo_section, tmp_path):
    norms = []

    class Measuring(MWAMTrainer):
        def build_optimizer(self, *args, **kwargs):
            optimizer = super().build_optimizer(*args, **kwargs)
            optimizer.register_step_pre_hook(lambda own, *rest: norms.append(self.norm_of(own)))
            return optimizer

        def norm_of(self, optimizer):
            own = {id(p) for p in self.heads.parameters()}
            grads = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            parts = [[p.grad for p in grads if (id(p) in own) is heads] for heads in (False, True)]
            return [torch.nn.utils.get_total_norm(part).item() for part in parts]

    trainer = run(Measuring, demo_section, tmp_path, mwam={"mode": "loss"}, nbs=4, epochs=1)
    assert len(norms) == 2
    for model, heads in norms:
        assert heads > 0.1 and (model**2 + heads**2) ** 0.5 <= 10.01
    assert trainer.ema.updates == 2


@pytest.mark.slow
def test_the_weights_of_classes_are_those_of_auxiliary_heads_too(demo_section, tmp_path):
    trainer = at_start(demo_section, tmp_path, mwam={"mode": "loss"}, cls_pw=0.5)
    criteria = [unwrap_model(trainer.model).init_criterion(), *trainer.heads._criteria.values()]
    weights = [criterion.class_weights.flatten().tolist() for criterion in criteria]
    assert len(weights) == 3 and weights[0] == weights[1] == weights[2] and len(set(weights[0])) > 1


@pytest.mark.slow
def test_gradients_of_the_streams_from_all_views_are_scaled_by_k_and_no_others_are(demo_section, tmp_path):
    def gradients(mwam):
        trainer = at_start(demo_section, tmp_path, mwam=mwam, incomplete=True)
        found = trainer.preprocess_batch(batch_of_bytes())
        trainer.model(found)[0].sum().backward()
        return trainer, {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}

    _, plain = gradients(False)
    trainer, scaled = gradients({"mode": "gradient"})
    weights = {name: float(weight) for name, weight in trainer.mwam.weights.items()}
    assert weights["rgb"] != weights["ir"]
    factor = {id(p): weights[name] for name, own in streams_of(trainer.model).items() for p in own.parameters()}
    names = dict(trainer.model.named_parameters())
    for name, gradient in plain.items():
        expected = gradient * factor.get(id(names[name]), 1.0)
        torch.testing.assert_close(scaled[name], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_observing_changes_nothing_in_the_training(demo_section, tmp_path):
    observed = run(MWAMTrainer, demo_section, tmp_path, mwam={"mode": "observe"})
    assert observed.losses == run(MWAMTrainer, demo_section, tmp_path, mwam=False).losses
    assert rows_of(observed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"incomplete": {"views": 1, "p": 2}}, "p=2 must be a number in"),
        ({"incomplete": {"q": 1}}, "unknown key 'q'"),
        ({"incomplete": "yes"}, "incomplete='yes' must be true, false or a mapping"),
        ({"incomplete": {"weights": "mwam"}, "mwam": False}, "mwam.mode=observe"),
        ({"incomplete": {"views": 4}}, "have 3 combinations; use all"),
        ({"select": {"select": "best"}}, "select='best' must be one of full, mean, worst"),
        ({"select": {"select": "mean", "every": 0}}, "every=0"),
        ({"select": {"select": "mean"}, "val": False}, "select=mean goes by the validations"),
        ({"mwam": {"preference": "measured"}, "val": False}, "mwam.preference=measured goes by the validations"),
    ],
)
def test_a_mistake_about_missing_modalities_costs_no_run_folder(demo_section, tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        run(MWAMTrainer, demo_section, tmp_path, **arguments)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"incomplete": {}}, "set compile=false or incomplete=false"),
        ({"balancing": {"method": "agm"}, "mwam": False}, "set compile=false or balancing=false"),
        ({"mwam": {"mode": "loss"}}, "mwam.mode=loss and hybrid train without compile"),
        ({"mwam": {"mode": "hybrid"}}, "mwam.mode=loss and hybrid train without compile"),
    ],
)
def test_what_acts_on_the_loss_is_refused_where_that_is_taken_outside_of_the_model(
    demo_section, tmp_path, arguments, words
):
    with pytest.raises(NotImplementedError, match=words):
        run(MWAMTrainer, demo_section, tmp_path, compile=True, **arguments)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_model_that_finds_nothing_yet_is_no_measurement(demo_section, tmp_path):
    trainer = run(MWAMTrainer, demo_section, tmp_path, mwam={"preference": "measured"}, epochs=1)
    assert trainer.mwam.last is None and not trainer.mwam.bank.values


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_half_precision_on_a_gpu_trains_without_a_download(demo_section, tmp_path):
    trainer = run(MWAMTrainer, demo_section, tmp_path, device="0", amp=True)
    assert trainer.amp and trainer.scaler.is_enabled() and trainer.args.amp is True
    assert all(torch.isfinite(torch.tensor(trainer.losses)))
    assert len(rows_of(trainer)) == 4


# Options of Ultralytics that touch the training loop


def check_mwam(trainer, epochs):
    """Check that bank and history agree, all is finite, and each parameter of a stream is scaled exactly once."""
    rows = rows_of(trainer)
    assert sorted({row["epoch"] for row in rows}) == list(range(1, epochs + 1))
    assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
    for before, row in zip(rows, rows[1:], strict=False):
        for name in ("rgb", "ir"):
            assert row[f"bank_{name}"] == pytest.approx(0.5 * before[f"bank_{name}"] + 0.5 * row[f"frm_{name}"])
    assert trainer.mwam.last.bank == pytest.approx({name: rows[-1][f"bank_{name}"] for name in ("rgb", "ir")})
    hooks = {name: len(p._backward_hooks or {}) for name, p in unwrap_model(trainer.model).named_parameters()}
    hooked = {id(p) for stream in streams_of(trainer.model).values() for p in stream.parameters()}
    for name, parameter in unwrap_model(trainer.model).named_parameters():
        assert hooks[name] == (id(parameter) in hooked and parameter.requires_grad), name
        assert parameter.isfinite().all(), name
    assert all(torch.isfinite(torch.tensor(trainer.losses)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [{"multi_scale": 0.5}, {"cos_lr": True}, {"amp": "bf16"}],
    ids=["multi_scale", "cos_lr", "bf16"],
)
def test_what_ultralytics_does_to_the_loop_leaves_what_mwam_measures_alone(
    trained, demo_section, tmp_path, monkeypatch, arguments
):
    if "amp" in arguments:  # which Ultralytics allows on a GPU alone
        monkeypatch.setattr("mwam_det.engine.trainer.check_precision", lambda *args: None)
        lower = torch.autocast("cpu", torch.bfloat16)
        monkeypatch.setattr("ultralytics.engine.trainer.autocast", lambda *args, **kwargs: lower)
    trainer = run(MWAMTrainer, demo_section, tmp_path, **arguments)
    check_mwam(trainer, 2)
    assert [row["frm_rgb"] for row in rows_of(trainer)][0] == rows_of(trained)[0]["frm_rgb"]


@pytest.mark.slow
def test_a_timed_run_ends_with_whole_epochs_in_its_history(demo_section, tmp_path):
    trainer = run(MWAMTrainer, demo_section, tmp_path, time=1e-9, epochs=50)
    assert trainer.epoch == 0
    check_mwam(trainer, 1)


@pytest.mark.slow
def test_recovery_from_nan_and_a_smaller_batch_leave_one_hook_each(demo_section, tmp_path):
    Struck = struck_once()

    class Tight(Struck):
        def preprocess_batch(self, batch):
            if self.batch_size == 8 and self._ready:
                raise RuntimeError("CUDA out of memory")
            return super().preprocess_batch(batch)

    trainer = run(Tight, demo_section, tmp_path, batch=8, nbs=4, epochs=3, warmup_epochs=0)
    assert trainer.batch_size == 4 and Struck.struck
    trainer.losses = trainer.losses[-2:]  # one before was NaN, as it should
    check_mwam(trainer, 3)


@pytest.mark.slow
def test_a_compiled_model_is_scaled_as_the_plain_one(demo_section, tmp_path, monkeypatch):
    compiled, whole = [], torch.compile

    def without_code(model, **kwargs):
        compiled.append(kwargs)
        return whole(model, backend="eager")

    plain = run(MWAMTrainer, demo_section, tmp_path, nbs=4)
    monkeypatch.setattr(torch, "compile", without_code)
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "none is needed")
    trainer = run(MWAMTrainer, demo_section, tmp_path, compile=True, nbs=4)
    assert compiled
    check_mwam(trainer, 2)
    assert trainer.losses == pytest.approx(plain.losses, rel=1e-3)


def test_a_folder_without_images_is_refused_before_there_is_a_run_folder(demo_section, tmp_path):
    for folder in (f"{kind}/{split}" for kind in ("visible", "infrared", "labels") for split in ("train", "val")):
        (tmp_path / "set" / folder).mkdir(parents=True)
    section = {**demo_section, "path": str(tmp_path / "set")}
    with pytest.raises(DatasetError, match="there is no image of rgb in .*train"):
        MWAMTrainer(overrides={**SHORT, "data": section, "project": str(tmp_path / "runs")})
    assert not (tmp_path / "runs").exists()
