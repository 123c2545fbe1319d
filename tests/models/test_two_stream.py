import copy

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from mwam_det import two_stream_cfg
from mwam_det.models.two_stream import SPLIT_LAYER, build_two_stream, streams_of


@pytest.fixture(scope="module")
def model():
    return build_two_stream(two_stream_cfg("yolov8n.yaml"), nc=3).eval()


@pytest.mark.parametrize("scale", "nsmlx")
def test_every_scale_of_yolov8_becomes_two_streams_as_wide_as_the_stock_backbone(scale):
    cfg = two_stream_cfg(f"yolov8{scale}.yaml")
    model, single = build_two_stream(cfg), DetectionModel(f"yolov8{scale}.yaml", verbose=False)
    backbone = [p.shape for p in single.model[:10].parameters()]
    for stream in streams_of(model).values():
        assert [p.shape for p in stream.parameters()] == backbone
    assert [p.shape for p in model.model[-1].parameters()] == [p.shape for p in single.model[-1].parameters()]


def test_the_description_is_left_as_it_was():
    stock = yaml_model_load("yolov8n.yaml")
    before = copy.deepcopy(stock)
    two_stream_cfg(stock)
    assert stock == before


def test_no_layer_is_of_our_own_making(model):
    assert {type(m).__module__.split(".")[0] for m in model.modules()} <= {"ultralytics", "torch"}


def test_each_stream_sees_its_own_modality_alone(model):
    images = torch.rand(1, 6, 64, 64)
    other_ir = torch.cat([images[:, :3], torch.rand(1, 3, 64, 64)], 1)

    def deepest(images):
        split = model.model[SPLIT_LAYER](images)
        return {name: stream[0](split) for name, stream in streams_of(model).items()}

    first, second = deepest(images), deepest(other_ir)
    assert torch.equal(first["rgb"], images[:, :3]) and torch.equal(first["ir"], images[:, 3:])
    assert torch.equal(first["rgb"], second["rgb"]) and not torch.equal(first["ir"], second["ir"])


def test_both_modalities_reach_the_output(model):
    images = torch.rand(1, 6, 64, 64, requires_grad=True)
    model(images)[0].square().sum().backward()
    for channels in (slice(0, 3), slice(3, 6)):
        assert images.grad[:, channels].abs().max() > 0


def test_the_head_reads_each_level_fused_from_both_streams():
    cfg = two_stream_cfg("yolov8n.yaml")
    layers = cfg["backbone"] + cfg["head"]
    fusions = [layer for layer in layers if layer[2] == "Concat" and min(layer[0]) > 0][:3]
    assert [layer[0] for layer in fusions] == [[6, 17], [8, 19], [11, 22]]


def test_more_than_two_modalities_of_any_width_are_possible():
    cfg = two_stream_cfg("yolov8n.yaml", {"rgb": 3, "ir": 1, "depth": 1})
    model = build_two_stream(cfg, nc=2).eval()
    assert list(streams_of(model)) == ["rgb", "ir", "depth"]
    assert model(torch.rand(1, 5, 64, 64))[0].shape == (1, 6, 84)


def test_one_modality_gives_one_stream():
    model = build_two_stream(two_stream_cfg("yolov8n.yaml", {"ir": 3}), nc=2).eval()
    assert model(torch.rand(1, 3, 64, 64))[0].shape == (1, 6, 84)


def test_the_split_is_frozen_and_the_identity(model):
    split = model.model[SPLIT_LAYER]
    assert all(not p.requires_grad for p in split.parameters())
    images = torch.rand(2, 6, 16, 16)
    assert torch.equal(torch.cat(split(images), 1), images)


def test_streams_share_no_parameter_and_leave_fusion_neck_and_head_out(model):
    streams = {name: {id(p) for p in stream.parameters()} for name, stream in streams_of(model).items()}
    assert not streams["rgb"] & streams["ir"]
    rest = {id(p) for p in model.model[23:].parameters()}
    assert rest and not rest & (streams["rgb"] | streams["ir"])


def test_it_fuses_like_a_stock_model(model):
    images = torch.rand(1, 6, 64, 64)
    expected = model(images)[0]
    fused = copy.deepcopy(model).fuse(verbose=False)
    assert torch.allclose(fused(images)[0], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"cfg": {"nc": 3}}, "'backbone' and a 'head'"),
        ({"cfg": two_stream_cfg("yolov8n.yaml")}, "already has streams: rgb, ir"),
        ({"cfg": "yolov8n.yaml", "fusion": "add"}, "fusion='add' is unknown: choose from concat"),
        ({"cfg": "yolov8n.yaml", "modalities": {"rgb": 0}}, "at least one channel"),
    ],
)
def test_what_cannot_be_split_is_refused_with_a_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        two_stream_cfg(**arguments)


def test_a_single_stream_model_has_no_streams():
    with pytest.raises(ValueError, match="no streams"):
        streams_of(DetectionModel("yolov8n.yaml", verbose=False))
