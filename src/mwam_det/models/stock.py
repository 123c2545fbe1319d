"""The type of Ultralytics' models, with the attributes that it sets without declaring them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils.torch_utils import unwrap_model

if TYPE_CHECKING:

    class StockModel(BaseModel):
        """A model of Ultralytics. Without these declarations, type checkers take each attribute for a tensor or module.

        Attributes:
            yaml: The description that it was built from.
            model: Its layers, an `nn.Sequential`; each has the index `i` and reads the outputs of the layers `f`.
            save: Indices of the layers whose outputs others read.
            stride: Strides of the levels that the head reads, in pixels, shape (L,).
            names: Class names by number.
            args: Ultralytics' arguments, a `SimpleNamespace` in a training and a dictionary in a checkpoint.
        """

        yaml: dict[str, Any]
        model: Any
        save: list[int]
        stride: Tensor
        names: dict[int, str]
        args: Any

else:
    StockModel = BaseModel


def stock_model(model: nn.Module) -> StockModel:
    """Return the model of Ultralytics inside the wrappers of torch.compile and DistributedDataParallel.

    Raises:
        TypeError: If it is not one.
    """
    bare = unwrap_model(model)
    if not isinstance(bare, StockModel):
        raise TypeError(f"{type(bare).__name__} is not a model of Ultralytics")
    return bare
