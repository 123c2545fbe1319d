import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics.utils.metrics import DetMetrics
from untrained import TINY, awake

from mwam_det import MultimodalYOLO
from mwam_det.data.modality import Modality
from mwam_det.data.section import resolve_dataset
from mwam_det.data.synthetic import CLASS_NAMES, write_demo
from mwam_det.engine.coco import CocoRecord, coco_metrics
from mwam_det.engine.combinations import missing_conditions
from mwam_det.engine.evaluation import ReportingValidator, degradation_conditions, evenly_spaced
from mwam_det.engine.validator import MultimodalValidator
from mwam_det.robustness.degradation import DEGRADATIONS
from mwam_det.robustness.results import RECALLS, Boxes

COMBINATIONS = [("rgb",), ("ir",), ("rgb", "ir")]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = MultimodalYOLO(TINY)
    awake(model.model, channels=6)
    return model


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The data section of a set with some hundred objects to find, in files of an uneven size."""
    folder = write_demo(tmp_path_factory.mktemp("many") / "set", train=1, val=60, size=(70, 123))
    return {
        "path": str(folder), "modalities": {"rgb": "visible", "ir": "infrared"}, "labels": "labels",
        "train": "train", "val": "val", "names": dict(CLASS_NAMES),
    }  # fmt: skip


@pytest.fixture
def guessing(monkeypatch):
    """Let validators find most labels roughly, and things that are not there, whatever the model says."""
    seen, random = {}, np.random.default_rng(0)
    preprocess = MultimodalValidator.preprocess

    def watch(self, batch):
        seen["batch"] = preprocess(self, batch)
        return seen["batch"]

    def guess(self, preds):
        batch, found = seen["batch"], []
        blur = seen.setdefault(id(self), 1 + len(seen))  # worse with every further condition
        for index in range(len(batch["img"])):
            own = self._prepare_batch(index, batch)
            twice = own["bboxes"].repeat(2, 1)  # two guesses for each object
            sides = (twice[:, 2:] - twice[:, :2]).repeat(1, 2)
            corners = twice + torch.from_numpy(random.normal(0, 0.02 * blur, twice.shape)).float() * sides
            classes = own["cls"].repeat(2)
            wrong = torch.from_numpy(random.random(len(classes)) < 0.1)
            classes = torch.where(wrong, 1 - classes.clamp(max=1), classes)
            false = torch.tensor([[0.0, 0.0, 30.0, 20.0]]) + torch.from_numpy(random.normal(0, 2, (1, 4))).float()
            corners, classes = torch.cat([corners, false]), torch.cat([classes, torch.zeros(1)])
            kept = torch.from_numpy(random.random(len(classes)) < 0.8)
            scores = torch.from_numpy(random.uniform(0.01, 1, len(classes))).float()
            order = scores[kept].argsort(descending=True)
            found.append({"bboxes": corners[kept][order], "conf": scores[kept][order], "cls": classes[kept][order]})
        return found

    monkeypatch.setattr(MultimodalValidator, "preprocess", watch)
    monkeypatch.setattr(MultimodalValidator, "postprocess", guess)


def coco_precision(stats):
    """mAP50 and mAP50-95 from Ultralytics' hits, summed up at 101 recalls as COCO does and not by trapezia."""
    order = np.argsort(-stats["conf"], kind="stable")
    averages = []
    for number in np.unique(stats["target_cls"]):
        hits = stats["tp"][order][stats["pred_cls"][order] == number]
        for column in hits.T:
            recall = column.cumsum() / (stats["target_cls"] == number).sum()
            precision = column.cumsum() / np.arange(1, len(column) + 1)
            averages.append(np.mean([precision[recall >= r].max(initial=0) for r in np.linspace(0, 1, 101)]))
    averages = np.reshape(averages, (-1, 10))
    return averages[:, 0].mean(), averages.mean()


@pytest.mark.parametrize("arguments", [{}, {"single_cls": True}, {"classes": [0, 2]}], ids=str)
def test_pycocotools_finds_the_same_hits_as_ultralytics(model, many, tmp_path, guessing, monkeypatch, arguments):
    stats = []
    process = DetMetrics.process

    def watch(self, *args, **kwargs):
        stats.append({key: np.concatenate(values) for key, values in self.stats.items()})
        return process(self, *args, **kwargs)

    monkeypatch.setattr(DetMetrics, "process", watch)
    shared = {"imgsz": 64, "batch": 16, "workers": 0, "device": "cpu", "plots": False, **arguments}
    report = model.robustness(many, save_dir=tmp_path, coco=True, **shared)
    full, *others = stats
    for result, own in zip(report.results, [*others, full], strict=True):
        found = result.coco["mAP50"], result.coco["mAP50-95"]
        assert found == pytest.approx(coco_precision(own), abs=1e-3)  # boxes in the files are rounded


