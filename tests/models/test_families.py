"""Every detection model that the installed Ultralytics describes, with a stream a modality."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
import ultralytics
from labels import labelled_batch
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import parse_model, yaml_model_load

from mwam_det.models.two_stream import (
    FUSIONS,
    MODEL_CLASSES,
    REFUSED_HEADS,
    WHOLE_BACKBONE,
    build_two_stream,
    streams_of,
    task_of,
    two_stream_cfg,
)

LARGE = 20e6
"""Parameters from which on a model makes no training step here: it would take seconds and tell nothing new."""


def descriptions():
    """All model files of the installed version by path, those with a backbone of torchvision's without its weights."""
    root = Path(ultralytics.__file__).parent / "cfg" / "models"
    found = {str(file.relative_to(root)): yaml_model_load(file) for file in sorted(root.rglob("*.yaml"))}
    for _, _, layer, arguments in (row for cfg in found.values() for row in cfg["backbone"]):
        if layer == WHOLE_BACKBONE:
            arguments[2] = None
    return found


ALL = descriptions()


def refusal_of(cfg):
    """Why a model gets no streams, or None."""
    return REFUSED_HEADS.get(cfg["head"][-1][2])


FAMILIES = [name for name, cfg in ALL.items() if cfg["head"][-1][2] in MODEL_CLASSES and not refusal_of(cfg)]
SCALES = {name: list(ALL[name].get("scales", [None])) for name in FAMILIES}
UNLIKE_EACH_OTHER = ("v3/yolov3-tiny", "v5/yolov5-p6", "v9/yolov9t", "26/yolo26", "rt-detr/rtdetr-l")


def at_scale(name, scale):
    cfg = deepcopy(ALL[name])
    return {**cfg, "scale": scale} if scale else cfg


def smallest(name):
    return at_scale(name, SCALES[name][0] if name in SCALES else None)


def test_the_installed_version_has_the_families_that_are_promised():
    present = {file.split("/")[0] for file in FAMILIES}
    assert present >= {"v3", "v5", "v6", "v8", "v9", "v10", "11", "12", "26", "rt-detr"}


@pytest.mark.parametrize("name", [name for name in ALL if name not in FAMILIES])
def test_every_other_model_file_is_refused_with_a_reason(name):
    with pytest.raises(ValueError, match=r"ends in \w+: .+|has a layer \w+: .+") as refusal:
        two_stream_cfg(smallest(name))
    assert refusal_of(ALL[name]) in str(refusal.value)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name.removesuffix(".yaml") in UNLIKE_EACH_OTHER else pytest.mark.slow)
        for name in FAMILIES
    ],
)
def test_every_family_runs_on_two_modalities_and_small_ones_make_a_training_step(name):
    torch.manual_seed(0)
    cfg = smallest(name)
    takes_colour = any(layer == WHOLE_BACKBONE for _, _, layer, _ in cfg["backbone"])
    model = build_two_stream(two_stream_cfg(cfg, {"rgb": 3, "ir": 3 if takes_colour else 2}), nc=2)
    model.args, model.nc, task = get_cfg(), 2, task_of(model.yaml)
    with torch.no_grad():
        images = labelled_batch()["img"]
        output = model.eval()(torch.cat([images, images[:, :1]], 1) if takes_colour else images)
    while not isinstance(output, torch.Tensor):  # of objects, with masks or keypoints, the boxes come first
        output = output[0]
    assert output.isfinite().all() and len(output) == 2
    if sum(p.numel() for p in model.parameters()) > LARGE:
        return
    before = {n: [p.detach().clone() for p in stream.parameters()] for n, stream in streams_of(model).items()}
    loss, items = model.train()(labelled_batch(task))
    loss.sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert all(torch.as_tensor(value).isfinite().all() for value in items.values())
    for modality, stream in streams_of(model).items():
        moved = [not torch.equal(p, old) for p, old in zip(stream.parameters(), before[modality], strict=True)]
        assert sum(moved) > 0.9 * len(moved), f"{modality} did not learn"


def without_memory(cfg, channels):
    """Layers of a description, their sizes alone."""
    with torch.device("meta"):
        return parse_model(deepcopy({**cfg, "nc": 2}), ch=channels, verbose=False)[0]


def shapes(layers):
    return [[tensor.shape for tensor in layer.state_dict().values()] for layer in layers]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name in FAMILIES for scale in SCALES[name][:-1]])
def test_every_scale_of_every_family_gets_streams(name, scale):
    cfg = two_stream_cfg(at_scale(name, scale), {"rgb": 3, "ir": 3})
    assert cfg["scale"] == scale and list(cfg["streams"]) == ["rgb", "ir"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_at_the_largest_scale_streams_neck_and_head_are_as_wide_as_in_the_stock_model(name):
    cfg = at_scale(name, SCALES[name][-1])
    two = two_stream_cfg(cfg, {"rgb": 3, "ir": 3})
    stock, built = without_memory(cfg, 3), without_memory(two, 6)
    depth = len(cfg["backbone"])
    for first, end in two["streams"].values():
        assert shapes(built[first + 1 : end]) == shapes(stock[:depth])
    assert shapes(built[two["fusions"][1] :]) == shapes(stock[depth:])


@pytest.mark.slow
@pytest.mark.parametrize(("fusion", "share_backbone"), [*((fusion, False) for fusion in FUSIONS), ("late", True)])
@torch.no_grad()
def test_every_fusion_fits_families_that_are_unlike_each_other(fusion, share_backbone):
    for name in UNLIKE_EACH_OTHER:
        cfg = smallest(f"{name}.yaml")
        two = two_stream_cfg(cfg, {"rgb": 3, "ir": 3}, fusion, share_backbone)
        stock, layers = without_memory(cfg, 3), without_memory(two, 6)
        outputs, x = [], torch.zeros(2, 6, 64, 64, device="meta")
        with torch.device("meta"):
            for layer in layers[:-1].eval():
                read = [x if i == -1 else outputs[i] for i in ([layer.f] if isinstance(layer.f, int) else layer.f)]
                x = layer(read[0] if isinstance(layer.f, int) else read)
                outputs.append(x)
        rest = two["fusions"][1]
        assert shapes(layers[rest:]) == shapes(stock[-(len(layers) - rest) :]), name
        assert [len(outputs[i]) for i in layers[-1].f] == [2] * len(layers[-1].f), name


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_streams_of_a_classifier_meet_before_its_head(fusion):
    two = two_stream_cfg("yolov8n-cls.yaml", {"rgb": 3, "ir": 3}, fusion)
    model = build_two_stream(two, nc=2).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 6, 64, 64))[0].shape == (2, 2)
    assert two["streams"] == {"rgb": [1, 11], "ir": [11, 21]}


def test_what_no_fusion_can_cut_is_refused_with_a_sentence():
    with pytest.raises(ValueError, match=r"fusion='p3' would fuse layer 13 of .*yolov9e\.yaml, which outputs several"):
        two_stream_cfg("yolov9e.yaml", fusion="p3")
