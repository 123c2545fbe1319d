import copy

import pytest
import torch
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel, torch_safe_load, yaml_model_load
from untrained import awake

from mwam_det import MWAM, GradientModulator, two_stream_cfg
from mwam_det.models.auxiliary import AuxiliaryHeads
from mwam_det.models.replay import FeatureTap, levels_of, run_from_levels, run_stream
from mwam_det.models.two_stream import (
    FUSIONS,
    SPLIT_LAYER,
    build_two_stream,
    drop_split_convolution,
    start_as_mean,
    streams_of,
)


@pytest.fixture(scope="module")
def model():
    return build_two_stream(two_stream_cfg("yolov8n.yaml"), nc=3).eval()


@pytest.mark.slow
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


def torchvision_cfg(weights=None):
    """A classifier with a backbone of torchvision's."""
    backbone = [-1, 1, "TorchVision", [576, "mobilenet_v3_small", weights, True, 2]]
    return {"nc": 3, "backbone": [backbone], "head": [[-1, 1, "Classify", ["nc"]]]}


@pytest.mark.parametrize("weights", [None, False, "None", "False"])
def test_a_backbone_of_torchvisions_is_a_stream_where_nothing_is_downloaded(weights, monkeypatch):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", None)
    cfg = two_stream_cfg(torchvision_cfg(weights))
    model = build_two_stream(cfg, nc=3).eval()
    images = torch.rand(2, 6, 64, 64)
    streams = streams_of(model)
    for place, name in enumerate(("rgb", "ir")):
        pixels = images[:, 3 * place : 3 * place + 3]
        assert torch.equal(run_stream(model, name, pixels)[0], streams[name][1](pixels))
    assert model(images)[0].shape == (2, 3)
    with pytest.raises(ValueError, match="the weights IMAGENET1K_V1, which would be downloaded"):
        two_stream_cfg(torchvision_cfg("IMAGENET1K_V1"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"cfg": {"nc": 3}}, "'backbone' and a 'head'"),
        ({"cfg": two_stream_cfg("yolov8n.yaml")}, "already has streams: rgb, ir"),
        ({"cfg": "yolov8n.yaml", "fusion": "sum"}, "fusion='sum' is unknown: choose from concat, add"),
        ({"cfg": "yolov8n.yaml", "fusion": "attention", "modalities": {"ir": 1}}, "against each other, but ir is one"),
        (
            {"cfg": "yolov8n.yaml", "share_backbone": True, "modalities": {"rgb": 3, "ir": 1}},
            "the same number of channels in every",
        ),
        ({"cfg": "yolo11-cls-resnet18.yaml"}, "TorchVision with the weights DEFAULT, .* replace them by null"),
        ({"cfg": torchvision_cfg(), "modalities": {"rgb": 3, "ir": 1}}, "takes images of 3 channels, but ir has 1"),
        ({"cfg": "yolov8n.yaml", "modalities": {"rgb": 0}}, "at least one channel"),
    ],
)
def test_what_cannot_be_split_is_refused_with_a_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        two_stream_cfg(**arguments)


def layers_of(cfg):
    return cfg["backbone"] + cfg["head"]


@pytest.fixture(scope="module", params=[*((fusion, False) for fusion in FUSIONS), ("concat", True), ("late", True)])
def fused(request):
    """A model of each fusion on three modalities, and two with a shared backbone."""
    fusion, share = request.param
    torch.manual_seed(0)
    cfg = two_stream_cfg("yolov8n.yaml", {"rgb": 3, "ir": 3, "depth": 3}, fusion, share)
    return awake(build_two_stream(cfg, nc=2), channels=9)


@torch.no_grad()
def test_with_every_fusion_a_stream_can_be_replaced_without_running_the_others(fused):
    images = torch.rand(2, 9, 64, 96)
    without = images.clone()
    without[:, 3:6] = 0
    with FeatureTap(fused) as tap:
        complete = fused(images)[0]
        features = tap.take()
    expected = fused(without)[0]
    assert (expected - complete).abs().max() > 0.01, "the modality makes no difference"
    nothing = run_stream(fused, "ir", without[:, 3:6])
    torch.testing.assert_close(run_from_levels(fused, {**features, "ir": nothing})[0], expected, rtol=1e-4, atol=1e-3)