@pytest.mark.slow
def test_pycocotools_measures_what_ultralytics_measures(model, many, tmp_path, guessing):
    report = model.robustness(many, save_dir=tmp_path, imgsz=64, batch=16, workers=0, device="cpu", coco=True)
    assert [result.available for result in report.results] == COMBINATIONS
    values = [result.metrics["mAP50-95"] for result in report.results]
    assert min(values) > 0.1 and max(values) < 0.9 and max(values) - min(values) > 0.1, "there is little to compare"
    for result in report.results:
        for metric in ("mAP50", "mAP50-95"):
            assert result.coco[metric] == pytest.approx(result.metrics[metric], abs=0.005)


def test_the_files_hold_what_was_measured_and_pycocotools_reads_them(model, many, tmp_path, guessing):
    report = model.robustness(many, save_dir=tmp_path, imgsz=64, workers=0, device="cpu", coco=True, plots=False)
    folder = tmp_path / "coco"
    names = ["ground_truth.json", "predictions_ir.json", "predictions_rgb+ir.json", "predictions_rgb.json"]
    assert sorted(file.name for file in folder.iterdir()) == names
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(folder / "ground_truth.json")
        evaluation = COCOeval(truth, truth.loadRes(str(folder / "predictions_ir.json")), "bbox")
        for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
            step()
    measured = next(result for result in report.results if result.available == ("ir",)).coco
    assert evaluation.stats[:2] == pytest.approx([measured["mAP50-95"], measured["mAP50"]], abs=1e-9)
    assert len(truth.imgs) == 60 and truth.imgs[1]["height"] == 70 and truth.imgs[1]["width"] == 123
    assert len(truth.anns) == sum(each.objects for each in report.full.classes)
    assert [category["name"] for category in truth.cats.values()] == list(CLASS_NAMES.values())


def test_labels_in_the_files_are_those_of_the_set_in_pixels_of_its_images(model, many, tmp_path, guessing):
    model.robustness(many, save_dir=tmp_path, imgsz=64, workers=0, device="cpu", coco=True, plots=False)
    truth = json.loads((tmp_path / "coco" / "ground_truth.json").read_text())
    for image in truth["images"][:10]:
        stem = image["file_name"].rsplit(".", 1)[0]
        lines = np.loadtxt(Path(many["path"]) / "labels" / "val" / f"{stem}.txt", ndmin=2)
        x, y, width, height = lines[:, 1:].T * [[123], [70], [123], [70]]
        expected = np.stack([x - width / 2, y - height / 2, width, height], axis=1)
        own = [each for each in truth["annotations"] if each["image_id"] == image["id"]]
        assert np.allclose([each["bbox"] for each in own], expected, atol=0.01)
        assert [each["category_id"] for each in own] == (lines[:, 0] + 1).tolist()


def test_a_combination_in_which_nothing_is_found_scores_0_and_not_nothing():
    record = CocoRecord({0: "car"})
    record.add("a.jpg", (100, 100), Boxes(np.array([[0.0, 0, 50, 50]]), np.zeros(1), np.ones(1)), {})
    metrics = record.metrics(("ir",))
    assert metrics["mAP50"] == metrics["mAP50-95 medium"] == 0 and metrics["mAP50-95 small"] is None


def test_a_split_without_objects_has_no_coco_metrics():
    record = CocoRecord({0: "car"})
    nothing = Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    record.add("a.jpg", (100, 100), nothing, {("ir",): Boxes(np.array([[0.0, 0, 9, 9]]), np.zeros(1), np.ones(1))})
    assert set(record.metrics(("ir",)).values()) == {None}


def test_evaluating_changes_neither_labels_nor_predictions():
    record = CocoRecord({0: "car"})
    one = Boxes(np.array([[0.0, 0, 50, 50]]), np.zeros(1), np.ones(1))
    record.add("a.jpg", (100, 100), one, {("ir",): one})
    before = json.dumps([record.truth, record.predictions[("ir",)]])
    assert coco_metrics(record.truth, record.predictions[("ir",)])["mAP50-95"] == pytest.approx(1)
    assert json.dumps([record.truth, record.predictions[("ir",)]]) == before


def test_more_objects_than_the_protocol_counts_are_noticed():
    record = CocoRecord({0: "car"})
    for count in (100, 101):
        record.add("a.jpg", (9, 9), Boxes(np.ones((count, 4)), np.zeros(count), np.ones(count)), {})
    assert record.crowded == 1


