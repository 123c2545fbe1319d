import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from mwam_det.hosts.models.access import modality_access
from mwam_det.hosts.models.classifiers import SFMD, ResNet18Concat
from mwam_det.hosts.models.encoders import SqueezeExcitation, load_encoders
from mwam_det.training.incomplete import IncompleteConfig, draw_views

HOSTS = (ResNet18Concat, SFMD)


def inputs(names, size=32):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(2, channels, size, size, generator=generator) for name, channels in names.items()}


def test_a_modality_of_zeros_is_missing_sample_by_sample():
    images = inputs({"rgb": 3, "ir": 1}, 4)
    images["ir"][1] = 0
    access, features = modality_access(images), torch.ones(2, 5, 3, 3)
    assert access("rgb", features).eq(1).all()
    assert access("ir", features)[:, 0, 0, 0].tolist() == [1, 0]
    assert access("ir", features[..., 0, 0]).tolist() == [[1] * 5, [0] * 5]


def test_squeeze_and_excitation_weighs_channels_between_0_and_1():
    features = torch.ones(2, 32, 3, 3)
    weights = SqueezeExcitation(32)(features)
    assert weights.shape == features.shape and ((weights > 0) & (weights < 1)).all()
    assert torch.equal(weights, weights[..., :1, :1].expand_as(weights))


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("channels", [{"rgb": 3, "ir": 1}, {"rgb": 3, "depth": 1, "ir": 3}], ids=len)
def test_a_classifier_takes_two_modalities_and_more(host, channels):
    model = host(channels, 5).eval()
    assert list(model.streams) == list(channels)
    with torch.no_grad():
        assert model(inputs(channels)).shape == (2, 5)


@pytest.mark.parametrize("host", HOSTS)
def test_what_the_stream_of_a_missing_modality_would_say_has_no_effect(host):
    model = host({"rgb": 3, "ir": 3}, 2).eval()
    images = inputs({"rgb": 3, "ir": 3})
    images["ir"] = torch.zeros_like(images["ir"])
    with torch.no_grad():
        before = model(images)
        model.encoders["ir"].bn1.bias += 1
        assert torch.equal(model(images), before)


@pytest.mark.parametrize("host", HOSTS)
@torch.no_grad()
def test_views_give_what_inputs_of_zeros_give(host):
    channels = {"rgb": 3, "depth": 1, "ir": 3}
    model, images = host(channels, 2).eval(), inputs(channels)
    views = draw_views(2, list(channels), IncompleteConfig())
    for view, part in enumerate(views.split(model(images, views))):
        lacking = {name: own[view][0].item() for name, own in views.present.items()}
        zeroed = {name: own if lacking[name] else torch.zeros_like(own) for name, own in images.items()}
        assert torch.allclose(part, model(zeroed), atol=1e-5)


def test_a_stream_of_the_concatenation_is_torchvisions_resnet():
    torch.manual_seed(0)
    stock, model = resnet18(weights=None).eval(), ResNet18Concat({"rgb": 3, "ir": 3}, 2).eval()
    own = model.encoders["rgb"]
    own.load_state_dict({key: value for key, value in stock.state_dict().items() if not key.startswith("fc.")})
    stock.fc = nn.Identity()
    images = inputs({"rgb": 3})["rgb"]
    with torch.no_grad():
        assert torch.allclose(model.streams["rgb"](images), stock(images), atol=1e-6)


def test_sf_md_with_the_authors_first_convolutions_has_the_published_size():
    """Counted by hand from the published code: three streams, the fused stages, the classifier."""

    def block(before, after):
        return 9 * before * after + 9 * after**2 + 4 * after

    def shortcut(before, after):
        return before * after + 2 * after

    stream = 3 * 64 * 9 + 2 * 64 + 2 * block(64, 64) + block(64, 128) + shortcut(64, 128) + block(128, 128)
    stream += 128 * 8 + 8 + 8 * 128 + 128  # squeeze and excitation
    fused = block(384, 256) + shortcut(384, 256) + block(256, 256) + block(256, 512) + shortcut(256, 512)
    wanted = 3 * stream + fused + block(512, 512) + 512 * 2 + 2
    found = sum(own.numel() for own in SFMD({"rgb": 3, "depth": 3, "ir": 3}, 2, stem=3).parameters())
    assert found == wanted and round(wanted / 1e6, 2) == 13.18


@pytest.mark.parametrize("stem", [3, 7])
def test_either_stem_halves_the_image(stem):
    encoder = SFMD({"rgb": 3, "ir": 1}, 2, stem).encoders["ir"]
    assert encoder.conv1(torch.zeros(1, 1, 112, 112)).shape == (1, 64, 56, 56)


