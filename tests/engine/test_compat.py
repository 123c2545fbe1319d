from types import SimpleNamespace

import pytest
import torch
from torch import nn
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.checks import check_font

from mwam_det.engine import compat
from mwam_det.engine.compat import half_precision_works, use_bundled_font
from mwam_det.models.two_stream import build_two_stream, two_stream_cfg


def test_ultralytics_finds_its_font_on_this_machine_and_downloads_none():
    use_bundled_font()
    assert str(check_font("Arial.ttf")).endswith("Arial.ttf")


def test_half_precision_is_trusted_where_the_head_only_exchanges_places():
    model = Overflowing()
    model.model = nn.Sequential(nn.Conv2d(6, 6, 1), Ranking())
    assert half_precision_works(model, channels=6)


@pytest.mark.slow
@pytest.mark.parametrize("description", ["yolov8n.yaml", "yolov8n-seg.yaml", "yolo26n.yaml"])
def test_half_precision_is_trusted_where_it_gives_about_the_same_outputs(description):
    model = build_two_stream(two_stream_cfg(description))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert half_precision_works(model, channels=6)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Overflowing(nn.Module):
    """Stays finite in float32 and overflows in float16."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(6, 6, 1))
        self.model[0].weight.data.fill_(1e5)

    def forward(self, images):
        return (self.model(images),)


class Ranking(nn.Module):
    """Puts out places in the order of their scores, in a tuple of a tuple, as heads of RT-DETR and segment do."""

    def forward(self, scores):
        return (scores.flatten(1).argsort(1).float(), scores), {"scores": scores}


def test_half_precision_is_not_trusted_where_it_overflows():
    assert not half_precision_works(Overflowing(), channels=6)


@pytest.mark.parametrize(
    ("release", "warned"), [("8.4.180", False), ("8.4.999", False), ("8.5.0", True), ("9.0.1", True)]
)
def test_a_newer_series_of_ultralytics_is_warned_of_once(release, warned, monkeypatch, log):
    monkeypatch.setattr(compat, "__version__", release)
    compat.warn_of_untested_release.cache_clear()
    compat.warn_of_untested_release()
    compat.warn_of_untested_release()
    assert [release in text and "8.4.*" in text for _, text in log] == [True] * warned
    compat.warn_of_untested_release.cache_clear()


@pytest.mark.parametrize(
    "line",
    [
        f"{colorstr('engine/trainer: ')}amp=True, batch=4",
        "Freezing layer 'model.0.conv.weight'",
        "Freezing layer 'model.41.dfl.conv.weight'",
        "Optimizer stripped from last.pt, saved as unfinished/last.pt, 9.2MB",
    ],
)
def test_lines_that_say_nothing_of_this_training_are_left_out_and_warnings_never(line, log):
    with compat.without_chatter():
        LOGGER.info(line)
        LOGGER.info("Freezing layer 'model.1.conv.weight'")
        LOGGER.warning(line)
    LOGGER.info(line)
    assert [(level, line in text) for level, text in log] == [("INFO", False), ("WARNING", True), ("INFO", True)]


@pytest.mark.parametrize("aside", [compat.without_precision_check, compat.without_task, compat.without_gpu_names])
def test_what_is_set_aside_comes_back_whatever_happens(aside):
    holder = SimpleNamespace(amp=True, task="classify", world_size=2)
    before = dict(vars(holder))
    with pytest.raises(RuntimeError), aside(holder):
        assert sum(vars(holder)[name] != value for name, value in before.items()) == 1
        raise RuntimeError
    assert vars(holder) == before
