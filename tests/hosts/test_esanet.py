import pytest
import torch
from torch.nn import functional as F

from mwam_det.hosts.models.encoders import load_encoders
from mwam_det.hosts.models.esanet import ESANetMD, LearnedUpsampling, NonBottleneck1D, PyramidPooling
from mwam_det.training.incomplete import IncompleteConfig, draw_views

CHANNELS = {"rgb": 3, "depth": 1}


def inputs(size=(32, 64), batch=1):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(batch, channels, *size, generator=generator) for name, channels in CHANNELS.items()}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ESANetMD(CHANNELS, 5, "r18").eval()


@pytest.mark.parametrize(("encoder", "millions"), [("r34", 46.95), ("r50", 71.7)])
def test_parameters_are_those_of_the_published_hosts(encoder, millions):
    # ESANet-R34-NBt1D is published with 46.9 million; the host of the paper's Table 6, with 71.69, has ResNet-50.
    with torch.device("meta"):
        model = ESANetMD(CHANNELS, 40, encoder)
    own = [parameter.numel() for name, parameter in model.named_parameters() if ".side." not in name]
    sides = [parameter.numel() for name, parameter in model.named_parameters() if ".side." in name]
    assert (sum(own) + sum(sides) * (encoder == "r34")) / 1e6 == pytest.approx(millions, abs=0.01)


def test_in_training_there_are_side_outputs_at_three_more_scales(model):
    sizes = [tuple(output.shape) for output in model.train()(inputs(batch=2))]
    model.eval()
    assert sizes == [(2, 5, 32, 64), (2, 5, 4, 8), (2, 5, 2, 4), (2, 5, 1, 2)]


def test_in_evaluation_there_is_one_output_of_the_size_of_the_input(model):
    with torch.no_grad():
        assert model(inputs()).shape == (1, 5, 32, 64)


@pytest.mark.parametrize("missing", ["rgb", "depth"])
def test_a_missing_modality_adds_nothing_at_any_place_of_fusion(model, missing):
    """What its own excitation makes of features is then of no effect, whatever they are."""
    images = inputs()
    images[missing] = torch.zeros_like(images[missing])
    with torch.no_grad():
        before = model(images)
        for place in model.excite[missing]:
            place.weights[3].bias += 1
        after = model(images)
        for place in model.excite[missing]:
            place.weights[3].bias -= 1
    assert torch.equal(before, after)
    assert before.std() > 0


@torch.no_grad()
@pytest.mark.parametrize("views", ["all", 2, 1])
def test_views_give_what_inputs_of_zeros_give(model, views):
    images = inputs(batch=3)
    generator = torch.Generator().manual_seed(0)
    seen = draw_views(3, list(images), IncompleteConfig(views=views), generator=generator)
    for view, part in enumerate(seen.split(model(images, seen))):
        zeroed = {name: own * seen.present[name][view].view(-1, 1, 1, 1) for name, own in images.items()}
        assert torch.allclose(part, model(zeroed), atol=1e-4)


def test_views_reach_the_side_outputs_of_training(model):
    images = inputs(size=(64, 64), batch=3)
    seen = draw_views(3, list(images), IncompleteConfig())
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # so that samples do not see each other
    with torch.no_grad():
        for view, parts in enumerate(seen.split(model(images, seen))):
            zeroed = {name: own * seen.present[name][view].view(-1, 1, 1, 1) for name, own in images.items()}
            for part, expected in zip(parts, model(zeroed), strict=True):
                torch.testing.assert_close(part, expected, atol=1e-4, rtol=1e-4)
    model.eval()
    assert len(parts) == 4


def test_both_modalities_are_seen_where_they_are(model):
    with torch.no_grad():
        full = model(inputs())
        for name in CHANNELS:
            changed = inputs()
            changed[name] = changed[name].flip(3)
            assert not torch.allclose(model(changed), full, atol=1e-3)


def test_the_gradient_of_each_stream_is_its_own_and_nothing_else_belongs_to_a_stream(model):
    streams = {id(parameter) for parameter in model.streams.parameters()}
    fused = {id(p) for part in (model.excite, model.context, model.skips, model.decoder, model.head)
             for p in part.parameters()}  # fmt: skip
    assert not streams & fused
    assert streams | fused == {id(parameter) for parameter in model.parameters()}


