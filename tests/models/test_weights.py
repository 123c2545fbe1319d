import copy
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from untrained import awake

from mwam_det.models.replay import FeatureTap
from mwam_det.models.two_stream import FUSIONS, build_two_stream, two_stream_cfg
from mwam_det.models.weights import (
    CLASSES_DIFFER,
    FUSION,
    layers_of_stock,
    load_pretrained,
    map_weights,
    pretrained_files,
)


def stock(name="yolov8n.yaml", nc=3, seed=0):
    """A stock model that answers to its input, as a trained one does: a few steps, and batch norms that saw them."""
    torch.manual_seed(seed)
    model = DetectionModel(name, nc=nc, verbose=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        feats = model.train()(torch.rand(4, 3, 64, 64))
        feats = feats.get("one2many", feats)["feats"]
        sum((f - 1).square().mean() for f in feats).backward()
        optimizer.step()
    return awake(model, channels=3)


def save(model, file):
    torch.save({"model": copy.deepcopy(model), "train_args": {}}, file)
    return file


@pytest.fixture(scope="module")
def single():
    return stock()


@pytest.fixture(scope="module")
def checkpoint(single, tmp_path_factory):
    return save(single, tmp_path_factory.mktemp("stock") / "yolov8n.pt")


def two(fusion="concat", modalities=None, name="yolov8n.yaml", nc=3, **options):
    return build_two_stream(two_stream_cfg(name, modalities, fusion, **options), nc=nc).eval()


def head_inputs(model, images):
    kept = {}
    handle = model.model[-1].register_forward_pre_hook(lambda module, inputs: kept.update(levels=list(inputs[0])))
    with torch.no_grad():
        model(images)
    handle.remove()
    return kept["levels"]


@pytest.mark.parametrize("share_backbone", [False, True])
@pytest.mark.parametrize("fusion", ["add", "attention"])
def test_identical_inputs_in_all_streams_give_the_head_what_the_single_stream_model_gives_it(
    single, checkpoint, fusion, share_backbone
):
    model = two(fusion, share_backbone=share_backbone)
    load_pretrained(model, checkpoint)
    images = torch.rand(2, 3, 96, 128)
    expected, found = head_inputs(single, images), head_inputs(model, torch.cat([images, images], 1))
    assert [len(levels) for levels in (expected, found)] == [3, 3]
    for level, other in zip(expected, found, strict=True):
        assert level.std() > 1e-2, "the input hardly reaches the head"
        assert (level - other).abs().max() < 1e-4
    with torch.no_grad():
        torch.testing.assert_close(
            model(torch.cat([images, images], 1))[0], single(images)[0], atol=1e-2, rtol=1e-3
        )  # boxes are in pixels


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov5n.yaml", "yolov9t.yaml", "yolov10n.yaml", "yolo11n.yaml", "yolo26n.yaml"])
def test_weights_of_other_families_arrive_too(name, tmp_path):
    single = stock(name)
    model = two("add", name=name)
    load_pretrained(model, save(single, tmp_path / "stock.pt"))
    images = torch.rand(1, 3, 64, 64)
    for level, other in zip(
        head_inputs(single, images), head_inputs(model, torch.cat([images, images], 1)), strict=True
    ):
        assert (level - other).abs().max() < 1e-4


def test_a_fusion_with_relu_is_exact_too(tmp_path):
    single = stock("yolov6n.yaml")  # its features come from ReLU, which leaves them as they are
    model = two("concat", name="yolov6n.yaml")
    load_pretrained(model, save(single, tmp_path / "stock.pt"))
    images = torch.rand(1, 3, 64, 64)
    for level, other in zip(
        head_inputs(single, images), head_inputs(model, torch.cat([images, images], 1)), strict=True
    ):
        assert (level - other).abs().max() < 1e-4


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_tensor_comes_from_its_place_in_the_stock_model(single, checkpoint, fusion):
    model = two(fusion)
    report = load_pretrained(model, checkpoint)
    state, source = model.state_dict(), single.state_dict()
    used = set()
    for key, tensor in state.items():
        index, rest = key.removeprefix("model.").split(".", 1)
        if int(index) in (origins := layers_of_stock(model.yaml)):
            name = f"model.{origins[int(index)][1]}.{rest}"
            assert torch.equal(tensor, source[name]), key
            used.add(name)
    assert used == set(source)
    assert "left over" not in report and f"{CLASSES_DIFFER}" not in report and FUSION in report


@pytest.mark.slow
def test_each_stream_takes_its_own_checkpoint_and_the_rest_the_first_named(single, tmp_path):
    other = stock(seed=1)
    files = {"ir": save(other, tmp_path / "ir.pt"), "rgb": save(single, tmp_path / "rgb.pt")}
    model = two("add")
    report = load_pretrained(model, files)
    ends = model.yaml["streams"]
    for name, origin in (("rgb", single), ("ir", other)):
        first = ends[name][0] + 1
        assert torch.equal(model.model[first].conv.weight, origin.model[0].conv.weight)
    rest = model.yaml["fusions"][1]
    assert torch.equal(model.model[rest + 2].cv1.conv.weight, other.model[12].cv1.conv.weight)
    assert f"from {files['ir']} (ir)" in report and f"from {files['rgb']} (rgb)" in report


def test_a_modality_without_a_checkpoint_stays_fresh_and_the_report_says_so(checkpoint):
    model = two()
    before = copy.deepcopy(model.state_dict())
    report = load_pretrained(model, {"rgb": checkpoint})
    first, end = model.yaml["streams"]["ir"]
    kept = [key for key in before if first <= int(key.split(".")[1]) < end]
    assert kept and all(torch.equal(model.state_dict()[key], before[key]) for key in kept)
    assert f"{len(kept)} not taken, ir: no checkpoint was named for this modality: model.{first + 1}.conv" in report


def test_a_first_convolution_on_one_channel_is_the_sum_over_three(single, checkpoint):
    model = two("add", {"rgb": 3, "ir": 1})
    report = load_pretrained(model, checkpoint)
    grey = torch.rand(2, 1, 64, 64)
    rgb = grey.expand(-1, 3, -1, -1)
    for level, other in zip(head_inputs(single, rgb), head_inputs(model, torch.cat([rgb, grey], 1)), strict=True):
        assert (level - other).abs().max() < 1e-4
    assert f"summed over their input channels: model.{model.yaml['streams']['ir'][0] + 1}.conv.weight" in report


def test_a_first_convolution_on_other_numbers_of_channels_stays_fresh(checkpoint):
    report = load_pretrained(two(modalities={"rgb": 3, "ir": 2}), checkpoint)
    assert "1 not taken, as ir has 2 channels and the checkpoint 3: model.13.conv.weight" in report


def test_class_layers_stay_fresh_where_the_classes_differ_in_number(single, checkpoint):
    model = two(nc=5)
    before = copy.deepcopy(model.state_dict())
    report = load_pretrained(model, checkpoint)
    last = len(model.model) - 1
    for level in range(3):
        key = f"model.{last}.cv3.{level}.2.weight"
        assert torch.equal(model.state_dict()[key], before[key])
        assert torch.equal(
            model.state_dict()[f"model.{last}.cv2.{level}.2.weight"],
            single.state_dict()[f"model.22.cv2.{level}.2.weight"],
        )
    assert f"6 not taken, {CLASSES_DIFFER}: model.{last}.cv3.0.2.weight" in report


def test_the_map_is_pure(single):
    model = two()
    state = {key: tensor.clone() for key, tensor in single.state_dict().items()}
    before = copy.deepcopy(model.state_dict())
    transfer = map_weights(model.yaml, model.state_dict(), {"rgb": state, "ir": state})
    assert not set(transfer.tensors) & set(transfer.fresh)
    assert set(transfer.tensors) | set(transfer.fresh) == set(before)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, single.state_dict()[key]) for key, tensor in state.items())


