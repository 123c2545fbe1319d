import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn.backends.base import BaseBackend
from untrained import QUIET, TINY, folders, make_set, smooth, untrained

from mwam_det import MultimodalYOLO
from mwam_det.cli import main
from mwam_det.data.errors import DatasetError
from mwam_det.data.paired_data import save_dataset_yaml
from mwam_det.data.section import resolve_dataset
from mwam_det.engine.deployment import describe, separate_inputs, stacked_inputs
from mwam_det.engine.exporter import MultimodalExporter

ONNX = {"format": "onnx", "imgsz": 64, "simplify": False}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("model") / "best.pt")


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("pairs"))


def labelled_by_itself(folder, description=TINY):
    """A model whose infrared images are 16-bit, and a set whose labels are some of what it finds."""
    section = make_set(folder / "set", deep=True, range={"ir": [7000, 9000]})
    file = untrained(folder / "best.pt", reading={"range": section["range"]}, description=description)
    model = MultimodalYOLO(file)
    for result in model.predict(folders(section), rect=False, **QUIET):
        label = Path(section["path"]) / "labels" / "val" / f"{Path(result.path).stem}.txt"
        label.unlink()
        result[:5].save_txt(label)
    return model, section


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return labelled_by_itself(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module", params=["onnx", "onnx, separate", "openvino", "torchscript"])
def exported(request, trained, tmp_path_factory):
    """The model in a format, exported from a copy of its checkpoint."""
    format_, _, separate = request.param.partition(", ")
    for library in {"onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}.get(format_, ()):
        pytest.importorskip(library, reason="needs the extra 'export'")
    copy = copied(trained[0].ckpt_path, tmp_path_factory.mktemp("exported"))
    inputs = {"inputs": separate} if separate else {}
    simplify = {"simplify": False} if format_ == "onnx" else {}
    return MultimodalYOLO(MultimodalYOLO(copy).export(format=format_, imgsz=64, **simplify, **inputs))


@pytest.fixture
def onnxruntime():
    pytest.importorskip("onnx", reason="needs the extra 'export'")
    return pytest.importorskip("onnxruntime", reason="needs the extra 'export'")


def skip_where_rounded(exported):
    """Skip a test of exact values if Ultralytics runs this file in bfloat16: it leaves the choice to OpenVINO."""
    if "openvino" in str(exported.model):
        import openvino

        if openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT") != openvino.Type.f32:
            pytest.skip("OpenVINO does not compute in float32 on this processor")


def copied(weights, folder):
    """A checkpoint in a folder of its own: exported files go beside it."""
    copy = folder / "best.pt"
    folder.mkdir(exist_ok=True)
    copy.write_bytes(Path(weights).read_bytes())
    return copy


def stacks(count, height, width, channels=6):
    """Stacked images as the network takes them."""
    pairs = [[smooth(seed, height, width), smooth(seed + 9, height, width)] for seed in range(count)]
    images = np.stack([np.concatenate(pair, 2) for pair in pairs])[..., :channels]
    return images.transpose(0, 3, 1, 2).astype(np.float32) / 255


def run(onnxruntime, file, images):
    """What a deployer gets from a file; `images` is the stack, or a mapping by modality."""
    session = onnxruntime.InferenceSession(file)
    return session.run(None, images if isinstance(images, dict) else {session.get_inputs()[0].name: images})[0]


def test_an_exported_file_tells_the_modalities_in_their_order(exported):
    told = describe(exported.model)
    assert list(told["modalities"].items()) == [("rgb", 3), ("ir", 3)]
    assert told["reading"] == {"range": {"ir": [7000, 9000]}} and told["names"] == {0: "car"}
    assert int(BaseBackend.read_metadata(exported.model)["channels"]) == 6


@pytest.mark.parametrize("missing", [(), ("ir",), ("rgb",)])
def test_an_exported_file_finds_what_pytorch_finds(trained, exported, missing):
    skip_where_rounded(exported)
    model, section = trained
    ours = exported.predict(folders(section), missing=missing, **QUIET)
    theirs = model.predict(folders(section), missing=missing, rect=False, **QUIET)
    assert len(ours) == 4 and sum(map(len, ours)) > 4
    for mine, expected in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.boxes.data, expected.boxes.data, atol=1e-2)


@pytest.mark.slow
def test_the_robustness_of_an_exported_file_is_that_of_the_model(trained, exported, tmp_path):
    skip_where_rounded(exported)
    model, section = trained
    for each, name in ((model, "pt"), (exported, "file")):
        each.robustness(section, save_dir=tmp_path / name, imgsz=64, rect=False, plots=False, workers=0)
    ours, theirs = (json.loads((tmp_path / name / "robustness.json").read_text()) for name in ("file", "pt"))
    assert ours["weights"] == str(exported.overrides["model"])
    assert [c["available"] for c in ours["combinations"]] == [["rgb"], ["ir"], ["rgb", "ir"]]
    assert theirs["combinations"][-1]["mAP50"] > 0.2
    for mine, expected in zip(ours["combinations"], theirs["combinations"], strict=True):
        assert mine["mAP50"] == pytest.approx(expected["mAP50"], abs=0.002)
    with pytest.raises(DatasetError, match="the model takes the modalities"):
        exported.robustness({**section, "channels": {"ir": 1}}, save_dir=tmp_path / "wrong", imgsz=64)


def test_a_file_that_plain_ultralytics_exported_says_nothing_of_modalities(weights, section, tmp_path):
    plain = MultimodalYOLO(YOLO(copied(weights, tmp_path)).export(format="torchscript", imgsz=64))
    with pytest.raises(DatasetError, match="export it with"):
        plain.predict(folders(section), **QUIET)


@pytest.mark.parametrize("name", ["best.pt", "best.torchscript"])
def test_what_has_one_input_is_loaded_from_where_it_lies(weights, tmp_path, name):
    file = copied(weights, tmp_path).rename(tmp_path / name)
    assert stacked_inputs(file, tmp_path / "elsewhere") == file


# One input a modality -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("channels", [3, 1])
def test_separate_inputs_give_the_outputs_of_the_stacked_input(onnxruntime, tmp_path, channels, dynamic):
    copy = untrained(tmp_path / "best.pt", {"rgb": 3, "ir": channels})
    stacked = Path(MultimodalYOLO(copy).export(**ONNX, dynamic=dynamic)).rename(tmp_path / "stacked.onnx")
    separate = MultimodalYOLO(copy).export(**ONNX, dynamic=dynamic, inputs="separate")
    inputs = {each.name: each.shape for each in onnxruntime.InferenceSession(separate).get_inputs()}
    batch, *sides = ["batch", "height", "width"] if dynamic else [1, 64, 64]
    assert inputs == {"rgb": [batch, 3, *sides], "ir": [batch, channels, *sides]}
    images = stacks(3, 96, 64, 3 + channels) if dynamic else stacks(1, 64, 64, 3 + channels)
    named = {"rgb": images[:, :3], "ir": images[:, 3:]}
    assert np.array_equal(run(onnxruntime, separate, named), run(onnxruntime, stacked, images))


def test_a_file_with_separate_inputs_differs_in_its_first_node_alone(onnxruntime, weights, tmp_path):
    import onnx

    file = MultimodalYOLO(copied(weights, tmp_path)).export(**ONNX)
    before = onnx.load(file)
    separate_inputs(file)
    after = onnx.load(file)
    onnx.checker.check_model(after, full_check=True)
    assert after.graph.node[0].op_type == "Concat" and list(after.graph.node[0].input) == ["rgb", "ir"]
    assert list(after.graph.node[1:]) == list(before.graph.node)
    assert after.opset_import == before.opset_import and after.ir_version == before.ir_version
    told, expected = ({e.key: e.value for e in model.metadata_props} for model in (after, before))
    assert told == {**expected, "inputs": "['rgb', 'ir']"}
    back = onnx.load(stacked_inputs(file, tmp_path / ".."))
    assert back.graph == before.graph and {e.key: e.value for e in back.metadata_props} == expected


@pytest.mark.slow
def test_openvino_converts_a_file_with_separate_inputs(onnxruntime, weights, tmp_path):
    openvino = pytest.importorskip("openvino", reason="needs the extra 'export'")
    file = MultimodalYOLO(copied(weights, tmp_path)).export(**ONNX, inputs="separate")
    images = stacks(1, 64, 64)
    named = {"rgb": images[:, :3], "ir": images[:, 3:]}
    model = openvino.compile_model(openvino.convert_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.allclose(model(named)[0], run(onnxruntime, file, named), atol=2e-3)


def test_a_modality_that_is_called_like_a_tensor_cannot_be_an_input(onnxruntime, tmp_path):
    copy = untrained(tmp_path / "best.pt", {"rgb": 3, "images": 3})
    with pytest.raises(ValueError, match="inputs=separate: 'images' is the name of a modality and of a tensor"):
        MultimodalYOLO(copy).export(**ONNX, inputs="separate")


@pytest.mark.parametrize("format_", ["torchscript", "openvino", "engine"])
def test_separate_inputs_of_other_formats_are_refused_with_a_way_round(weights, format_):
    with pytest.raises(NotImplementedError, match=f"with format=onnx, not {format_}: export to ONNX, and convert"):
        MultimodalYOLO(weights).export(format=format_, inputs="separate")


def test_an_unknown_kind_of_inputs_is_refused_with_the_choices(weights):
    with pytest.raises(ValueError, match="inputs='split' is unknown: choose from stacked, separate"):
        MultimodalYOLO(weights).export(format="onnx", inputs="split")


# Dynamic axes -------------------------------------------------------------------------------------------------------


def test_dynamic_axes_take_other_sizes_and_batches(onnxruntime, weights, tmp_path):
    file = MultimodalYOLO(copied(weights, tmp_path)).export(**ONNX, dynamic=True)
    model = MultimodalYOLO(weights).model
    for shape in ((1, 64, 64), (3, 64, 96), (2, 128, 32)):
        images = stacks(*shape)
        with torch.inference_mode():
            expected = model(torch.from_numpy(images))[0].numpy()
        assert np.allclose(run(onnxruntime, file, images), expected, atol=2e-3)


@pytest.mark.parametrize("inputs", ["stacked", "separate"])
def test_a_dynamic_file_predicts_rectangles_in_batches_as_the_model_does(
    onnxruntime, weights, section, tmp_path, inputs
):
    file = MultimodalYOLO(copied(weights, tmp_path)).export(**ONNX, dynamic=True, inputs=inputs)
    options = {**QUIET, "imgsz": 96, "batch": 3}
    ours, theirs = (MultimodalYOLO(each).predict(folders(section), **options) for each in (file, weights))
    assert sum(map(len, ours)) > 4
    for mine, expected in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.boxes.data, expected.boxes.data, atol=1e-2)


def test_a_dynamic_file_predicts_and_reports_at_the_size_that_it_was_exported_at(
    onnxruntime, weights, section, tmp_path
):
    exported = MultimodalYOLO(MultimodalYOLO(copied(weights, tmp_path)).export(**{**ONNX, "imgsz": 96}, dynamic=True))
    options = {"rect": False, "conf": 0.1, "verbose": False}
    ours, theirs = (
        exported.predict(folders(section), **options),
        MultimodalYOLO(weights).predict(folders(section), imgsz=96, **options),
    )
    assert sum(map(len, ours)) > 4
    for mine, expected in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.boxes.data, expected.boxes.data, atol=1e-2)
    exported.robustness(section, save_dir=tmp_path / "report", plots=False, workers=0)
    assert exported.overrides["imgsz"] == 96
    smaller = exported.predict(folders(section), imgsz=64, **options)
    assert not torch.equal(smaller[0].boxes.data[:3], ours[0].boxes.data[:3]), "the size can still be chosen"


