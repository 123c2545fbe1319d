import torch
from torch import nn
from ultralytics.utils.checks import check_font

from mwam_det.engine.compat import half_precision_works, use_bundled_font
from mwam_det.models.two_stream import build_two_stream, two_stream_cfg


def test_ultralytics_finds_its_font_on_this_machine_and_downloads_none():
    use_bundled_font()
    assert str(check_font("Arial.ttf")).endswith("Arial.ttf")


def test_half_precision_is_trusted_where_it_gives_about_the_same_outputs():
    model = build_two_stream(two_stream_cfg("yolov8n.yaml"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert half_precision_works(model, channels=6)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Overflowing(nn.Module):
    """Stays finite in float32 and overflows in float16."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)
        self.conv.weight.data.fill_(1e5)

    def forward(self, images):
        return (self.conv(images),)


def test_half_precision_is_not_trusted_where_it_overflows():
    assert not half_precision_works(Overflowing(), channels=6)
