"""A model that was trained on every combination of modalities, wherever it is then used."""

from pathlib import Path

import pytest
import torch
from incomplete_of_a_rank import gradients_alone, gradients_of_a_rank
from torch import multiprocessing as mp
from training import run
from ultralytics import YOLO
from untrained import folders, make_set, untrained

from mwam_det import MultimodalYOLO, MWAMTrainer
from mwam_det.models.replay import FeatureTap, run_stream_on_zeros

QUIET = {"imgsz": 64, "verbose": False, "device": "cpu"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model, and a set whose labels are some of what it finds, so that it scores."""
    folder = tmp_path_factory.mktemp("trained")
    section = make_set(folder / "set")
    start = untrained(folder / "start.pt")
    trainer = run(MWAMTrainer, section, folder, model=str(start), mwam=False, incomplete=True, nbs=4, warmup_epochs=0)
    model = MultimodalYOLO(trainer.best)
    for result in model.predict(folders(section), rect=False, conf=0.05, **QUIET):
        label = Path(section["path"]) / "labels" / "val" / f"{Path(result.path).stem}.txt"
        label.unlink()
        result[:5].save_txt(label)
    return model, section


@pytest.mark.slow
def test_report_validations_and_the_exported_file_agree_on_every_combination(trained, tmp_path):
    pytest.importorskip("onnx", reason="needs the extra 'export'")
    pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    model, section = trained
    shared = {"data": section, "imgsz": 64, "batch": 4, "rect": False, "project": str(tmp_path), "plots": False}
    report = model.robustness(**shared)
    exported = MultimodalYOLO(MultimodalYOLO(model.ckpt_path).export(format="onnx", imgsz=64, simplify=False))
    of_file = exported.robustness(**{**shared, "batch": 1})
    scores = {result.available: result.metrics["mAP50"] for result in report.results}
    assert len(scores) == 3 and scores["rgb", "ir"] > 0.2
    for available, score in scores.items():
        missing = [name for name in ("rgb", "ir") if name not in available]
        assert model.val(missing=missing, verbose=False, **shared).box.map50 == pytest.approx(score, abs=1e-6)
    for result in of_file.results:
        assert result.metrics["mAP50"] == pytest.approx(scores[result.available], abs=1e-3)


@torch.no_grad()
def test_what_stood_in_for_a_modality_is_what_plain_ultralytics_makes_of_zeros(trained):
    model = trained[0]
    plain = YOLO(model.ckpt_path).model.double().eval()
    ours = MultimodalYOLO(model.ckpt_path).model.double().train()
    images = torch.rand(2, 6, 64, 96).double()
    images[:, 3:] = 0
    with FeatureTap(plain) as tap:
        plain(images)
        expected = tap.take()["ir"]
    for own, level in zip(run_stream_on_zeros(ours, "ir", images), expected, strict=True):
        assert level.abs().max() > 1e-3
        torch.testing.assert_close(own.expand_as(level), level, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_with_the_same_global_batch(tmp_path):
    if not torch.distributed.is_available():
        pytest.skip("this torch is built without torch.distributed")
    mp.spawn(gradients_of_a_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    expected = gradients_alone()
    assert first.keys() == second.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(first[name], second[name]), name
        assert (first[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-6, name