def test_with_every_fusion_each_modality_has_as_many_levels_and_a_head_on_each(fused):
    fused.args = get_cfg()
    expected = 1 if fused.yaml["fusion"] == "p3" else 3
    assert {len(levels) for levels in levels_of(fused).values()} == {expected}
    for head in AuxiliaryHeads(fused).heads.values():
        assert head.stride.tolist() == [8, 16, 32][:expected]
        assert [branch[0].conv.in_channels for branch in head.cv2] == [64, 128, 256][:expected]


@pytest.mark.slow
def test_with_every_fusion_mwam_scales_the_gradients_of_the_streams_alone(fused):
    if fused.yaml["share_backbone"]:
        assert len({id(p) for s in streams_of(fused).values() for p in s.parameters()}) == len(
            list(streams_of(fused)["rgb"].parameters())
        )
        return
    images, gradients = torch.rand(2, 9, 64, 64), []
    for weights in ((1.0, 1.0, 1.0), (1.0, 0.5, 2.0)):
        model = copy.deepcopy(fused).double()
        mwam = MWAM(["rgb", "ir", "depth"])
        GradientModulator(mwam, streams_of(model))
        mwam.weights = dict(zip(["rgb", "ir", "depth"], map(torch.tensor, weights), strict=True))
        model(images.double())[0].square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    factor = {f"model.{i}.": w for (a, b), w in zip(fused.yaml["streams"].values(), weights, strict=True)
              for i in range(a, b)}  # fmt: skip
    plain, scaled = gradients
    assert len(plain) > 100
    for name, gradient in plain.items():
        expected = gradient * factor.get(".".join(name.split(".")[:2]) + ".", 1.0)
        torch.testing.assert_close(scaled[name], expected, rtol=1e-6, atol=1e-12)


@pytest.mark.slow
def test_every_fusion_is_of_stock_layers_and_loads_with_the_restricted_unpickler(fused, tmp_path):
    assert {type(m).__module__.split(".")[0] for m in fused.modules()} <= {"ultralytics", "torch"}
    file = tmp_path / "fused.pt"
    torch.save({"model": copy.deepcopy(fused).half(), "train_args": {}}, file)
    images = torch.rand(1, 9, 64, 64)
    model = torch_safe_load(file, safe_only=True)[0]["model"].float()
    expected = copy.deepcopy(fused).half().float()(images)[0]
    assert torch.equal(model(images)[0], expected)
    assert torch.allclose(YOLO(file).model(images)[0], expected, atol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_every_fusion_can_be_traced_with_its_batch_norms_folded(fused):
    model = copy.deepcopy(fused).fuse(verbose=False)
    model.model[-1].export, model.model[-1].format = True, "torchscript"
    images = torch.rand(1, 9, 64, 64)
    model(images)  # anchors
    traced = torch.jit.trace(model, images, check_trace=False)
    other = torch.rand(1, 9, 64, 64)
    torch.testing.assert_close(traced(other), model(other))


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["add", "attention"])
@pytest.mark.parametrize("count", [2, 3])
def test_add_and_attention_begin_as_the_mean_over_streams(fusion, count):
    names = ["rgb", "ir", "depth"][:count]
    model = build_two_stream(two_stream_cfg("yolov8n.yaml", dict.fromkeys(names, 3), fusion), nc=2).eval()
    features = {name: [torch.randn(1, width, 8, 8) for width in (64, 128, 256)] for name in names}
    means = [torch.stack(levels).mean(0) for levels in zip(*features.values(), strict=True)]
    known = {level: f for name in names for level, f in zip(levels_of(model)[name], features[name], strict=True)}
    first, end = model.yaml["fusions"]
    outputs, x = dict(known), None
    for index in range(first, end):
        layer = model.model[index]
        read = [
            x if source == -1 else outputs[source] for source in ([layer.f] if isinstance(layer.f, int) else layer.f)
        ]
        x = outputs[index] = layer(read[0] if isinstance(layer.f, int) else read)
    maps = [out for out in outputs.values() if isinstance(out, torch.Tensor)]
    for mean in means:
        assert any(out.shape == mean.shape and torch.allclose(out, mean, atol=1e-5) for out in maps)