@pytest.mark.slow
def test_the_commands_that_an_export_prints_run(weights, section, tmp_path, log, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = MultimodalYOLO(copied(weights, tmp_path / "a folder"))
    section = {**section, "val": ["val", "val"]}  # several folders
    model.model.args["data"] = save_dataset_yaml(resolve_dataset(section).as_dict(), tmp_path)
    model.export(format="torchscript", imgsz=64)
    text = "".join(text for _, text in log)
    assert "yolo predict" not in text and "yolo val" not in text
    lines = dict(re.findall("^(Predict|Evaluate): +(.+)$", text, re.MULTILINE))
    program, *words = shlex.split(lines["Predict"])
    main(words)
    assert program == "mwam-det" and "4 pairs" in capsys.readouterr().out
    program, flag, code = shlex.split(lines["Evaluate"])
    exec(code, {})
    assert (program, flag) == ("python", "-c") and "PCR" in capsys.readouterr().out


# The split ----------------------------------------------------------------------------------------------------------


def test_the_convolution_of_the_split_is_not_in_the_file(onnxruntime, weights, tmp_path):
    import onnx

    copy = copied(weights, tmp_path)
    nodes = onnx.load(MultimodalYOLO(copy).export(**ONNX)).graph.node
    plain = onnx.load(YOLO(copy).export(**ONNX)).graph.node
    assert [node.op_type for node in nodes if "images" in node.input] == ["Split"]
    assert [node.op_type for node in plain if "images" in node.input] == ["Conv"]


def test_prediction_leaves_the_convolution_of_the_split_out_of_its_own_copy_alone(weights, section):
    model = MultimodalYOLO(weights)
    model.predict(folders(section), **QUIET)
    assert isinstance(model.predictor.model.model.model[0].conv, torch.nn.Identity)
    assert isinstance(model.model.model[0].conv, torch.nn.Conv2d)


# INT8 ---------------------------------------------------------------------------------------------------------------


def calibration(weights, section, **arguments):
    """The batches that an exporter would calibrate on."""

    class Calibrating(MultimodalExporter):
        def export_onnx(self):
            batches.extend(self.get_int8_calibration_dataloader())
            return str(self.file)

    batches = []
    overrides = {"format": "onnx", "quantize": 8, "data": section, "batch": 2, "mode": "export", **arguments}
    Calibrating(overrides=overrides)(MultimodalYOLO(weights).model)
    return [batch["img"] for batch in batches]


def test_int8_is_calibrated_on_the_images_that_the_model_predicts_on(weights, section):
    found = torch.cat(calibration(weights, section, imgsz=64))
    assert found.shape == (4, 6, 64, 64) and found.dtype == torch.uint8
    seen = []
    model = MultimodalYOLO(weights)
    watch = lambda module, inputs: seen.append(inputs[0].clone())  # noqa: E731
    model.add_callback("on_predict_start", lambda predictor: predictor.model.register_forward_pre_hook(watch))
    model.predict(folders(section), batch=4, rect=False, **QUIET)
    assert torch.allclose(found.float() / 255, seen[-1], atol=1e-6)


def test_int8_is_calibrated_at_sizes_that_are_not_square(weights, section):
    assert [tuple(images.shape) for images in calibration(weights, section, imgsz=[64, 96])] == [(2, 6, 64, 96)] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format_", "library", "file"),
    [("onnx", "onnxruntime", "best_int8.onnx"), ("openvino", "nncf", "best_int8_openvino_model")],
)
def test_an_int8_file_finds_about_what_the_model_finds(tmp_path, format_, library, file):
    for needed in (format_, library):
        pytest.importorskip(needed, reason=f"INT8 for {format_} needs {needed}")
    model, section = labelled_by_itself(tmp_path / "model", "yolov8n.yaml")
    copy = copied(model.ckpt_path, tmp_path)
    exported = MultimodalYOLO(copy).export(format=format_, imgsz=64, quantize=8, data=section)
    assert Path(exported) == tmp_path / file
    size, exact = (
        sum(part.stat().st_size for part in (each.rglob("*") if each.is_dir() else [each]))
        for each in (tmp_path / file, copy)
    )
    assert size < 0.6 * exact, "weights are not of 8 bits"
    assert section["path"] not in str(BaseBackend.read_metadata(exported)["args"]), "it tells where the pairs lie"
    options = {"imgsz": 64, "rect": False, "plots": False, "workers": 0, "data": section}
    ours = MultimodalYOLO(exported).robustness(**options, save_dir=tmp_path / "file").full.metrics["mAP50"]
    theirs = model.robustness(**options, save_dir=tmp_path / "pt").full.metrics["mAP50"]
    assert theirs > 0.2 and ours > 0.7 * theirs


