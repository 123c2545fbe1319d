"""What is found in a file is where validation finds it, whatever the size of the file."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional
from ultralytics.utils import ops
from untrained import awake, folders, make_set

from mwam_det import MultimodalYOLO
from mwam_det.data.section import resolve_dataset
from mwam_det.engine.combinations import Condition
from mwam_det.engine.geometry import Placement, areas_of_images
from mwam_det.engine.tasks import TASK_CLASSES
from mwam_det.models.two_stream import build_two_stream, two_stream_cfg

SIZES = [(840, 712), (1080, 1920), (333, 500)]
CORNERS = "0.2 0.2 0.7 0.2 0.7 0.6 0.2 0.6"
LABELS = {
    "detect": "0 0.45 0.4 0.5 0.4",
    "obb": f"0 {CORNERS}",
    "segment": f"0 {CORNERS}",
    "pose": "0 0.45 0.4 0.5 0.4" + " 0.4 0.4 2" * 17,
}
MODELS = {
    "detect": "yolov8n.yaml",
    "obb": "yolov8n-obb.yaml",
    "segment": "yolov8n-seg.yaml",
    "pose": "yolov8n-pose.yaml",
    "semantic": "yolo26n-sem.yaml",
}
NETWORK, MODALITIES = 320, {"rgb": 3, "ir": 3}
ARGUMENTS = {
    "imgsz": NETWORK,
    "rect": False,
    "conf": 0.05,
    "max_det": 30,
    "batch": 2,
    "device": "cpu",
    "verbose": False,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A function that gives an untrained model of a task which finds something everywhere."""
    made = {}

    def make(task):
        if task not in made:
            torch.manual_seed(0)
            yolo = MultimodalYOLO(MODELS[task], MODALITIES)
            model = build_two_stream(two_stream_cfg(MODELS[task], MODALITIES), nc=3 if task == "semantic" else 1)
            model.names, model.args, model.task = dict(enumerate("abc"[: model.yaml["nc"]])), yolo.model.args, task
            yolo.model = awake(model, 6)
            yolo.save(file := tmp_path_factory.mktemp("model") / f"{task}.pt")
            made[task] = MultimodalYOLO(file)  # weights are rounded where they are saved
        return made[task]

    return make


def pairs(folder, task, size):
    """The data section of pairs of files of a size, labelled for a task."""
    section = make_set(folder, size, size)
    for file in (folder / "labels" / "val").glob("*.txt"):
        if task == "semantic":
            cv2.imwrite(str(file.with_suffix(".png")), np.zeros(size, np.uint8))
            file.unlink()
        else:
            file.write_text(LABELS[task] + "\n")
    return {
        **section,
        "names": ["a", "b", "c"] if task == "semantic" else ["a"],
        **({"kpt_shape": [17, 3], "flip_idx": list(range(17))} if task == "pose" else {}),
    }