def test_a_convolution_with_an_activation_begins_as_the_activation_of_the_mean():
    model = build_two_stream(two_stream_cfg("yolov8n.yaml"), nc=2).eval()
    start_as_mean(model)
    rgb, ir = torch.randn(2, 1, 64, 8, 8)
    concatenated = torch.cat([rgb, ir], 1)
    convolution = model.model[model.yaml["fusions"][0] + 1]
    expected = torch.nn.functional.silu((rgb + ir) / 2)
    torch.testing.assert_close(convolution(concatenated), expected, atol=1e-5, rtol=1e-4)


def test_late_streams_have_a_neck_each_and_p3_streams_end_where_the_neck_begins_to_read():
    late, p3 = two_stream_cfg("yolov8n.yaml", fusion="late"), two_stream_cfg("yolov8n.yaml", fusion="p3")
    assert late["streams"] == {"rgb": [1, 24], "ir": [24, 47]} and len(layers_of(late)) == 47 + 6 + 1
    assert p3["streams"] == {"rgb": [1, 7], "ir": [7, 13]} and p3["levels"] == {"rgb": [6], "ir": [12]}


def test_a_shared_backbone_is_there_once_and_gives_what_it_gives_to_each_modality_alone():
    torch.manual_seed(0)
    cfg = two_stream_cfg("yolov8n.yaml", {"rgb": 3, "ir": 3}, share_backbone=True)
    model = awake(build_two_stream(cfg, nc=2), channels=6)
    streams = streams_of(model)
    single = DetectionModel("yolov8n.yaml", verbose=False).model[:10]
    assert [p.shape for p in streams["rgb"].parameters()] == [p.shape for p in single.parameters()]
    assert list(map(id, streams["rgb"].parameters())) == list(map(id, streams["ir"].parameters()))
    images = torch.rand(2, 6, 64, 64)
    with FeatureTap(model) as tap, torch.no_grad():
        model(images)
        features = tap.take()
    for name, part in (("rgb", images[:, :3]), ("ir", images[:, 3:])):
        with torch.no_grad():
            alone = run_stream(model, name, part)
        for level, expected in zip(features[name], alone, strict=True):
            torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-5)


def test_a_single_stream_model_has_no_streams():
    with pytest.raises(ValueError, match="no streams"):
        streams_of(DetectionModel("yolov8n.yaml", verbose=False))


@pytest.mark.parametrize("options", [{}, {"fusion": "p3"}, {"share_backbone": True}], ids=str)
def test_without_the_convolution_of_the_split_the_outputs_are_the_same_bit_for_bit(options):
    model = build_two_stream(two_stream_cfg("yolov8n.yaml", {"rgb": 3, "ir": 3}, **options), nc=2).eval()
    images = torch.rand(2, 6, 64, 96)
    with torch.no_grad():
        before = model(images)[0]
        drop_split_convolution(model)
        assert isinstance(model.model[SPLIT_LAYER].conv, torch.nn.Identity)
        assert torch.equal(model(images)[0], before)
    drop_split_convolution(model)  # once is enough


def test_a_split_that_is_no_identity_keeps_its_convolution(model):
    changed = copy.deepcopy(model)
    changed.model[SPLIT_LAYER].conv.bias[2] = 0.1
    single = DetectionModel("yolov8n.yaml", verbose=False)
    for each in (changed, single):
        layers = [type(layer) for layer in each.modules()]
        drop_split_convolution(each)
        assert [type(layer) for layer in each.modules()] == layers