def test_what_is_fused_begins_as_torchvisions_stages_do():
    torch.manual_seed(0)
    for convolution in (own for own in SFMD({"rgb": 3, "ir": 3}, 2).fused.modules() if isinstance(own, nn.Conv2d)):
        fan_out = convolution.out_channels * convolution.kernel_size[0] ** 2
        assert convolution.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


# Pretrained weights ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file as torchvision's of ImageNet: a state dict with the classifier in it."""
    torch.manual_seed(1)
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), file)
    return file


def test_a_file_of_imagenet_weights_fills_every_encoder(weights):
    content = torch.load(weights)
    model = SFMD({"rgb": 3, "depth": 1}, 2)
    load_encoders(model.encoders, str(weights))
    for encoder in model.encoders.values():
        assert torch.equal(encoder.layer2[1].conv2.weight, content["layer2.1.conv2.weight"])
    assert torch.equal(model.encoders["rgb"].conv1.weight, content["conv1.weight"])
    assert torch.equal(model.encoders["depth"].conv1.weight, content["conv1.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize("host", HOSTS)
def test_torchvisions_older_files_have_no_counters_of_batch_norms(host, weights, tmp_path):
    content = {key: value for key, value in torch.load(weights).items() if not key.endswith("num_batches_tracked")}
    torch.save(content, tmp_path / "resnet18-5c106cde.pth")
    encoders = host({"rgb": 3, "ir": 3}, 2).encoders
    load_encoders(encoders, str(tmp_path / "resnet18-5c106cde.pth"))
    for encoder in encoders.values():
        assert torch.equal(encoder.layer2[0].bn1.running_mean, content["layer2.0.bn1.running_mean"])
        assert torch.equal(encoder.layer2[0].downsample[0].weight, content["layer2.0.downsample.0.weight"])
        assert encoder.bn1.num_batches_tracked == 0


def test_a_missing_statistic_of_a_batch_norm_is_refused(weights, tmp_path):
    content = torch.load(weights)
    del content["layer1.0.bn1.running_var"]
    torch.save(content, tmp_path / "gap.pth")
    with pytest.raises(ValueError, match=r"lacks 1 of \d+ weights of the encoder, such as layer1.0.bn1.running_var"):
        load_encoders(ResNet18Concat({"rgb": 3, "ir": 3}, 2).encoders, str(tmp_path / "gap.pth"))


def test_one_modality_alone_can_have_weights(weights):
    model = SFMD({"rgb": 3, "ir": 3}, 2)
    before = model.encoders["ir"].conv1.weight.clone()
    load_encoders(model.encoders, {"rgb": str(weights)})
    assert torch.equal(model.encoders["ir"].conv1.weight, before)
    assert torch.equal(model.encoders["rgb"].conv1.weight, torch.load(weights)["conv1.weight"])


def test_weights_that_cannot_be_used_are_refused_with_their_file(tmp_path):
    encoders = SFMD({"rgb": 3, "ir": 3}, 2).encoders
    (tmp_path / "text.pth").write_text("weights")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "few.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({0: torch.zeros(1)}, tmp_path / "numbered.pth")
    torch.save({"conv1.weight": torch.tensor(0.0)}, tmp_path / "scalar.pth")
    torch.save({**resnet18(weights=None).state_dict(), "bn1.bias": torch.full((64,), torch.nan)}, tmp_path / "nan.pth")
    for pretrained, words in [
        ("none.pth", "pretrained=none.pth is not a file; weights are not downloaded"),
        ({"depth": "none.pth"}, "pretrained names 'depth': choose from rgb, ir"),
        ({"rgb": 3}, "pretrained=3 is not a file"),
        ("x" * 5000, "is not a file"),
        (str(tmp_path / "text.pth"), "text.pth cannot be read as weights"),
        (str(tmp_path / "list.pth"), "list.pth holds no state dict"),
        (str(tmp_path / "numbered.pth"), "numbered.pth holds no state dict"),
        (str(tmp_path / "scalar.pth"), "scalar.pth does not fit"),
        (str(tmp_path / "nan.pth"), "nan.pth has weights that are not finite numbers, such as bn1.bias"),
        (str(tmp_path / "few.pth"), r"few.pth does not fit: it lacks \d+ of \d+ weights .* such as bn1"),
    ]:
        with pytest.raises(ValueError, match=words):
            load_encoders(encoders, pretrained)