def test_a_transferred_model_answers_to_both_modalities(checkpoint):
    model = two()
    load_pretrained(model, checkpoint)
    with FeatureTap(model) as tap, torch.no_grad():
        model(torch.rand(1, 6, 64, 64))
        features = tap.take()
    assert all(level.std() > 1e-3 for levels in features.values() for level in levels)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("yolov8n.pt", FileNotFoundError, "pretrained=yolov8n.pt is not a file; nothing is downloaded"),
        ({"infrared": "a.pt"}, ValueError, "pretrained names infrared: choose from rgb, ir"),
        ({}, ValueError, "must be a checkpoint like yolov8n.pt"),
        (3, ValueError, "pretrained=3 must be a checkpoint"),
    ],
)
def test_what_names_no_checkpoint_is_refused_with_a_sentence(value, error, words):
    with pytest.raises(error, match=words):
        pretrained_files(value, {"rgb": 3, "ir": 3})


def test_a_damaged_or_wrong_checkpoint_is_refused_with_a_sentence(single, checkpoint, tmp_path):
    broken = copy.deepcopy(single)
    broken.model[3].conv.weight.data[0, 0] = torch.nan
    content = checkpoint.read_bytes()
    files = {
        "noise.pt": b"\x93noise" * 900,
        "empty.pt": b"",
        "cut.pt": content[: len(content) // 2],
        "text.pt": b"hello",
        "list.pt": [1, 2],
        "state.pt": single.state_dict(),
        "linear.pt": {"model": nn.Linear(2, 2)},
        "nan.pt": {"model": broken},
    }
    for name, value in files.items():
        (tmp_path / name).write_bytes(value) if isinstance(value, bytes) else torch.save(value, tmp_path / name)
    words = {
        "linear.pt": "holds a Linear, which is not a model of Ultralytics",
        "nan.pt": "has weights that are not finite: model.3.conv.weight",
    }
    for name in files:
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ValueError) as caught:
            pretrained_files(str(tmp_path / name), {"rgb": 3, "ir": 3})
        expected = words.get(name, "is not a checkpoint of an Ultralytics model, or is damaged")
        assert str(caught.value).startswith(f"pretrained={tmp_path / name} {expected}")
        assert "\n" not in str(caught.value) and (tmp_path / name).read_bytes() == before
    with pytest.raises(FileNotFoundError, match="is not a file"):
        pretrained_files(str(tmp_path), {"rgb": 3, "ir": 3})
    with pytest.raises(ValueError, match="has streams itself"):
        pretrained_files({"rgb": save(two(), tmp_path / "streams.pt")}, {"rgb": 3, "ir": 3})
    assert list(pretrained_files({"ir": checkpoint}, {"rgb": 3, "ir": 3})) == ["ir"]