@pytest.mark.parametrize("precision", [{"int8": True}, {"quantize": 8}])
def test_int8_without_pairs_is_refused(weights, precision):
    with pytest.raises(ValueError, match="quantize=8 is calibrated on pairs: give data"):
        MultimodalYOLO(weights).export(**ONNX, **precision)


def test_int8_on_pairs_of_other_modalities_is_refused(weights, section):
    with pytest.raises(DatasetError, match="the model takes the modalities"):
        MultimodalYOLO(weights).export(**ONNX, quantize=8, data={**section, "channels": {"ir": 1}})


@pytest.mark.parametrize("arguments", [{"format": "engine", "quantize": 8}, {"format": "litert", "quantize": "w8a16"}])
def test_a_format_that_is_not_calibrated_on_pairs_is_refused(weights, arguments):
    with pytest.raises(NotImplementedError, match="cannot be calibrated on pairs.*choose from onnx, openvino"):
        MultimodalYOLO(weights).export(**arguments)


def test_a_format_that_is_always_calibrated_is_refused_before_it_is_written(weights, tmp_path):
    with pytest.raises(NotImplementedError, match="format=axelera cannot be calibrated on pairs"):
        MultimodalYOLO(copied(weights, tmp_path)).export(format="axelera", imgsz=64)
    assert [file.name for file in tmp_path.iterdir()] == ["best.pt"]


@pytest.mark.parametrize("format_", ["onnx", "openvino"])
def test_a_format_whose_packages_are_not_there_is_refused_by_their_names_and_installs_nothing(
    weights, monkeypatch, format_
):
    monkeypatch.setattr("mwam_det.engine.exporter.find_spec", lambda name: None)
    with pytest.raises(NotImplementedError, match=rf'{format_}.*pip install "mwam-det\[export\]"'):
        MultimodalYOLO(weights).export(format=format_, imgsz=64)
