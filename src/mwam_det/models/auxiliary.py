"""Training-only detection heads on each stream, for the loss of Eq. 7.

They are not part of the model: its checkpoints, exports and inference cost are unaffected.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Detect
from ultralytics.utils.loss import v8DetectionLoss

from mwam_det.core.modulation import weighted_loss
from mwam_det.core.mwam import MWAM
from mwam_det.models.replay import FeatureTap
from mwam_det.models.stock import StockModel
from mwam_det.models.views import VIEWS
from mwam_det.training.incomplete import Views

PROBE_SIZE = 256
"""Side of the blank image that determines widths and strides of the levels, in pixels."""


class AuxiliaryHeads(nn.Module):
    """A stock detection head on the levels of each stream.

    Args:
        model: A model from `build_two_stream`, on its device and with Ultralytics' `args`.
    """

    def __init__(self, model: StockModel):
        super().__init__()
        stock = model.model[-1]
        parameter = next(model.parameters())
        with FeatureTap(model) as tap:
            training = model.training
            model.eval()
            with torch.no_grad():
                model(parameter.new_zeros(1, sum(model.yaml["modalities"].values()), PROBE_SIZE, PROBE_SIZE))
            model.train(training)
            probed = tap.take()
        self.heads = nn.ModuleDict()
        self._criteria: dict[str, v8DetectionLoss] = {}
        for name, features in probed.items():
            head = Detect(stock.nc, stock.reg_max, ch=tuple(f.shape[1] for f in features)).to(parameter.device)
            head.stride = torch.tensor([PROBE_SIZE / f.shape[-2] for f in features], device=parameter.device)
            head.bias_init()
            self.heads[name] = head

    def take_criteria(self, model: StockModel) -> None:
        """Set up the loss of each head, with the model's current class weights."""
        self._criteria = {name: v8DetectionLoss(_HeadAlone(head, model)) for name, head in self.heads.items()}

    def losses(self, features: Mapping[str, list[Tensor]], batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the detection loss of every stream, as Ultralytics sums it for the model, by modality.

        Args:
            features: The levels of every stream by modality, shapes (B, C_l, H_l, W_l).
            batch: Ultralytics' batch with the labels. Samples that the stream of a modality did not see, by the key
                `VIEWS`, are left out of the loss of its head.

        Raises:
            RuntimeError: If `take_criteria` was not called.
        """
        if not self._criteria:
            raise RuntimeError("call take_criteria first")
        losses: dict[str, Tensor] = {}
        views = batch.get(VIEWS)
        for name, head in self.heads.items():
            levels, labels = [level[: len(batch["img"])] for level in features[name]], batch  # the first view
            if isinstance(views, Views) and views.level == "input":
                levels, labels = _without(~views.present[name][0], levels, batch)
            if len(levels[0]):
                losses[name] = self._criteria[name](head(levels), labels)[0]
            else:
                losses[name] = reduce(add, (level.sum() for level in levels))  # 0, but still part of the graph
        return losses


def _without(lacking: Tensor, levels: list[Tensor], batch: dict[str, Any]) -> tuple[list[Tensor], dict[str, Any]]:
    """Remove samples from a mini-batch: lacking, shape (B,), bool."""
    kept = ~lacking.to(levels[0].device)
    new_index = kept.cumsum(0) - 1
    samples = batch["batch_idx"].long().to(kept.device)
    kept_labels = kept[samples]
    labels = {key: batch[key][kept_labels.to(batch[key].device)] for key in ("cls", "bboxes")}
    labels["batch_idx"] = new_index[samples][kept_labels].to(batch["batch_idx"])
    return [level[kept] for level in levels], {**batch, **labels}


class AuxiliaryLoss:
    """Add Σ K_m·L(y, y_m) to the loss of a model in training (Eq. 7).

    A hook adds it to the loss that the model returns, so the training loop is unchanged. Remove the hooks (`remove`)
    before the model is copied or saved.

    Args:
        model: The model.
        heads: Its auxiliary heads.
        mwam: Source of the weights.
    """

    def __init__(self, model: StockModel, heads: AuxiliaryHeads, mwam: MWAM):
        heads.take_criteria(model)
        self._heads = heads
        self._mwam = mwam
        self._tap = FeatureTap(model)
        self._handle = model.register_forward_hook(self._add)

    def _add(self, model: nn.Module, inputs: tuple, output: Any) -> Any:
        features = self._tap.take()
        if not (inputs and isinstance(inputs[0], dict)):  # a prediction, not a loss
            return output
        loss, items = output
        by_modality = {name: loss.sum() for name, loss in self._heads.losses(features, inputs[0]).items()}
        return weighted_loss(loss.sum(), by_modality, self._mwam.weights), items

    def remove(self) -> None:
        """Remove the hooks: the model returns its own loss again."""
        self._tap.remove()
        self._handle.remove()


class _HeadAlone(nn.Module):
    """The attributes of a model that Ultralytics' detection loss reads, for one head."""

    def __init__(self, head: nn.Module, model: StockModel):
        super().__init__()
        self.model = nn.ModuleList([head])
        self.args = model.args
        self.class_weights = getattr(model, "class_weights", None)
