"""What Ultralytics' loggers are told of MWAM."""

from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from tables import read_csv
from training import SHORT, run

from mwam_det import MWAMTrainer


@pytest.fixture
def tensorboard(monkeypatch):
    """Ultralytics' own TensorBoard callbacks, which write to a dictionary: value by (tag, step)."""
    from ultralytics.utils import SETTINGS
    from ultralytics.utils.callbacks import tensorboard as stock

    written = {}

    class Writer:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, tag, value, step):
            written[tag, step] = value

        def add_graph(self, *args):
            pass

        def close(self):
            pass

    monkeypatch.setattr(stock, "SummaryWriter", Writer, raising=False)
    monkeypatch.setattr(stock, "WRITER", None, raising=False)  # none of them is there without TensorBoard
    monkeypatch.setattr(stock, "PREFIX", "TensorBoard: ", raising=False)
    events = ("on_pretrain_routine_start", "on_fit_epoch_end", "on_train_epoch_end", "teardown")
    monkeypatch.setattr(stock, "callbacks", {event: getattr(stock, event) for event in events})
    monkeypatch.setitem(SETTINGS, "tensorboard", True)
    return written


@pytest.mark.slow
@pytest.mark.parametrize("val", [True, False])
def test_tensorboard_shows_the_epoch_means_of_mwam_csv_and_results_csv_stays_ultralytics_own(
    tensorboard, demo_section, tmp_path, val
):
    trainer = run(MWAMTrainer, demo_section, tmp_path, val=val)
    rows = read_csv(trainer.save_dir / "mwam.csv")
    for epoch in (1, 2):
        for quantity in ("frm", "share", "weight"):
            for name in ("rgb", "ir"):
                mean = fmean(float(r[f"{quantity}_{name}"]) for r in rows if r["epoch"] == str(epoch))
                assert tensorboard[f"mwam/{quantity}/{name}", epoch] == pytest.approx(mean, rel=1e-6)
    told = {step for tag, step in tensorboard if tag.startswith("mwam/")}
    assert told == {1, 2}, "the validation of the best checkpoint at the end is no epoch of MWAM"
    assert ("metrics/mAP50(B)", 2) in tensorboard and not any(tag.startswith("mwam/") for tag in trainer.metrics)
    results = read_csv(trainer.save_dir / "results.csv")
    assert len(results) == 2 and not any("mwam" in str(column) for row in results for column in row)
    assert not any("mwam" in key for key in torch.load(trainer.last, weights_only=False)["train_metrics"])


def test_what_a_callback_makes_of_the_metrics_stays(demo_section, tmp_path):
    trainer = MWAMTrainer(overrides={**SHORT, "data": demo_section, "project": str(tmp_path)})
    trainer.metrics, trainer.epoch = {"metrics/mAP50(B)": 0.5}, 0
    replaced = {"mine": 1.0}
    trainer.add_callback("on_fit_epoch_end", lambda t: setattr(t, "metrics", replaced))
    trainer.run_callbacks("on_fit_epoch_end")
    assert trainer.metrics is replaced


def test_a_modality_without_evidence_is_left_out_of_the_means(tmp_path):
    from mwam_det.training.history import MWAMHistory

    history = MWAMHistory(tmp_path / "mwam.csv", ["rgb", "ir"])
    nan = float("nan")
    for frm in (2.0, 4.0):
        known = {"rgb": 1.0, "ir": nan}
        history.append(
            1, SimpleNamespace(frm={"rgb": frm, "ir": 0.0}, bank=known, share=known, weight={"rgb": 1, "ir": 1})
        )
    history.flush()
    expected = {"mwam/frm/rgb": 3.0, "mwam/frm/ir": 0.0, "mwam/share/rgb": 1.0}
    assert history.means(1) == {**expected, "mwam/weight/rgb": 1.0, "mwam/weight/ir": 1.0}
    assert history.means(2) == {}