def found_by_validation(model, section, task):
    """What a validation finds, in pixels of the files as it would write it, by file."""
    found = {}

    class Watching(TASK_CLASSES[task].validator):
        def update_metrics(self, preds, batch):
            for place, file in enumerate(batch["im_file"]):
                if task == "semantic":
                    shape, ratio_pad = batch["ori_shape"][place], batch["ratio_pad"][place]
                    own = preds[place][None, None].float()
                    found[file] = ops.scale_masks(own, shape, ratio_pad=ratio_pad, mode="nearest")[0, 0].byte()
                    continue
                found[file] = self.scale_preds(preds[place], self._prepare_batch(place, batch))
            super().update_metrics(preds, batch)

    model.val(Watching, data=section, plots=False, workers=0, save_json=task == "segment", **ARGUMENTS)
    assert len(found) == 4
    return found


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
def test_area_of_an_image_is_all_that_is_no_border(size, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section, seen = pairs(tmp_path, "detect", size), []
    for file in (tmp_path / "rgb" / "val").iterdir():
        cv2.imwrite(str(file), np.full((*size, 3), 255, np.uint8))

    class Watching(TASK_CLASSES["detect"].validator):
        def update_metrics(self, preds, batch):
            for image, area in zip(batch["img"], areas_of_images(batch), strict=True):
                white = image[:3].amin(0) > 0.99
                rows, columns = white.any(1).nonzero(), white.any(0).nonzero()
                seen.append(area)
                assert area == (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
            super().update_metrics(preds, batch)

    models("detect").val(Watching, data=section, plots=False, workers=0, **ARGUMENTS)
    assert len(seen) == 4


@pytest.fixture(scope="module")
def exported(models):
    """A function that gives what a model of a task was exported to."""
    made = {}

    def export(task):
        if task not in made:
            made[task] = MultimodalYOLO(models(task).export(format="torchscript", imgsz=NETWORK))
        return made[task]

    return export


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
@pytest.mark.parametrize("task", MODELS)
def test_prediction_finds_where_validation_finds(task, size, models, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a validation makes a folder
    section = pairs(tmp_path, task, size)
    expected = found_by_validation(models(task), section, task)
    for kind, predicting, batch in (("model", models(task), 2), ("exported", exported(task), 1)):
        results = predicting.predict(folders(section), **{**ARGUMENTS, "batch": batch})
        check_where(results, expected, kind, task, size)


def check_where(results, expected, kind, task, size):
    """Check that predictions of a model, or of what it was exported to, lie where a validation found them."""
    assert [result.path for result in results] == sorted(expected)
    for result in results:
        theirs = expected[result.path]
        if task == "semantic":
            ours = result.semantic_mask.data
            assert len(theirs.unique()) > 1 and ours.shape == theirs.shape == size
            assert (ours == theirs).float().mean() > 0.998  # scores are enlarged, validation's classes are
            continue
        ours, boxes = (result.obb.xywhr if task == "obb" else result.boxes.xyxy), theirs["bboxes"]
        distances = (ours[:, None] - boxes).abs().amax(2).min(1).values  # without a mask, segment leaves a box out
        if kind == "exported":  # computed in another order: of boxes that suppress each other, another may be left
            near = 7.5e-3 * max(size) / NETWORK  # in pixels of the file: 0.012, 0.02 and 0.045
            assert len(ours) and (distances < near).float().mean() >= 0.9
            continue
        assert len(ours) and distances.max() <= 1e-3
        if task == "pose":
            assert torch.allclose(result.keypoints.data, theirs["keypoints"], atol=1e-3)


def test_an_image_lies_where_two_steps_put_it():
    placement = Placement.of(network=(320, 320), resized=(320, 272), file=(840, 712))  # one step would make it 271 wide
    assert (placement.top, placement.left, placement.height, placement.width) == (0, 24, 320, 272)
    assert placement.ratio_pad == ((320 / 840, 272 / 712), (24, 0))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
def test_masks_of_an_object_lie_on_it(size):
    long = max(size)
    resized = tuple(-(-side * NETWORK // long) for side in size)
    placement = Placement.of((NETWORK, NETWORK), resized, size)
    y, x = np.ogrid[: size[0], : size[1]]
    there = torch.from_numpy((x - 0.6 * size[1]) ** 2 + (y - 0.55 * size[0]) ** 2 < (0.3 * min(size)) ** 2)
    seen = functional.interpolate(there[None, None].float(), resized, mode="bilinear", antialias=True)
    border = (
        placement.left,
        NETWORK - placement.left - resized[1],
        placement.top,
        NETWORK - placement.top - resized[0],
    )
    seen = functional.pad(seen, border)
    protos = functional.interpolate(seen, scale_factor=0.25, mode="bilinear", antialias=True)[0]
    logits = torch.cat([protos, torch.ones_like(protos)])
    coefficients = torch.tensor([[1.0, -0.5], [2.0, -1.0]])
    native = placement.native_masks(logits, coefficients, torch.tensor([[0.0, 0.0, *size[::-1]]] * 2))
    coarse = placement.as_one_step((seen[0] > 0.5).byte())
    enlarged = ops.scale_masks(coarse[None].float(), size)[0] > 0.5  # as Ultralytics' results do it
    scale = long / NETWORK
    for masks in (native, enlarged, placement.scores(seen[0]) > 0.5):
        assert masks.shape[1:] == size
        for mask in masks.bool():
            assert (mask & there).sum() / (mask | there).sum() > 0.98
            centre = torch.tensor([axis.float().mean() for axis in torch.nonzero(mask, as_tuple=True)])
            right = torch.tensor([axis.float().mean() for axis in torch.nonzero(there, as_tuple=True)])
            assert (centre - right).abs().max() < 0.15 * scale


def test_masks_of_every_condition_are_of_one_resolution_also_where_they_are_saved(models, tmp_path):
    shapes = []

    class Watching(TASK_CLASSES["segment"].reporting):
        def observe(self, batch, predictions):
            shapes.extend({tuple(found["masks"].shape[1:]) for found in images} for images in predictions)

    data = resolve_dataset(pairs(tmp_path / "set", "segment", (60, 80))).as_dict()
    arguments = {
        "data": data,
        "imgsz": 96,
        "batch": 2,
        "workers": 0,
        "plots": False,
        "task": "segment",
        "device": "cpu",
    }
    conditions = [Condition(("ir",)), Condition(("rgb",))]
    validator = Watching(None, tmp_path, {**arguments, "save_json": True, "conditions": conditions})
    validator(model=models("segment").model)
    assert len(shapes) == 6 and all(shape == shapes[0] for shape in shapes) and min(map(min, shapes[0])) > 24
