import json
import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace
from unittest.mock import Mock

import cv2
import pytest
import torch
from tables import read_csv
from training import SHORT
from ultralytics import YOLO
from ultralytics.engine.model import Model
from ultralytics.utils import DEFAULT_CFG_DICT
from untrained import TINY

from mwam_det import MultimodalYOLO
from mwam_det.data.errors import DatasetError

pytestmark = pytest.mark.slow  # of all of them, the training that they look at takes longest


@pytest.fixture(scope="module")
def trained(demo_section, tmp_path_factory):
    """A short training with everything that a user gets from it."""
    model = MultimodalYOLO("yolov8n.yaml")
    arguments = {key: value for key, value in SHORT.items() if key not in ("model", "plots")}
    folder = tmp_path_factory.mktemp("facade")
    model.train(data=demo_section, project=str(folder), name="run", plots=True, **arguments)
    return model


def in_another_process(code, **environment):
    """Run code in a process where this package cannot be imported."""
    code = "import sys; sys.modules['mwam_det'] = None\n" + textwrap.dedent(code)
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_a_run_leaves_the_report_for_machines_and_pictures_for_people(trained):
    folder = trained.trainer.save_dir
    content = json.loads((folder / "robustness.json").read_text())
    assert [c["available"] for c in content["combinations"]] == [["rgb"], ["ir"], ["rgb", "ir"]]
    assert len(read_csv(folder / "robustness.csv")) == 4
    for picture in ("mwam.png", "results.png", "train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg"):
        assert cv2.imread(str(folder / picture)).std() > 5, picture


def test_a_missing_modality_is_zero_and_nothing_else(trained, demo_section, monkeypatch, tmp_path):
    from mwam_det.engine.validator import MultimodalValidator

    seen = []

    class Watching(MultimodalValidator):
        def preprocess(self, batch):
            batch = super().preprocess(batch)
            seen.append(batch["img"].clone())
            return batch

    shared = {"data": demo_section, "imgsz": 64, "plots": False, "project": str(tmp_path)}
    trained.val(Watching, **shared)
    trained.val(Watching, missing=["ir"], **shared)
    full, without = seen
    assert torch.equal(full[:, :3], without[:, :3])
    assert without[:, 3:].eq(0).all() and full[:, 3:].max() > 0


def test_the_report_holds_what_separate_validations_give(trained, demo_section, tmp_path):
    shared = {"data": demo_section, "imgsz": 64, "batch": 4, "project": str(tmp_path)}
    report = trained.robustness(name="report", **shared)
    for result in report.results:
        missing = [name for name in ("rgb", "ir") if name not in result.available]
        metrics = trained.val(missing=missing, plots=False, verbose=False, **shared)
        assert result.metrics["mAP50"] == pytest.approx(metrics.box.map50, abs=1e-6)
        assert result.metrics["mAP50-95"] == pytest.approx(metrics.box.map, abs=1e-6)
    assert (tmp_path / "report" / "robustness.json").is_file()


def test_the_dataset_of_the_training_is_remembered(trained, tmp_path):
    assert trained.val(imgsz=64, plots=False, project=str(tmp_path)).box.map50 >= 0


