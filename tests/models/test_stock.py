import pytest
from torch import nn

from mwam_det.models.stock import StockModel, stock_model
from mwam_det.models.two_stream import build_two_stream, two_stream_cfg


class Wrapper(nn.Module):
    """What DistributedDataParallel is, without processes."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def test_a_model_is_found_below_what_is_put_around_it():
    model = build_two_stream(two_stream_cfg("yolov8n.yaml"), nc=1)
    assert isinstance(model, StockModel)
    assert stock_model(model) is model and stock_model(Wrapper(model)) is model


def test_a_module_that_is_none_of_ultralytics_models_is_refused():
    with pytest.raises(TypeError, match="Linear is not a model of Ultralytics"):
        stock_model(Wrapper(nn.Linear(1, 1)))