def test_learned_upsampling_begins_as_bilinear():
    features = torch.rand(1, 3, 6, 7)
    expected = F.interpolate(features, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        found = LearnedUpsampling(3)(features)
    assert found.shape == expected.shape
    assert torch.allclose(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-6)


def test_a_factorised_block_keeps_or_halves_the_size():
    assert NonBottleneck1D(8, 8)(torch.rand(2, 8, 6, 6)).shape == (2, 8, 6, 6)
    shortcut = torch.nn.Conv2d(8, 16, 1, stride=2)
    assert NonBottleneck1D(8, 16, 2, shortcut)(torch.rand(2, 8, 6, 6)).shape == (2, 16, 3, 3)


def test_a_factorised_block_adds_two_pairs_of_convolutions_to_its_input():
    torch.manual_seed(0)
    block = NonBottleneck1D(4, 4).eval()
    features, own = torch.randn(2, 4, 5, 6), {name: value.detach() for name, value in block.state_dict().items()}
    for bn in ("bn1", "bn2"):
        for name in ("weight", "bias", "running_mean", "running_var"):
            own[f"{bn}.{name}"].uniform_(0.5, 1.5)

    def pair(values, number):
        tall, wide = (f"conv3x1_{number}", f"conv1x3_{number}")
        values = F.conv2d(values, own[f"{tall}.weight"], own[f"{tall}.bias"], padding=(1, 0)).relu()
        values = F.conv2d(values, own[f"{wide}.weight"], own[f"{wide}.bias"], padding=(0, 1))
        mean, variance = (own[f"bn{number}.running_{what}"].view(-1, 1, 1) for what in ("mean", "var"))
        scale, shift = (own[f"bn{number}.{what}"].view(-1, 1, 1) for what in ("weight", "bias"))
        return (values - mean) / (variance + 1e-3).sqrt() * scale + shift

    wanted = (features + pair(pair(features, 1).relu(), 2)).relu()
    with torch.no_grad():
        assert torch.allclose(block(features), wanted, atol=1e-5)


# Pretrained encoders --------------------------------------------------------------------------------------------------


def authors_checkpoint(blocks):
    """What ESANet's ImageNet pretraining saves: an encoder of NonBottleneck1D blocks, a classifier, the optimizer."""
    shapes = {"conv1.weight": (64, 3, 7, 7), **batch_norm("bn1", 64)}
    before = 64
    for stage, count in enumerate(blocks, 1):
        width = 32 * 2**stage
        for number in range(count):
            block = f"layer{stage}.{number}"
            for name, channels, kernel in [
                ("conv3x1_1", before, (3, 1)),
                ("conv1x3_1", width, (1, 3)),
                ("conv3x1_2", width, (3, 1)),
                ("conv1x3_2", width, (1, 3)),
            ]:
                shapes |= {f"{block}.{name}.weight": (width, channels, *kernel), f"{block}.{name}.bias": (width,)}
            shapes |= batch_norm(f"{block}.bn1", width) | batch_norm(f"{block}.bn2", width)
            if before != width:
                shapes |= {f"{block}.downsample.0.weight": (width, before, 1, 1)}
                shapes |= batch_norm(f"{block}.downsample.1", width)
            before = width
    generator = torch.Generator().manual_seed(0)
    weights = {
        f"encoder.{name}": torch.rand(shape, generator=generator) if shape else torch.tensor(7)
        for name, shape in shapes.items()
    }
    weights |= {"fc.weight": torch.rand(1000, 512), "fc.bias": torch.rand(1000)}
    return {"epoch": 89, "state_dict": weights, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}}


def batch_norm(name, channels):
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{vector}": (channels,) for vector in vectors}, f"{name}.num_batches_tracked": ()}


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "blocks"), [("r18", (2, 2, 2, 2)), ("r34", (3, 4, 6, 3))])
def test_an_encoder_that_esanets_authors_pretrained_is_loaded_whole(encoder, blocks, tmp_path):
    content = authors_checkpoint(blocks)
    torch.save(content, tmp_path / "NBt1D.pth")
    model = ESANetMD(CHANNELS, 5, encoder)
    load_encoders(model.encoders, str(tmp_path / "NBt1D.pth"))
    given = {name.removeprefix("encoder."): value for name, value in content["state_dict"].items()}
    del given["fc.weight"], given["fc.bias"]
    depth = model.encoders["depth"].conv1.weight  # one channel for three
    assert torch.equal(depth, given["conv1.weight"].sum(1, keepdim=True))
    for name, own in model.encoders.items():
        weights = own.state_dict()
        assert weights.keys() == given.keys()
        same = [key for key, value in weights.items() if torch.equal(value, given[key])]
        assert len(same) == len(given) - (name == "depth")


def test_an_encoder_of_other_blocks_is_refused(tmp_path):
    torch.save(authors_checkpoint((2, 2, 2, 2)), tmp_path / "r18.pth")
    with pytest.raises(
        ValueError, match=r"r18.pth does not fit: it lacks \d+ of 312 weights of the encoder, such as lay"
    ):
        load_encoders(ESANetMD(CHANNELS, 5, "r34").encoders, str(tmp_path / "r18.pth"))


def test_the_context_module_tells_every_place_of_the_whole_image():
    torch.manual_seed(0)  # with some weights all four outputs are below 0 there, and cut off
    module = PyramidPooling(8, 4).eval()
    features = torch.zeros(1, 8, 10, 10)
    with torch.no_grad():
        before = module(features)
        features[..., :5, :5] = 5
        assert ((module(features) - before)[..., 9, 9] != 0).any()


def test_of_one_modality_it_is_the_host_without_the_other(model):
    images = inputs()
    alone = ESANetMD({"rgb": 3}, 5, "r18").eval()
    own = {key: value for key, value in model.state_dict().items() if ".depth." not in key}
    alone.load_state_dict(own)
    with torch.no_grad():
        without_depth = model({**images, "depth": torch.zeros_like(images["depth"])})
        assert torch.equal(alone({"rgb": images["rgb"]}), without_depth)


@pytest.mark.parametrize(
    ("channels", "encoder", "words"),
    [
        ({"rgb": 3, "depth": 1, "ir": 1}, "r18", "takes two modalities, .* or one, not rgb, depth, ir"),
        (CHANNELS, "r101", "encoder='r101' must be one of"),
    ],
)
def test_another_number_of_modalities_or_another_encoder_is_refused(channels, encoder, words):
    with pytest.raises(ValueError, match=words):
        ESANetMD(channels, 5, encoder)