def test_a_damaged_file_with_the_name_of_a_published_one_is_neither_deleted_nor_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("yolov8n.pt").write_bytes(b"\x93noise" * 900)
    with pytest.raises(ValueError, match="pretrained=yolov8n.pt is not a checkpoint"):
        pretrained_files("yolov8n.pt", {"rgb": 3, "ir": 3})
    assert Path("yolov8n.pt").is_file()


class Elsewhere(nn.Linear):
    """A module of a package that is not installed, once it is saved."""


def test_a_checkpoint_of_a_package_that_is_not_there_makes_nothing_be_installed(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("ultralytics.nn.tasks.check_requirements", lambda *args, **kwargs: asked.append(args))
    package = types.ModuleType("package_of_nobody")
    package.Elsewhere = Elsewhere
    monkeypatch.setattr(Elsewhere, "__module__", package.__name__)
    monkeypatch.setitem(sys.modules, package.__name__, package)
    torch.save({"model": Elsewhere(2, 2)}, tmp_path / "foreign.pt")
    monkeypatch.delitem(sys.modules, package.__name__)
    with pytest.raises(ValueError, match="needs package_of_nobody, which is not installed"):
        pretrained_files(str(tmp_path / "foreign.pt"), {"rgb": 3, "ir": 3})
    assert not asked


@pytest.mark.slow
def test_safe_loading_is_honoured(tmp_path):
    code = """
import os, sys, torch
from mwam_det.models.weights import pretrained_files
class Harmful:
    def __reduce__(self): return os.mkdir, (sys.argv[1] + "/done",)
torch.save({"model": Harmful()}, sys.argv[1] + "/harmful.pt")
try: pretrained_files(sys.argv[1] + "/harmful.pt", {"rgb": 3})
except ValueError as error: print(error)
"""
    environment = {**os.environ, "ULTRALYTICS_SAFE_LOAD": "1"}
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert "is not a checkpoint of an Ultralytics model" in said.stdout, said.stderr
    assert not (tmp_path / "done").exists()


@pytest.mark.slow
def test_checkpoints_of_other_models_are_refused_with_a_sentence(checkpoint, tmp_path):
    with pytest.raises(
        ValueError, match=r"is from another model than yolov8s.yaml: its model\.0\.conv\.weight is \(16, 3"
    ):
        load_pretrained(two(name="yolov8s.yaml"), checkpoint)
    fused = YOLO(checkpoint).model.fuse(verbose=False)
    with pytest.raises(ValueError, match=r"has no tensor model\.0\.bn\.weight: it is fused for inference"):
        load_pretrained(two(), save(fused, tmp_path / "fused.pt"))
    with pytest.raises(ValueError, match="has streams itself"):
        load_pretrained(two(), {"rgb": save(two(), tmp_path / "streams.pt")})
    with pytest.raises(ValueError, match="one backbone: name one checkpoint"):
        load_pretrained(two(share_backbone=True), {"rgb": checkpoint, "ir": save(stock(), Path(tmp_path / "b.pt"))})