def test_the_report_holds_classes_curves_and_samples_of_every_combination(model, many, tmp_path, guessing):
    data = resolve_dataset(many).as_dict()
    args = {"data": data, "imgsz": 64, "workers": 0, "plots": False, "device": "cpu", "mode": "val", "split": "val"}
    conditions = missing_conditions(data["modalities"])
    validator = ReportingValidator(None, tmp_path, {**args, "conditions": conditions, "samples": 3})
    validator(model=model.model)
    report = validator.report("best.pt", ["A sentence."])
    assert (report.weights, report.notes, report.images, report.visible) == ("best.pt", ("A sentence.",), 60, "rgb")
    for result in report.results:
        box = validator.by_combination[result.available].box
        assert [each.metrics["mAP50"] for each in result.classes] == pytest.approx(list(box.ap50))
        curve = np.interp(RECALLS, box.px, np.asarray(box.prec_values).mean(0))
        assert result.precision == pytest.approx(list(curve))
        assert np.mean(result.precision) == pytest.approx(result.metrics["mAP50"], abs=0.02)
    assert len(report.samples) == 3
    for sample in report.samples:
        assert set(sample.found) == set(COMBINATIONS) and set(sample.images) == {"rgb", "ir"}
        height, width = sample.images["rgb"].shape[:2]
        assert width == 64 and height == math.ceil(70 * 64 / 123)  # no border of the letterbox
        assert sample.images["rgb"].std() > 5 and len(sample.labels.classes)
        assert sample.labels.coordinates.min() > -1 and sample.labels.coordinates[:, 3].max() < height + 1


def test_every_degradation_that_suits_a_modality_is_tried_in_every_severity():
    modalities = (Modality("rgb", visible=True), Modality("ir", start=3))
    degraded = [condition.degraded for condition in degradation_conditions(modalities, True)]
    assert ("rgb", "fog", 5) in degraded and ("ir", "thermal_fog", 1) in degraded and ("ir", "noise", 3) in degraded
    assert not any(name == "fog" for modality, name, _ in degraded if modality == "ir")
    rgb = sum(each.suits in ("rgb", "any") for each in DEGRADATIONS.values())
    ir = sum(each.suits in ("thermal", "any") for each in DEGRADATIONS.values())
    assert len(degraded) == len(set(degraded)) == 5 * (rgb + ir)
    assert degradation_conditions(modalities, False) == []
    assert degradation_conditions(modalities, "fog") == degradation_conditions(modalities, ["fog"])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["mist"], "unknown degradation mist: choose from darkness"),
        ("fog", "fog suits none of ir: choose from thermal"),
    ],
)
def test_degradations_that_cannot_be_are_refused(names, words):
    with pytest.raises(ValueError, match=words):
        degradation_conditions([Modality("ir")], names)


@pytest.mark.slow
def test_degradations_and_fills_reach_the_report(model, demo_section, tmp_path):
    shared = {"imgsz": 64, "workers": 0, "device": "cpu"}
    report = model.robustness(demo_section, save_dir=tmp_path, degradations=["noise"], fill="noise", **shared)
    assert [(r.modality, r.severity) for r in report.degradations] == [
        (m, s) for m in ("rgb", "ir") for s in range(1, 6)
    ]
    assert report.fill == "noise" and (tmp_path / "robustness_degradations.png").is_file()
    assert json.loads((tmp_path / "robustness.json").read_text())["missing_input"] == "noise"


def test_without_plots_there_are_no_pictures(model, demo_section, tmp_path):
    model.robustness(demo_section, save_dir=tmp_path, imgsz=64, workers=0, device="cpu", plots=False)
    assert not [file for file in tmp_path.rglob("*") if file.suffix in (".png", ".jpg")]


@pytest.mark.parametrize("arguments", [{"fill": "grey"}, {"degradations": ["mist"]}], ids=str)
def test_unknown_fills_and_degradations_are_refused_with_the_choices(model, demo_section, tmp_path, arguments):
    with pytest.raises(ValueError, match="choose from"):
        model.robustness(demo_section, save_dir=tmp_path / "run", imgsz=64, **arguments)
    assert not (tmp_path / "run").exists()


def test_samples_are_spread_over_the_whole_split():
    assert evenly_spaced([str(number) for number in range(100)], 4) == ["12", "37", "62", "87"]
    assert evenly_spaced(["a", "b"], 6) == ["a", "b"] and evenly_spaced(["a"], 0) == []


# Splits of several folders, or of listed images -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "places", [["visible/val/0000.jpg", "visible/val/0001.jpg"], ["train", "val"], ["a.txt", "b.txt"]]
)
def test_a_split_that_is_no_single_folder_is_evaluated(model, many, tmp_path, places):
    count = 61 if places == ["train", "val"] else 2
    for number, name in enumerate(("a.txt", "b.txt")):
        (tmp_path / name).write_text(f"visible/val/000{number}.jpg\n")
    folders = {} if count > 2 else {"modalities": {"rgb": "visible/{split}", "ir": "infrared/{split}"}}
    section = {**many, **folders, "val": [str(tmp_path / p) if p.endswith(".txt") else p for p in places]}
    section = {**section, "labels": "labels/{split}"} if folders else section
    options = {"imgsz": 64, "device": "cpu", "workers": 0, "verbose": False, "plots": False}
    model.model.names = CLASS_NAMES
    report = model.robustness(section, save_dir=tmp_path / "report", **options)
    assert report.to_dict()["images"] == count
    assert model.val(data=section, project=str(tmp_path), **options).box.map50 >= 0
