"""RT-DETR takes images stretched to a square and puts out shares of them; the rest is as for any detector."""

import csv
import math
from pathlib import Path

import pytest
import torch
import yaml
from training import SHORT
from ultralytics.cfg import get_cfg
from ultralytics.models.rtdetr.val import RTDETRDataset
from ultralytics.nn.tasks import RTDETRDetectionModel
from untrained import TINY, folders, make_set

from mwam_det import MultimodalYOLO, MWAMTrainer
from mwam_det.data.build import build_paired_dataset
from mwam_det.data.section import resolve_dataset
from mwam_det.engine.experiment import UltralyticsExperiment
from mwam_det.engine.tasks import MWAMRTDETRTrainer
from mwam_det.models.two_stream import FUSIONS

QUERIES = 20
WIDE = {"size": (48, 128), "infrared": (40, 80)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tests' small detector with a decoder of one layer for its head."""
    description = yaml.safe_load(Path(TINY).read_text())
    description["head"][-1] = [[3, 8, 5], 1, "RTDETRDecoder", ["nc", 32, QUERIES, 4, 4, 1]]
    file = tmp_path_factory.mktemp("model") / "tiny-rtdetr.yaml"
    file.write_text(yaml.safe_dump(description))
    return str(file)


def arguments(folder, **others):
    return {**SHORT, "epochs": 1, "project": str(folder), "name": "run", **others}


def test_pairs_are_stretched_and_labelled_as_stock_rt_detr_has_them(tmp_path):
    section, args = make_set(tmp_path, **WIDE), get_cfg(overrides={"imgsz": 64, "task": "detect"})
    data, files = resolve_dataset(section).as_dict(), folders(section)["rgb"]
    paired = build_paired_dataset(args, files, 2, data, "val", rect=True, stride=32, stretch=True)
    (tmp_path / "images").symlink_to(tmp_path / "rgb")  # where stock finds labels
    described = {"names": {0: "car"}, "nc": 1, "channels": 3}
    stock = RTDETRDataset(
        str(tmp_path / "images" / "val"), imgsz=64, augment=False, hyp=args, rect=False, data=described
    )
    assert len(stock) == len(paired) == 4
    for ours, theirs in zip(paired, stock, strict=True):
        assert ours["img"].shape == (6, 64, 64)
        assert torch.equal(ours["img"][:3], theirs["img"])
        assert torch.equal(ours["bboxes"], theirs["bboxes"])
        assert ours["ratio_pad"] == theirs["ratio_pad"]


@pytest.mark.slow
@pytest.mark.parametrize("fusion", FUSIONS)
def test_it_trains_reports_and_predicts_where_validation_finds(fusion, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = make_set(tmp_path, **WIDE)
    model = MultimodalYOLO(tiny, fusion=fusion)
    model.train(data=section, incomplete={"views": 2}, **arguments(tmp_path, model=tiny))
    assert isinstance(model.trainer, MWAMRTDETRTrainer) and isinstance(model.model, RTDETRDetectionModel)
    losses = next(csv.DictReader((tmp_path / "run" / "results.csv").open()))
    assert all(math.isfinite(float(losses[f"train/{name}"])) for name in ("giou_loss", "cls_loss", "l1_loss"))
    assert (tmp_path / "run" / "robustness.json").is_file()

    found = {}

    class Watching(model.task_map["detect"]["validator"]):
        def update_metrics(self, preds, batch):
            for place, file in enumerate(batch["im_file"]):
                found[file] = self.scale_preds(preds[place], self._prepare_batch(place, batch))["bboxes"]
            super().update_metrics(preds, batch)

    common = {"imgsz": 64, "conf": 0.0, "max_det": QUERIES, "device": "cpu", "verbose": False}
    model.val(Watching, data=section, plots=False, workers=0, batch=2, **common)
    results = model.predict(folders(section), batch=2, **common)
    assert len(results) == 4
    for result in results:
        assert len(result.boxes) == QUERIES
        expected = found[result.path]
        inside = torch.minimum(result.boxes.xyxy, torch.tensor([128.0, 48, 128, 48])).clamp(0)
        assert torch.allclose(inside, expected, atol=1e-2)


@pytest.mark.slow
def test_an_exported_file_knows_that_it_stretches(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = make_set(tmp_path, **WIDE)
    model = MultimodalYOLO(tiny)
    model.train(data=section, robustness=False, **arguments(tmp_path, model=tiny))
    best = MultimodalYOLO(tmp_path / "run" / "weights" / "best.pt")
    exported = MultimodalYOLO(best.export(format="torchscript", imgsz=64))
    assert type(best) is type(exported) is MultimodalYOLO
    common = {"imgsz": 64, "conf": 0.0, "device": "cpu", "verbose": False}
    for one, other in zip(*(each.predict(folders(section), **common) for each in (best, exported)), strict=True):
        assert torch.allclose(one.boxes.data, other.boxes.data, atol=1e-2)
    by_file = [
        [
            found.metrics["mAP50"]
            for found in each.robustness(
                section, save_dir=tmp_path / "report", plots=False, workers=0, device="cpu"
            ).results
        ]
        for each in (best, exported)
    ]
    assert by_file[0] == pytest.approx(by_file[1], abs=1e-4)


@pytest.mark.parametrize(("trainer", "is_tiny"), [(MWAMTrainer, True), (MWAMRTDETRTrainer, False)])
def test_a_trainer_for_other_models_is_refused(trainer, is_tiny, tiny, tmp_path):
    section = make_set(tmp_path)
    own = trainer(overrides={**arguments(tmp_path, model=tiny), "model": tiny if is_tiny else TINY, "data": section})
    with pytest.raises(TypeError, match="RT-DETR"):
        own.setup_model()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"incomplete": {"distill": 0.2}}, "queries of RT-DETR have no fixed positions"),
        ({"mwam": {"mode": "hybrid"}}, "mwam.mode=hybrid puts a YOLO head on each backbone"),
    ],
)
def test_what_only_other_detectors_have_is_refused_before_training(asked, words, tiny, tmp_path):
    section = make_set(tmp_path / "set")
    with pytest.raises(NotImplementedError, match=words):
        MultimodalYOLO(tiny).train(data=section, **arguments(tmp_path, model=tiny, **asked))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("asked", [{"incomplete": {"distill": 0.2}}, {"mwam": {"mode": "hybrid"}}])
def test_a_recipe_that_asks_for_what_only_other_detectors_have_is_refused_when_read(asked, tmp_path):
    content = {"model": "rtdetr-l.yaml", "data": make_set(tmp_path), **asked}
    with pytest.raises(ValueError, match="RT-DETR"):
        UltralyticsExperiment.from_dict("run", content)
