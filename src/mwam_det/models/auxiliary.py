"""Training-only detection heads on each stream alone, for the loss of Eq. 7.

They are no part of the model: its checkpoints, exports and cost at inference know nothing of them.
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
"""Side of the empty image with which widths and strides of the levels are found, in pixels."""


class AuxiliaryHeads(nn.Module):
    """A stock detection head on the own levels of every stream.

    Args:
        model: A model that `build_two_stream` built, on its device and with Ultralytics' `args`.
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
        """Take the loss of each head, with the class weights that the model has by now."""
        self._criteria = {name: v8DetectionLoss(_HeadAlone(head, model)) for name, head in self.heads.items()}

    def losses(self, features: Mapping[str, list[Tensor]], batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the detection loss of every stream, as Ultralytics sums it for the model, by modality.

        Args:
            features: The levels of every stream by modality, shapes (B, C_l, H_l, W_l).
            batch: Ultralytics' batch with the labels. Where the stream of a modality did not see a sample, by the key
                `VIEWS`, there is nothing to learn from: it has no loss of its head.

        Raises:
            RuntimeError: If `take_criteria` was not called.
        """
        if not self._criteria:
            raise RuntimeError("take_criteria comes first")
        losses: dict[str, Tensor] = {}
        views = batch.get(VIEWS)
        for name, head in self.heads.items():
            levels, labels = [level[: len(batch["img"])] for level in features[name]], batch  # of the first view
            if isinstance(views, Views) and views.level == "input":
                levels, labels = _without(~views.present[name][0], levels, batch)
            if len(levels[0]):
                losses[name] = self._criteria[name](head(levels), labels)[0]
            else:
                losses[name] = reduce(add, (level.sum() for level in levels))  # 0, and still a part of the graph
        return losses


def _without(lacking: Tensor, levels: list[Tensor], batch: dict[str, Any]) -> tuple[list[Tensor], dict[str, Any]]:
    """Leave samples of a mini-batch out: lacking, shape (B,), bool."""
    kept = ~lacking.to(levels[0].device)
    places = kept.cumsum(0) - 1  # where a kept sample is afterwards
    samples = batch["batch_idx"].long()
    own = kept[samples.to(kept.device)]
    labels = {key: batch[key][own.to(batch[key].device)] for key in ("cls", "bboxes")}
    moved = places[samples.to(kept.device)][own].to(batch["batch_idx"])
    return [level[kept] for level in levels], {**batch, **labels, "batch_idx": moved}


class AuxiliaryLoss:
    """Add Σ K_m·L(y, y_m) to the loss of a model in training (Eq. 7).

    The loss is added where the model returns it, so the training loop stays as it is. The hooks must be off (`remove`)
    whenever the model is copied or saved.

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
        """Take the hooks off: the model returns its own loss again."""
        self._tap.remove()
        self._handle.remove()


class _HeadAlone(nn.Module):
    """What Ultralytics' detection loss reads of a model, for one head."""

    def __init__(self, head: nn.Module, model: StockModel):
        super().__init__()
        self.model = nn.ModuleList([head])
        self.args = model.args
        self.class_weights = getattr(model, "class_weights", None)