@pytest.mark.slow
@pytest.mark.parametrize("restricted", ["0", "1"], ids=["default loading", "restricted loading"])
def test_plain_yolo_opens_the_checkpoint_without_this_package_and_predicts_the_same(trained, tmp_path, restricted):
    weights = trained.trainer.best
    images = torch.rand(2, 6, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.save(images, tmp_path / "images.pt")
    in_another_process(
        f"""
        import torch
        from ultralytics import YOLO
        model = YOLO({str(weights)!r})
        images = torch.load({str(tmp_path / "images.pt")!r})
        results = model.predict(images, conf=0.0, verbose=False, save=False, imgsz=64)
        boxes = [result.boxes.data for result in results]
        torch.save((model.model(images)[0].detach(), boxes), {str(tmp_path / "out.pt")!r})
        """,
        ULTRALYTICS_SAFE_LOAD=restricted,
    )
    raw, boxes = torch.load(tmp_path / "out.pt")
    ours = MultimodalYOLO(weights)
    assert torch.equal(raw, ours.model(images)[0])
    expected = YOLO(weights).predict(images, conf=0.0, verbose=False, save=False, imgsz=64)
    for mine, theirs in zip(expected, boxes, strict=True):
        assert len(theirs) and torch.equal(mine.boxes.data, theirs)


def test_a_torchscript_export_takes_the_stacked_image_and_gives_the_same_outputs(trained, tmp_path):
    weights = tmp_path / "best.pt"
    weights.write_bytes(trained.trainer.best.read_bytes())
    exported = MultimodalYOLO(weights).export(format="torchscript", imgsz=64)
    images = torch.rand(1, 6, 64, 64)
    assert torch.allclose(torch.jit.load(exported)(images), MultimodalYOLO(weights).model(images)[0], atol=1e-3)


def test_a_model_from_a_description_has_streams_before_training():
    model = MultimodalYOLO(TINY, modalities={"rgb": 3, "depth": 1})
    assert model.model.yaml["modalities"] == {"rgb": 3, "depth": 1}


def test_a_list_of_datasets_and_tuning_are_refused_with_the_reason():
    model = MultimodalYOLO(TINY)
    with pytest.raises(NotImplementedError, match="call train for each dataset"):
        model.train(data=["a.yaml", "b.yaml"])
    with pytest.raises(NotImplementedError, match="tune trains without"):
        model.tune()


def test_benchmarking_is_refused_with_the_reason():
    with pytest.raises(NotImplementedError, match="reads a single modality"):
        MultimodalYOLO(TINY).benchmark()


def test_the_report_measures_as_the_training_validated(demo_section, tmp_path, monkeypatch):
    from mwam_det.engine.validator import MultimodalValidator

    seen = []
    preprocess = MultimodalValidator.preprocess

    def watch(self, batch):
        seen.append((self.args.imgsz, self.args.classes, self.args.iou, self.args.max_det))
        return preprocess(self, batch)

    monkeypatch.setattr(MultimodalValidator, "preprocess", watch)
    arguments = {key: value for key, value in SHORT.items() if key not in ("model", "epochs")}
    MultimodalYOLO(TINY).train(
        data=demo_section, epochs=1, project=str(tmp_path), classes=[0], iou=0.3, max_det=50, **arguments,
        robustness={"split": "train", "imgsz": 96},
    )  # fmt: skip
    assert seen[0] == (64, [0], 0.3, 50) and seen[-1] == (96, [0], 0.3, 50)


def test_a_split_that_the_dataset_lacks_is_refused_before_training(demo_section, tmp_path):
    model = MultimodalYOLO(TINY)
    with pytest.raises(DatasetError, match="no split 'test': choose from train, val"):
        model.train(data=demo_section, project=str(tmp_path), robustness={"split": "test"})
    assert not list(tmp_path.iterdir())
    with pytest.raises(DatasetError, match="no split 'test'"):
        model.robustness(demo_section, split="test", project=str(tmp_path))


def test_a_data_yaml_of_the_user_is_left_alone(trained, demo_section, tmp_path):
    (tmp_path / "data.yaml").write_text("precious: true")
    trained.robustness(demo_section, save_dir=tmp_path, imgsz=64)
    assert (tmp_path / "data.yaml").read_text() == "precious: true"


def test_classes_that_mean_something_else_are_refused(trained, demo_section, tmp_path):
    section = {**demo_section, "names": {0: "bus", 1: "car", 2: "truck"}}
    with pytest.raises(DatasetError, match="class 0 is 'car' in the model but 'bus' in the dataset"):
        trained.robustness(section, save_dir=tmp_path, imgsz=64)


def test_a_class_that_does_not_exist_is_not_selected(trained, demo_section, tmp_path):
    with pytest.raises(ValueError, match=r"classes=\[0, 3\] selects class 3: choose from 0 to 2"):
        trained.robustness(demo_section, save_dir=tmp_path, imgsz=64, classes=[0, 3])


def test_weights_given_as_a_path_are_checked_too(demo_section, tmp_path):
    from mwam_det.engine.validator import MultimodalValidator

    YOLO(TINY).save(tmp_path / "single.pt")
    arguments = {"model": str(tmp_path / "single.pt"), "data": demo_section, "project": str(tmp_path), "imgsz": 64}
    with pytest.raises(DatasetError, match="single stream"):
        MultimodalValidator(args=arguments)()


def test_one_missing_modality_may_be_named_without_a_list(trained, demo_section, tmp_path):
    shared = {"data": demo_section, "imgsz": 64, "plots": False, "project": str(tmp_path)}
    assert trained.val(missing="ir", **shared).box.map50 == trained.val(missing=["ir"], **shared).box.map50


def test_predicting_from_a_file_of_no_named_modality_is_refused():
    with pytest.raises(ValueError, match="'image.jpg' does not say which modality it is"):
        MultimodalYOLO(TINY).predict("image.jpg")


def test_a_trained_model_predicts_on_the_folders_of_its_set(trained, demo_section):
    source = {name: f"{demo_section['path']}/{folder}/val" for name, folder in demo_section["modalities"].items()}
    results = trained.predict(source, imgsz=64, conf=0.001, verbose=False)
    assert len(results) == 4 and sum(map(len, results)) > 0


def test_validating_on_other_modalities_is_refused(trained, demo_section, tmp_path):
    section = {**demo_section, "modalities": {"visible": "visible", "thermal": "infrared"}}
    with pytest.raises(DatasetError, match="'thermal': 3"):
        trained.val(data=section, imgsz=64, project=str(tmp_path))


def test_a_single_stream_checkpoint_is_to_be_trained_first(demo_section, tmp_path):
    YOLO(TINY).save(tmp_path / "single.pt")
    model = MultimodalYOLO(tmp_path / "single.pt")
    for use in (
        lambda: model.robustness(demo_section, project=str(tmp_path)),
        lambda: model.val(data=demo_section),
        lambda: model.predict((torch.zeros(1, 3, 64, 64),) * 2),
        lambda: model.export(format="torchscript"),
    ):
        with pytest.raises(ValueError, match=r"single\.pt has a single stream: train it on pairs first"):
            use()


@pytest.mark.parametrize(("missing", "words"), [(["lidar"], "choose from rgb, ir"), (["rgb", "ir"], "nothing is left")])
def test_an_impossible_combination_is_refused(trained, demo_section, tmp_path, missing, words):
    with pytest.raises(ValueError, match=words):
        trained.val(data=demo_section, missing=missing, imgsz=64, project=str(tmp_path))


def test_the_report_compares_the_preference_with_the_metric_of_each_modality_alone(trained, tmp_path, monkeypatch):
    from mwam_det.engine import facade

    compared = []
    monkeypatch.setattr(
        facade, "explain", lambda shares, alone, metric: compared.append((shares, alone)) or "They disagree"
    )
    shares = {"rgb": 0.6, "ir": 1.4}
    report = trained.robustness(save_dir=tmp_path, shares=shares, imgsz=64, plots=False)
    map50 = {result.available: result.metrics["mAP50"] for result in report.results}
    assert compared == [(shares, {"rgb": map50["rgb",], "ir": map50["ir",]})]
    assert report.notes == ("They disagree.",)
    assert "They disagree." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_training_tells_its_report_which_modality_it_preferred(trained):
    assert trained.trainer.shares == trained.trainer.mwam.last.share


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fill": "grey"}, "fill='grey'"),
        ({"degradations": ["fogg"]}, "unknown degradation fogg"),
        ({"selct": "mean"}, "unknown key 'selct'"),
    ],
)
def test_a_mistake_about_the_report_is_told_before_the_training(demo_section, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        MultimodalYOLO(TINY).train(data=demo_section, robustness=options, project=str(tmp_path))
    assert not any(tmp_path.iterdir())


def test_saved_labels_are_those_of_complete_input_alone(trained, tmp_path):
    shared = {"imgsz": 64, "conf": 0.0005, "save_txt": True, "plots": False, "project": str(tmp_path)}
    trained.robustness(save_dir=tmp_path / "report", **shared)
    trained.val(name="val", rect=True, **shared)
    count = [len(list((tmp_path / name / "labels").glob("*.txt"))) for name in ("report", "val")]
    lines = [
        sum(len(f.read_text().splitlines()) for f in (tmp_path / n / "labels").glob("*.txt")) for n in ("report", "val")
    ]
    assert lines[0] == lines[1] > 0 and count[0] == count[1]


@pytest.mark.parametrize(("given", "is_made"), [(True, True), ({}, True), ({"imgsz": 64}, True), (False, False)])
def test_an_empty_section_of_the_report_means_its_defaults(demo_section, monkeypatch, given, is_made):
    """As `mwam: {}` does; only false leaves the report out."""
    model, made = MultimodalYOLO("yolov8n.yaml"), []
    model.trainer = SimpleNamespace(args=SimpleNamespace(**DEFAULT_CFG_DICT), save_dir="", shares=None, paired=None)
    monkeypatch.setattr(Model, "train", lambda *args, **kwargs: None)
    monkeypatch.setattr(MultimodalYOLO, "robustness", lambda self, *args, **options: made.append(options) or Mock())
    model.train(data=demo_section, robustness=given)
    assert len(made) == is_made
