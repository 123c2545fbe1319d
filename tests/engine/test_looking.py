"""What training says of its files, and when."""

import cv2
import numpy as np
import pytest
from inspections import write_pairs
from training import run

from mwam_det import MWAMTrainer
from mwam_det.engine import trainer as trainer_module
from mwam_det.engine.tasks import TASK_CLASSES


@pytest.fixture
def dark_section(tmp_path):
    """The data section of pairs whose infrared files have 16 bits, of which a few are used."""
    return write_pairs(tmp_path / "set", ir=lambda image, number: 29_000 + 8 * image.astype(np.uint16))


def said(log):
    return [text for level, text in log if level == "WARNING" and "ir fills only levels" in text]


@pytest.mark.slow
def test_training_says_once_what_spoils_it_and_not_again_on_resume(dark_section, tmp_path, log):
    trainer = run(MWAMTrainer, dark_section, tmp_path, epochs=1)
    assert len(said(log)) == 1
    assert "'range: {ir: [2" in said(log)[0]
    log.clear()
    trainer._build_train_pipeline()  # as after a batch that did not fit into memory
    assert said(log) == []

    class Stopped(MWAMTrainer):
        def save_model(self):
            saved = super().save_model()
            if self.epoch == 0:
                raise KeyboardInterrupt
            return saved

    with pytest.raises(KeyboardInterrupt):
        run(Stopped, dark_section, tmp_path / "two", epochs=2)
    assert len(said(log)) == 1
    log.clear()
    run(MWAMTrainer, dark_section, tmp_path / "two", epochs=2, resume=str(tmp_path / "two/run/weights/last.pt"))
    assert said(log) == []


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "sentences"), [(-1, 1), (0, 1), (1, 0)])
def test_of_several_processes_the_first_one_speaks(dark_section, tmp_path, log, monkeypatch, rank, sentences):
    arguments = {"data": dark_section, "model": "yolov8n.yaml", "device": "cpu", "workers": 0, "plots": False}
    trainer = MWAMTrainer(overrides={**arguments, "imgsz": 64, "batch": 4, "project": str(tmp_path)})
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_look_at_pairs", lambda: None)
        trainer._setup_train()
    monkeypatch.setattr(trainer_module, "RANK", rank)
    trainer._look_at_pairs()
    assert len(said(log)) == sentences


def test_a_classifier_does_not_mind_where_its_pictures_were_taken(tmp_path, log):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("rgb", "ir"):
            for kind in ("cat", "dog"):
                folder = tmp_path / "set" / split / name / kind
                folder.mkdir(parents=True)
                for number in range(4):
                    image = rng.integers(0, 256, (40, 60 if name == "rgb" else 40, 3), np.uint8)
                    assert cv2.imwrite(str(folder / f"{number}.png"), image)
    section = {
        "path": str(tmp_path / "set"),
        "modalities": {"rgb": "{split}/rgb", "ir": "{split}/ir"},
        "train": "train",
        "val": "val",
    }
    trainer = TASK_CLASSES["classify"].trainer(
        overrides={
            "task": "classify",
            "model": "yolov8n-cls.yaml",
            "data": section,
            "imgsz": 32,
            "batch": 4,
            "device": "cpu",
            "workers": 0,
            "plots": False,
            "project": str(tmp_path),
        }
    )
    trainer._setup_train()
    found = [text for level, text in log if level == "WARNING" and ("aspect ratio" in text or "edges" in text)]
    assert len(found) == 1
    assert "ir has another aspect ratio than rgb in 16 of 16 pairs" in found[0]
    assert "align" not in found[0]
