"""Every task trains, validates each combination of modalities, reports and predicts on pairs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from training import SHORT
from untrained import awake

from mwam_det import MultimodalYOLO
from mwam_det.data.errors import DatasetError
from mwam_det.data.inspection.gather import inspect_dataset
from mwam_det.data.section import resolve_dataset
from mwam_det.engine.combinations import Condition
from mwam_det.engine.tasks import TASK_CLASSES

MODELS = {
    "obb": "yolov8n-obb.yaml",
    "segment": "yolov8n-seg.yaml",
    "pose": "yolov8n-pose.yaml",
    "semantic": "yolo26n-sem.yaml",
    "classify": "yolov8n-cls.yaml",
}
METRICS = {"semantic": ["mIoU", "pixel accuracy"], "classify": ["accuracy", "top-5 accuracy"]}
FOUND = {"obb": "obb", "segment": "masks", "pose": "keypoints", "semantic": "semantic_mask", "classify": "probs"}
SIZE = (96, 128)


def with_keypoints(line: str) -> str:
    """Turn a class and four corners into a class, a box and the corners as visible keypoints."""
    label, *numbers = line.split()
    corners = np.array(numbers, float).reshape(-1, 2)
    low, high = corners.min(0), corners.max(0)
    points = np.c_[corners, np.full(len(corners), 2)]
    return " ".join([label, *(f"{n:.6f}" for n in np.concatenate([(low + high) / 2, high - low, points.ravel()]))])


def as_classes(lines: list[str]) -> np.ndarray:
    """Paint the objects of a label file as numbers: 0 where nothing is, 7 for what does not count, class + 1 else."""
    numbers = np.zeros(SIZE, np.uint8)
    numbers[:4] = 7
    for line in lines:
        label, *corners = line.split()
        points = np.array(corners, float).reshape(-1, 2) * SIZE[::-1]
        cv2.fillPoly(numbers, [points.round().astype(np.int32)], int(label) + 1)
    return numbers


@pytest.fixture(scope="session")
def sections(demo_section, tmp_path_factory) -> dict[str, dict]:
    """The data section of the generated set by task."""
    outlines = Path(demo_section["path"]) / "labels_obb"
    root = tmp_path_factory.mktemp("tasks")
    for file in outlines.rglob("*.txt"):
        split, lines = file.parent.name, file.read_text().splitlines()
        for kind in ("pose", "semantic"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        (root / "pose" / split / file.name).write_text("".join(f"{with_keypoints(line)}\n" for line in lines))
        cv2.imwrite(str(root / "semantic" / split / f"{file.stem}.png"), as_classes(lines))
    for name, folder in demo_section["modalities"].items():
        for file in (Path(demo_section["path"]) / folder).rglob("*.jpg"):
            own = root / "classify" / file.parent.name / name / ("even" if int(file.stem) % 2 == 0 else "odd")
            own.mkdir(parents=True, exist_ok=True)
            (own / file.name).symlink_to(file)
    classes = list(demo_section["names"].values())
    return {
        "obb": {**demo_section, "labels": "labels_obb"},
        "segment": {**demo_section, "labels": "labels_obb"},
        "pose": {
            **demo_section,
            "labels": str(root / "pose" / "{split}"),
            "kpt_shape": [4, 3],
            "flip_idx": [1, 0, 3, 2],
        },
        "semantic": {
            **demo_section,
            "labels": str(root / "semantic" / "{split}"),
            "names": ["ground", *classes],
            "label_mapping": {7: 255},
        },
        "classify": {
            "path": str(root / "classify"),
            "modalities": {name: f"{{split}}/{name}" for name in demo_section["modalities"]},
            "train": "train",
            "val": "val",
        },
    }


@pytest.fixture(scope="session")
def trained(sections, tmp_path_factory):
    """A function that trains a model of a task for a moment, once."""
    models = {}

    def train(task: str) -> MultimodalYOLO:
        if task not in models:
            models[task] = model = MultimodalYOLO(MODELS[task])
            arguments = {key: value for key, value in SHORT.items() if key not in ("model", "plots")}
            folder = tmp_path_factory.mktemp(task)
            model.train(data=sections[task], project=str(folder), name="run", plots=True, **arguments)
        return models[task]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("task", MODELS)
def test_a_task_trains_with_mwam_and_reports_every_combination(task, trained):
    model = trained(task)
    folder = Path(model.trainer.save_dir)
    assert type(model.trainer) is TASK_CLASSES[task].trainer and model.task == task
    assert model.trainer.mwam.last is not None and len(set(model.trainer.mwam.last.weight.values())) == 2
    content = json.loads((folder / "robustness.json").read_text())
    assert [row["available"] for row in content["combinations"]] == [["rgb"], ["ir"], ["rgb", "ir"]]
    names = METRICS.get(task, ["mAP50", "mAP50-95"])
    assert content["metrics"] == names and content["task"] == task
    assert all(0 <= row[name] <= 1 for row in content["combinations"] for name in names)
    for picture in ("train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg", "robustness_bars.png"):
        assert cv2.imread(str(folder / picture)).std() > 5, picture
    if task != "classify":  # has nothing to draw in an image
        assert cv2.imread(str(folder / "robustness_samples.png")).std() > 5


def kept(predictions) -> list[torch.Tensor]:
    """What was found, as tensors."""
    if isinstance(predictions, torch.Tensor):
        return [predictions.float()]
    return [value.float() for image in predictions for key, value in sorted(image.items()) if key != "batch_idx"]


@pytest.mark.slow
@pytest.mark.parametrize("task", MODELS)
def test_one_pass_finds_what_separate_validations_find(task, trained, sections, tmp_path):
    model, alone, together = MultimodalYOLO(trained(task).trainer.best), {}, {}
    awake(model.model, 6)

    class Watching(TASK_CLASSES[task].validator):
        def update_metrics(self, preds, batch):
            alone.setdefault(self.missing, []).extend(kept(preds))
            super().update_metrics(preds, batch)

    class Reporting(TASK_CLASSES[task].reporting):
        def observe(self, batch, predictions):
            for missing, found in zip([(), ("ir",), ("rgb",)], predictions, strict=True):
                together.setdefault(missing, []).extend(kept(found))
            super().observe(batch, predictions)

    arguments = {
        "data": sections[task],
        "imgsz": 64,
        "batch": 3,
        "conf": 1e-6,
        "max_det": 20,
        "workers": 0,
        "rect": True,
    }
    for missing in ((), ("ir",), ("rgb",)):
        model.val(Watching, missing=missing, plots=False, project=str(tmp_path), **arguments)
    own = {"conditions": [Condition(("ir",)), Condition(("rgb",))], "samples": 2}
    args = {
        **model.overrides,
        **arguments,
        "data": resolve_dataset(sections[task]).as_dict(),
        "plots": False,
        "mode": "val",
        **own,
    }
    validator = Reporting(None, tmp_path / "report", args)
    validator(model=model.model)
    for missing, found in alone.items():
        assert sum(value.numel() for value in found)
        for value, other in zip(found, together[missing], strict=True):
            assert torch.allclose(value, other, atol=1e-3), missing  # pixels
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(alone[()], alone[("rgb",)], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("task", MODELS)
def test_predict_gives_the_results_of_the_task_in_the_pixels_of_the_files(task, trained, demo_section):
    pair = {
        name: f"{demo_section['path']}/{folder}/val/0000.jpg" for name, folder in demo_section["modalities"].items()
    }
    (result,) = trained(task).predict(pair, conf=1e-6, max_det=5, imgsz=64, verbose=False)
    found = getattr(result, FOUND[task])
    assert len(result.images) == 2 and result.orig_shape == SIZE
    assert found is not None and result.plot_modalities().shape[2] == 3
    if task == "classify":
        assert found.data.shape == (2,) and float(found.data.sum()) == pytest.approx(1)
    elif task == "semantic":
        assert found.data.shape[-2:] == SIZE and int(found.data.max()) < 4
    elif task == "segment":
        assert len(found.data) and all(0 <= coordinate <= 128 for mask in found.xy for coordinate in mask.ravel())
    else:
        assert len(found.xyxy if task == "obb" else found.xy) == 5


@pytest.mark.slow
def test_an_exported_classifier_finds_what_pytorch_finds(trained, sections, tmp_path):
    weights = tmp_path / "best.pt"
    weights.write_bytes(Path(trained("classify").trainer.best).read_bytes())
    model = MultimodalYOLO(weights)
    exported = MultimodalYOLO(model.export(format="torchscript", imgsz=64))
    folders = {name: f"{sections['classify']['path']}/val/{name}" for name in ("rgb", "ir")}
    for missing in ((), "ir"):
        ours, theirs = (each.predict(folders, missing=missing, imgsz=64, verbose=False) for each in (exported, model))
        assert len(ours) == 4
        for mine, expected in zip(ours, theirs, strict=True):
            assert torch.allclose(mine.probs.data, expected.probs.data, atol=1e-4)
    reports = [
        each.robustness(sections["classify"], save_dir=tmp_path / name, imgsz=64, batch=1, workers=0, plots=False)
        for name, each in (("pt", model), ("file", exported))
    ]
    assert reports[0].results == reports[1].results


@pytest.mark.slow
def test_a_classifier_with_a_backbone_of_torchvisions_trains_reports_and_exports(sections, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", None)
    backbone = [-1, 1, "TorchVision", [576, "mobilenet_v3_small", None, True, 2]]
    cfg = {"nc": 2, "backbone": [backbone], "head": [[-1, 1, "Classify", ["nc"]]]}
    (tmp_path / "mobilenet-cls.yaml").write_text(yaml.safe_dump(cfg))
    model = MultimodalYOLO(tmp_path / "mobilenet-cls.yaml")
    arguments = {key: value for key, value in SHORT.items() if key not in ("model", "mwam")}
    model.train(data=sections["classify"], incomplete={"views": 2}, mwam=True, project=str(tmp_path), **arguments)
    assert len(set(model.trainer.mwam.last.weight.values())) == 2
    best = MultimodalYOLO(model.trainer.best)
    best.robustness(sections["classify"], save_dir=tmp_path / "report", imgsz=64, workers=0, plots=False)
    content = json.loads((tmp_path / "report/robustness.json").read_text())
    assert [row["available"] for row in content["combinations"]] == [["rgb"], ["ir"], ["rgb", "ir"]]
    exported = MultimodalYOLO(best.export(format="torchscript", imgsz=64))
    folders = {name: f"{sections['classify']['path']}/val/{name}" for name in ("rgb", "ir")}
    for missing in ((), "ir"):
        ours, theirs = (each.predict(folders, missing=missing, imgsz=64, verbose=False) for each in (exported, best))
        for mine, expected in zip(ours, theirs, strict=True):
            assert torch.allclose(mine.probs.data, expected.probs.data, atol=1e-4)


def test_a_classifier_takes_stacks_of_another_shape_and_of_grey(sections, tmp_path):
    section = {**sections["classify"], "channels": {"ir": 1}}
    model = MultimodalYOLO("yolov8n-cls.yaml", {"rgb": 3, "ir": 1}).model
    model.names = {0: "even", 1: "odd"}
    torch.save({"model": model, "train_args": {}}, tmp_path / "best.pt")
    (result,) = MultimodalYOLO(tmp_path / "best.pt").predict(
        {name: np.zeros((40, 90), np.uint8) for name in section["modalities"]}, imgsz=(32, 48), verbose=False
    )
    assert result.orig_shape == (40, 90) and len(result.probs.data) == 1000


def test_labels_that_do_not_fit_the_task_are_named_before_training(demo_section, sections, tmp_path):
    for task, said in (("obb", "labels are boxes, not outlines"), ("pose", "kpt_shape")):
        with pytest.raises(DatasetError, match=said):
            MultimodalYOLO(MODELS[task]).train(
                data=demo_section, project=str(tmp_path), **{**SHORT, "model": MODELS[task]}
            )
    with pytest.raises(DatasetError, match="single_cls"):
        arguments = {**SHORT, "model": MODELS["semantic"], "single_cls": True}
        MultimodalYOLO(MODELS["semantic"]).train(data=sections["semantic"], project=str(tmp_path), **arguments)
    with pytest.raises(NotImplementedError, match="mwam.mode=hybrid"):
        arguments = {**SHORT, "model": MODELS["obb"], "mwam": {"mode": "hybrid"}}
        MultimodalYOLO(MODELS["obb"]).train(data=sections["obb"], project=str(tmp_path), **arguments)
    with pytest.raises(NotImplementedError, match="auto_augment=randaugment"):
        arguments = {**SHORT, "model": MODELS["classify"], "auto_augment": "randaugment"}
        MultimodalYOLO(MODELS["classify"]).train(data=sections["classify"], project=str(tmp_path), **arguments)
    with pytest.raises(NotImplementedError, match="upright boxes"):
        MultimodalYOLO(MODELS["obb"]).robustness(sections["obb"], coco=True)
    assert not any(tmp_path.rglob("*.pt"))


def test_an_inspection_counts_the_objects_of_tasks_that_have_some(sections):
    counted = [inspect_dataset(resolve_dataset(sections[task]), imgsz=64, sample=4)[0] for task in ("obb", "pose")]
    assert counted[0].splits["train"].boxes == counted[1].splits["train"].boxes
    assert sum(counted[0].splits["train"].boxes.values()) > 8 and not counted[1].splits["train"].left_out


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "semantic"])
@pytest.mark.parametrize("method", ["lfm", "agm"])
def test_balancing_goes_by_the_classes_of_tasks_that_have_them(sections, tmp_path, task, method):
    heard = []

    class Listening(TASK_CLASSES[task].trainer):
        def _setup_train(self):
            super()._setup_train()
            observe = self.run.balancer.observe
            self.run.balancer.observe = lambda evidence: (heard.append(evidence), observe(evidence))[1]

    model = MultimodalYOLO(MODELS[task])
    arguments = {**{key: value for key, value in SHORT.items() if key != "model"}, "epochs": 1}
    balancing, quiet = {"method": method}, {"robustness": False, "project": str(tmp_path), "name": "run"}
    model.train(Listening, data=sections[task], mwam=False, balancing=balancing, **quiet, **arguments)
    for evidence in heard:
        logits, target = evidence.labelled
        assert {*logits} == {("rgb", "ir"), ("rgb",), ("ir",)} and len(target) == evidence.count
        assert evidence.multiple == (1 if task == "classify" else evidence.count)
        assert all(scores.requires_grad == (method == "lfm") for kept, scores in logits.items() if len(kept) == 1)
    assert heard
