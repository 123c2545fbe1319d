import re
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import ultralytics
from torch import nn
from training import SHORT
from ultralytics import YOLO
from ultralytics.engine.results import Results
from ultralytics.utils import ops
from untrained import QUIET, TINY, folders, make_set, smooth, untrained

from mwam_det import MultimodalYOLO, MWAMTrainer
from mwam_det.data.errors import DatasetError
from mwam_det.engine.deployment import describe
from mwam_det.engine.predictor import PairResults
from mwam_det.engine.validator import MultimodalValidator

TURNED = [[0.9, 0.1, 3.0], [-0.1, 0.9, 5.0], [0.0, 0.0, 1.0]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("model") / "best.pt")


@pytest.fixture
def model(weights):
    return MultimodalYOLO(weights)


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("pairs"))


class Watching(MultimodalValidator):
    """Keeps the images that the model saw and the boxes in pixels of the files, by file."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.images, self.found = {}, {}

    def update_metrics(self, preds, batch):
        for place, pred in enumerate(preds):
            own, file = self._prepare_batch(place, batch), batch["im_file"][place]
            boxes = ops.scale_boxes(own["imgsz"], pred["bboxes"].clone(), own["ori_shape"], ratio_pad=own["ratio_pad"])
            self.images[file] = batch["img"][place].clone()
            self.found[file] = torch.cat([boxes, pred["conf"][:, None], pred["cls"][:, None]], 1)
        super().update_metrics(preds, batch)


class WithoutExtraBorder(Watching):
    """Pads rectangles no more than the stride demands."""

    def build_dataset(self, *args, **kwargs):
        dataset = super().build_dataset(*args, **kwargs)
        for label in dataset.labels:
            label["shape"] = dataset.sizes[label["im_file"]][0]
        dataset.pad = 0.0
        dataset.set_rectangle()
        return dataset


def validated(model, section, validator=Watching, **options):
    args = {"data": section, "imgsz": 64, "conf": 0.1, "batch": 2, "plots": False, "device": "cpu", **options}
    watching = validator(None, None, args)
    watching(model=model.model)
    return watching


def predicted(model, source, **options):
    """The images that the model saw, and results, by file."""
    seen = []
    model.clear_callback("on_predict_postprocess_end")
    results, images = {}, {}
    hook = nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].clone()) if type(module).__name__ == "AutoBackend" else None
    )
    try:
        for result in model.predict(source, **{**QUIET, "batch": 2, **options}):
            results[result.path] = result
    finally:
        hook.remove()
    for file, image in zip(results, torch.cat(seen) if len({s.shape for s in seen}) == 1 else [], strict=False):
        images[file] = image
    return images, results


def assert_same(watching, images, results):
    assert len(results) == len(watching.found) == 4 and sum(map(len, watching.found.values())) > 4
    for file, expected in watching.found.items():
        assert torch.equal(images[file], watching.images[file])
        assert torch.allclose(results[file].boxes.data, expected, atol=1e-3)


# As in validation ----------------------------------------------------------------------------------------------------

SETS = {
    "same size": {},
    "uneven size": {"size": (70, 123), "infrared": (70, 123)},
    "smaller than the network": {"size": (30, 47), "infrared": (30, 47)},
    "partner of another size": {"infrared": (60, 110)},
    "JPEG decoded at reduced size": {"size": (192, 256), "infrared": (192, 256), "suffix": ".jpg"},
    "aligned": {"align": {"ir": TURNED}},
    "16 bits with a range": {"deep": True, "range": {"ir": [7000, 9000]}},
    "grey": {"channels": {"ir": 1}},
    "low-pass": {"filter": {"ir": {"low": 8}}, "size": (192, 256), "infrared": (192, 256), "suffix": ".jpg"},
    "high-pass of two": {"filter": {"rgb": {"high": 3}, "ir": {"high": 8}}, "channels": {"ir": 1}},
}


@pytest.mark.parametrize("kind", SETS)
def test_prediction_sees_and_finds_what_validation_sees_and_finds(kind, tmp_path):
    section = make_set(tmp_path, **SETS[kind])
    reading = {key: section[key] for key in ("range", "align", "filter") if key in section}
    channels = {"rgb": 3, "ir": section.get("channels", {}).get("ir", 3)}
    model = MultimodalYOLO(untrained(tmp_path / "best.pt", channels, reading))
    assert_same(validated(model, section, rect=False), *predicted(model, folders(section), rect=False))


@pytest.mark.parametrize("size", [(64, 128), (60, 123)])
def test_rectangles_are_those_of_validation_without_its_extra_border(size, tmp_path, model):
    section = make_set(tmp_path, size, size)
    watching = validated(model, section, WithoutExtraBorder, rect=True)
    images, results = predicted(model, folders(section))
    assert {image.shape[1:] for image in images.values()} == {(32, 64)}
    assert_same(watching, images, results)


@pytest.mark.parametrize("missing", ["rgb", "ir"])
def test_a_missing_modality_is_the_condition_that_robustness_measures(missing, model, section):
    watching = validated(model, section, rect=False, missing=[missing])
    images, results = predicted(model, folders(section), rect=False, missing=missing)
    assert_same(watching, images, results)
    channels = slice(0, 3) if missing == "rgb" else slice(3, 6)
    assert all(image[channels].eq(0).all() and image.max() > 0 for image in images.values()), "grey borders are 0 too"


@pytest.mark.parametrize("missing", ["rgb", "ir"])
def test_one_side_alone_is_the_same_as_the_other_missing_and_said_once(missing, model, section, log):
    left = {name: folder for name, folder in folders(section).items() if name != missing}
    _, named = predicted(model, folders(section), missing=missing)
    _, alone = predicted(model, left)
    assert len(alone) == 4 and sum(map(len, alone.values())) > 4
    for mine, theirs in zip(alone.values(), named.values(), strict=True):
        assert torch.equal(mine.boxes.data, theirs.boxes.data)
    told = [text for _, text in log if "missing" in text]
    assert len(told) == 1 and f"{missing} is missing: its channels are 0" in told[0]


# Sources -------------------------------------------------------------------------------------------------------------


def test_files_lists_and_arrays_give_the_same(model, section):
    files = {name: f"{folder}/0.png" for name, folder in folders(section).items()}
    arrays = {name: cv2.imread(file) for name, file in files.items()}
    sources = [
        files,
        tuple(files.values()),
        [[file] for file in files.values()],
        arrays,
        tuple(arrays.values()),
        np.concatenate(list(arrays.values()), axis=2),
    ]
    expected, *others = [model.predict(source, **QUIET)[0] for source in sources]
    assert len(expected)
    for other in others:
        assert torch.equal(other.boxes.data, expected.boxes.data)
        assert np.array_equal(other.images["ir"], arrays["ir"]) and np.array_equal(other.orig_img, arrays["rgb"])


def test_a_frame_without_its_partner_is_predicted_as_if_that_sensor_had_failed(model, section):
    (complete, *_), (alone, *_) = (model.predict(folders(section), missing=missing, **QUIET) for missing in ((), "ir"))
    rgb, ir = (cv2.imread(complete.path.replace("/rgb/", f"/{name}/")) for name in ("rgb", "ir"))
    results = model.predict([(rgb, ir), (rgb, None)], batch=2, **QUIET)
    for result, expected in zip(results, (complete, alone), strict=True):
        assert len(expected) and torch.allclose(result.boxes.data, expected.boxes.data, atol=1e-3)
        assert list(result.images) == list(expected.images)
    assert not torch.equal(complete.boxes.data[:5], alone.boxes.data[:5])


def test_tensors_give_what_plain_ultralytics_gives_for_the_stack(model, weights):
    stack = torch.rand(2, 6, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = YOLO(weights).predict(stack, **QUIET)
    for source in (stack, (stack[:, :3], stack[:, 3:])):
        results = model.predict(source, **QUIET)
        for mine, theirs in zip(results, expected, strict=True):
            assert len(mine) and torch.equal(mine.boxes.data, theirs.boxes.data)
        blue = (stack[1, 2] * 255).round().byte().numpy()
        assert np.array_equal(results[1].orig_img[..., 0], blue)


def test_tensors_of_one_side_leave_the_other_at_zero(model):
    stack = torch.rand(1, 6, 64, 64, generator=torch.Generator().manual_seed(0))
    (result,) = model.predict({"ir": stack[:, 3:]}, **QUIET)
    zeroed = stack.clone()
    zeroed[:, :3] = 0
    assert len(result) and torch.equal(result.boxes.data, model.predict(zeroed, **QUIET)[0].boxes.data)
    assert list(result.images) == ["ir"]


def test_one_image_that_names_no_modality_is_refused(model, section):
    file = f"{folders(section)['rgb']}/0.png"
    for source in (file, cv2.imread(file), torch.rand(1, 3, 64, 64)):
        with pytest.raises(ValueError, match="does not say which modality it is: give {'rgb': …, 'ir': …}"):
            model.predict(source, **QUIET)
    with pytest.raises(ValueError, match="needs a source"):
        model.predict()


def test_impossible_combinations_are_refused(model, section):
    with pytest.raises(ValueError, match="nothing is left"):
        model.predict(folders(section), missing=["rgb", "ir"], **QUIET)
    with pytest.raises(ValueError, match="choose from rgb, ir"):
        model.predict(folders(section), missing="lidar", **QUIET)
    with pytest.raises(ValueError, match="classes=9 selects class 9: choose from 0 to "):
        model.predict(folders(section), classes=9, **QUIET)
    with pytest.raises(ValueError, match="tensors for only some"):
        model.predict((torch.rand(1, 3, 64, 64), np.zeros((64, 64, 3), np.uint8)), **QUIET)


def test_an_untrained_model_predicts_too(section):
    results = MultimodalYOLO(TINY).predict(folders(section), **QUIET)
    assert len(results) == 4


# How files are read --------------------------------------------------------------------------------------------------


def test_training_keeps_in_the_model_how_files_are_named_and_read(tmp_path):
    section = make_set(tmp_path / "set", deep=True, range={"ir": [7000, 9000]}, align={"ir": TURNED})
    trainer = MWAMTrainer(overrides={**SHORT, "data": section, "project": str(tmp_path), "name": "run"})
    told = describe(trainer.get_model(TINY, verbose=False))
    assert told["reading"] == {"range": {"ir": [7000, 9000]}, "align": {"ir": TURNED}}
    assert list(told["modalities"]) == ["rgb", "ir"]


def test_a_dataset_may_say_it_for_a_model_that_does_not(tmp_path, model):
    section = make_set(tmp_path, deep=True, range={"ir": [7000, 9000]})
    ours = predicted(model, folders(section), rect=False, data=section)
    assert_same(validated(model, section, rect=False), *ours)
    with pytest.raises(DatasetError, match="data gives"):
        model.predict(folders(section), data={**section, "channels": {"ir": 1}}, **QUIET)


# Results and files ---------------------------------------------------------------------------------------------------


def test_results_show_each_modality_and_all_beside_each_other(model, section):
    result = model.predict(folders(section), **QUIET)[0]
    assert isinstance(result, PairResults) and list(result.images) == ["rgb", "ir"]
    for part in (result, result[:1], result.cpu()):
        together = part.plot_modalities(line_width=1)
        rgb, ir = (part.plot(img=image, line_width=1) for image in part.images.values())
        assert np.array_equal(together[-96:, :128], rgb) and np.array_equal(together[-96:, -128:], ir)
        assert together.shape[0] > 96 and together.shape[1] > 256
    assert np.array_equal(result.plot(line_width=1), rgb)


def test_pictures_labels_and_crops_are_saved(model, section, tmp_path):
    results = model.predict(
        folders(section), save=True, save_txt=True, save_crop=True, project=str(tmp_path), name="run", **QUIET
    )
    folder = tmp_path / "run"
    for number, result in enumerate(results):
        picture = cv2.imread(str(folder / f"{number}.jpg"))
        assert np.abs(picture.astype(int) - result.plot_modalities()).mean() < 12  # JPEG
        assert len((folder / "labels" / f"{number}.txt").read_text().splitlines()) == len(result) > 0
    assert len(list((folder / "crops" / "car").iterdir())) == sum(map(len, results))


def test_pictures_of_names_in_no_encoding_are_saved_under_a_printable_one(model, section, tmp_path):
    pair = {}
    try:
        for name, folder in folders(section).items():
            pair[name] = str(tmp_path / f"{name}\udcfc.png")
            Path(pair[name]).write_bytes(Path(folder, "0.png").read_bytes())
    except (OSError, UnicodeEncodeError):
        pytest.skip("the file system takes no such names")
    model.predict(pair, save=True, project=str(tmp_path), name="run", **QUIET)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["rgb\\udcfc.jpg"]


def test_one_side_alone_is_saved_as_one_picture(model, section, tmp_path):
    source = {"ir": f"{folders(section)['ir']}/0.png"}
    model.predict(source, save=True, project=str(tmp_path), name="run", **QUIET)
    assert cv2.imread(str(tmp_path / "run" / "0.jpg")).shape == (96, 128, 3)


def test_streaming_yields_results_as_they_come(model, section):
    generator = model.predict(folders(section), stream=True, **QUIET)
    assert not isinstance(generator, list)
    assert [result.path[-5:] for result in generator] == ["0.png", "1.png", "2.png", "3.png"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A scene that moves a little from frame to frame, in two videos of which one is longer."""
    folder = tmp_path_factory.mktemp("videos")
    for name, count in (("rgb", 5), ("ir", 4)):
        writer = cv2.VideoWriter(str(folder / f"{name}.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (128, 96))
        scene = smooth(len(name), 96, 140)
        for number in range(count):
            writer.write(np.ascontiguousarray(scene[:, number : number + 128]))
        writer.release()
    return {"rgb": str(folder / "rgb.avi"), "ir": str(folder / "ir.avi")}


def test_objects_are_tracked_over_two_videos(model, videos, log, tmp_path):
    pytest.importorskip("lap", reason="needs lap, by which Ultralytics assigns boxes to tracks")
    tracker = tmp_path / "tracker.yaml"
    stock = (Path(ultralytics.__file__).parent / "cfg" / "trackers" / "botsort.yaml").read_text()
    stock = stock.replace("fuse_score: True", "fuse_score: False")  # this model is never sure of anything
    tracker.write_text(re.sub(r"(high|new_track)_thresh: [0-9.]+", r"\1_thresh: 0.05", stock))
    results = list(model.track(videos, stream=True, imgsz=64, verbose=False, tracker=str(tracker)))
    assert len(results) == 4 and all(list(result.images) == ["rgb", "ir"] for result in results)
    seen = defaultdict(int)
    for result in results:
        for number in result.boxes.id.int().tolist() if result.boxes.is_track else []:
            seen[number] += 1
    assert max(seen.values()) >= 3, "no object keeps its number"
    assert any("ir ends after 4 frames" in text for _, text in log)


def test_a_video_of_both_modalities_is_saved(model, videos, tmp_path):
    model.predict(videos, save=True, save_txt=True, project=str(tmp_path), name="run", **QUIET)
    capture = cv2.VideoCapture(str(tmp_path / "run" / "rgb.avi"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (4, 10)
    assert capture.read()[1].shape[1] > 256
    assert len(list((tmp_path / "run" / "labels").iterdir())) == 4


def test_no_name_of_a_class_leads_crops_to_another_place(tmp_path):
    boxes = torch.tensor([[10.0, 10.0, 30.0, 30.0, 0.9, 0.0]])
    image = np.zeros((64, 64, 3), np.uint8)
    result = PairResults.around(Results(image, "a.png", {0: "../../up"}, boxes=boxes), {"rgb": image})
    (tmp_path / "outer/inner").mkdir(parents=True)
    result.save_crop(tmp_path / "outer/inner", "a.jpg")
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert (tmp_path / "outer/inner") in file.parents and result.names == {0: "../../up"}
