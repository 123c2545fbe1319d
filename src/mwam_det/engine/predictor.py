"""Ultralytics' detection predictor, for pairs of images with possibly missing modalities."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.engine.predictor import BasePredictor
from ultralytics.engine.results import Results
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import DEFAULT_CFG, LOGGER
from ultralytics.utils.checks import check_imgsz

from mwam_det.data.dataset import Fit
from mwam_det.data.modality import Modality
from mwam_det.data.names import class_folders
from mwam_det.data.paired_data import PairedData
from mwam_det.data.sources import Pair, PairLoader, by_modality, missing_modalities, stack_tensors
from mwam_det.engine.arguments import check_selected, without_own_arguments
from mwam_det.engine.compat import use_bundled_font
from mwam_det.engine.deployment import modalities_of_model, stacked_inputs
from mwam_det.engine.geometry import Placement
from mwam_det.engine.plots import in_a_row
from mwam_det.files.terminal import encodable
from mwam_det.models.two_stream import drop_split_convolution


@dataclass(frozen=True)
class PairSource:
    """The source of a prediction.

    Attributes:
        given: The images, see `mwam_det.data.sources.by_modality` and `list_pairs`.
        missing: One or several names of modalities to treat as missing.
        partners: What to do with images of folders without a partner: one of `mwam_det.data.sources.PARTNERS`.
        data: A dataset whose naming and reading of files replace the model's, or None.
    """

    given: Any
    missing: str | tuple[str, ...] = ()
    partners: str = "error"
    data: PairedData | None = None


class PairResults(Results):
    """Ultralytics' results of one pair.

    `orig_img` is the image of the first available modality: `plot`, `save`, `show` and `save_crop` use it.
    `plot_modalities` draws on every modality.

    Attributes:
        images: The image of each available modality by name, shape (H, W, 3), uint8, BGR, all aligned and of the same
            size.
    """

    images: dict[str, np.ndarray]

    @classmethod
    def around(cls, result: Results, images: dict[str, np.ndarray]) -> PairResults:
        """Return the same results, with the images of all modalities."""
        results = cls.__new__(cls)
        vars(results).update(vars(result), images=images)
        return results

    def new(self) -> PairResults:
        """Return empty results with the same images."""
        return self.around(super().new(), self.images)

    def save_crop(self, save_dir: str | Path, file_name: str | Path = Path("im.jpg")) -> None:
        """Save crops in one folder per class, as `Results` does, with class names that are safe as folder names."""
        named = self.around(self, self.images)
        named.names = class_folders(self.names)
        super(PairResults, named).save_crop(save_dir, file_name)

    def plot_modalities(self, **kwargs: Any) -> np.ndarray:
        """Draw the results on every modality, side by side.

        Args:
            **kwargs: Arguments of `Results.plot`.

        Returns:
            Shape (H', W', 3), uint8, BGR.
        """
        return in_a_row({name: self.plot(img=image, **kwargs) for name, image in self.images.items()})


class PairPredictor(BasePredictor):
    """Predict on pairs, for any task: a mixin to list before a predictor of Ultralytics.

    Images are read, resized, letterboxed and normalised as in validation. If the images of a batch have the same shape
    and `rect` is true, they are padded to a rectangle, as in Ultralytics; validation with `rect` pads by half a stride
    more. With rect=False both see the same square. The arguments are those of `BasePredictor`.

    Attributes:
        modalities: The modalities of the model, once there is a source.
        missing: Names of those that are missing in it.
        fit: How images are resized: by their longer side, to be padded, by the shorter one, to be cropped, or
            stretched.
    """

    fit: Fit = "long"

    # Attributes that Ultralytics' predictor declares as None before there are a model and a source.
    model: Any
    batch: Any
    results: Any
    plotted_img: Any

    def __init__(self, cfg=DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict | None = None):
        use_bundled_font()
        super().__init__(cfg, without_own_arguments(overrides or {}), _callbacks)
        self.modalities: tuple[Modality, ...] = ()
        self.missing: tuple[str, ...] = ()
        self._warned_of: set[tuple[str, ...]] = set()
        self._shown: PairResults | None = None

    def setup_model(self, model: Any, verbose: bool = True) -> None:
        """Load a model for inference, without the identity convolution that splits the stacked image.

        Args:
            model: A detector, or the path of a checkpoint or an exported file.
            verbose: Whether Ultralytics logs a summary of the model.
        """
        with tempfile.TemporaryDirectory() as folder:  # only needed during setup
            model = model or self.args.model
            super().setup_model(model if isinstance(model, nn.Module) else stacked_inputs(model, folder), verbose)
        if self.model.format == "pt":
            drop_split_convolution(self.model.model)

    def setup_source(self, source: Any, stride: int | None = None) -> None:
        """Find the pairs of a source.

        Args:
            source: A `PairSource`, or what one is made of.
            stride: Stride of the model, in pixels.

        Raises:
            DatasetError: If the model does not record its modalities.
            FileNotFoundError: If a file or folder does not exist.
            ValueError: If the source cannot be paired, everything is missing, or `classes` selects one that does not
                exist.
        """
        check_selected(self.args.classes, len(self.model.names))
        source = source if isinstance(source, PairSource) else PairSource(source)
        self.modalities = modalities_of_model(self.model, source.data)
        named = by_modality(source.given, self.modalities)
        self.missing = missing_modalities(named, self.modalities, source.missing)
        if self.missing and self.missing not in self._warned_of:
            self._warned_of.add(self.missing)
            LOGGER.warning(f"{', '.join(self.missing)} is missing: its channels are 0, as in the robustness report")
        tensors = [isinstance(given, Tensor) for given in named.values()]
        if any(tensors) and not all(tensors):
            raise ValueError("source gives tensors for only some modalities: give tensors for all")
        if all(tensors):
            super().setup_source(stack_tensors(named, self.modalities, self.missing), stride)
            return
        if hasattr(self.model, "imgsz") and not getattr(self.model, "dynamic", False):
            self.args.imgsz = self.model.imgsz  # an exported file with a fixed size, which Ultralytics sets too late
        args = self.args
        imgsz = check_imgsz(args.imgsz, stride=stride or self.model.stride, min_dim=2)
        loader = PairLoader(
            named, self.modalities, self.missing, args.batch, args.vid_stride, imgsz, self.fit, source.partners
        )
        super().setup_source(loader, stride)

    def preprocess(self, im: Tensor | list[Pair]) -> Tensor:  # type: ignore[override]  # our loader gives pairs
        """Letterbox and normalise a batch, and remove the missing modalities from it.

        Args:
            im: Pairs, or stacked images, shape (B, ΣC_m, H, W), RGB in [0, 1].

        Returns:
            Shape (B, ΣC_m, H, W), RGB in [0, 1].
        """
        if isinstance(im, Tensor):
            return super().preprocess(im)
        stacks = torch.from_numpy(np.stack(self.pre_transform([pair.stack for pair in im])))
        order = [channel for modality in self.modalities for channel in _as_rgb(modality)]
        images = stacks.to(self.device).permute(0, 3, 1, 2).contiguous()[:, order]
        images = (images.half() if self.model.fp16 else images.float()).div_(255)
        for image, pair in zip(images, im, strict=True):
            for modality in self.modalities:
                if modality.name not in pair.images:
                    image[modality.slice] = 0  # the border of the letterbox too
        return images

    def postprocess(self, preds: Any, img: Tensor, orig_imgs: Tensor | list[Pair], **kwargs: Any) -> list[PairResults]:
        """Convert outputs of the model to results with the images of all modalities."""
        if isinstance(orig_imgs, Tensor):
            images = [_pictures(stack, self.modalities, self.missing) for stack in orig_imgs]
        else:
            images = [pair.images for pair in orig_imgs]
        firsts = [next(iter(by_modality.values())) for by_modality in images]
        results = super().postprocess(preds, img, firsts, **kwargs)
        return [PairResults.around(result, by_modality) for result, by_modality in zip(results, images, strict=True)]

    def placements(self, img: Tensor) -> list[Placement] | None:
        """Compute the position of each image of a batch in the network's input; None for a batch given as a tensor.

        Args:
            img: The input of the network, shape (B, ΣC_m, H, W).
        """
        pairs, (height, width) = self.batch[1], img.shape[2:]
        if isinstance(pairs, Tensor):
            return None
        return [Placement.of((height, width), pair.stack.shape[:2], pair.size) for pair in pairs]

    def write_results(self, i: int, p: Path, im: Tensor, s: list[str]) -> str:
        """Write the results of a pair to files; see `BasePredictor.write_results`."""
        self._shown = self.results[i]
        return super().write_results(i, p, im, s)

    def save_predicted_images(self, save_path: Path, frame: int | None = 0) -> None:
        """Save a picture of all modalities side by side: one alone may not show the object in a box."""
        args = self.args
        if self._shown is not None:
            self.plotted_img = self._shown.plot_modalities(
                line_width=args.line_width, boxes=args.show_boxes, conf=args.show_conf, labels=args.show_labels
            )
        super().save_predicted_images(save_path.with_name(encodable(save_path.name)), frame)  # OpenCV would crash


class MultimodalPredictor(PairPredictor, DetectionPredictor):
    """Predict boxes on pairs; also a mixin to list before predictors of other tasks with boxes."""

    def construct_results(self, preds: Sequence[Tensor], img: Tensor, orig_imgs: list, **kwargs: Any) -> list[Results]:
        """Map the predictions of a batch to the images; pairs are prepared in two steps, see `Placement`.

        Args:
            preds: Predictions for each image, shape (N, …), with the task's first columns.
            img: The input of the network, shape (B, ΣC_m, H, W).
            orig_imgs: The image to show in each result.
            **kwargs: Further outputs of the task for each image.
        """
        placements = self.placements(img)
        if placements is None:
            return super().construct_results(preds, img, orig_imgs, **kwargs)
        outputs = [dict(zip(kwargs, values, strict=True)) for values in zip(*kwargs.values(), strict=True)]
        images = zip(preds, orig_imgs, self.batch[0], placements, outputs or [{}] * len(preds), strict=True)
        return [
            Results(image, path=path, names=self.model.names, **self.located(pred, placement, **more))
            for pred, image, path, placement, more in images
        ]

    def located(self, pred: Tensor, placement: Placement, **kwargs: Any) -> dict[str, Any]:
        """Map the predictions for an image to it: boxes, unless a task overrides this.

        Args:
            pred: Predictions, shape (N, …): two corners in pixels of the network's input, score and class first.
            placement: The position of the image in the network's input.
            **kwargs: Further outputs of the task for the image.

        Returns:
            Arguments of `Results`, in pixels of the file.
        """
        return {"boxes": torch.cat([placement.boxes(pred[:, :4]), pred[:, 4:6]], 1)}


def _as_rgb(modality: Modality) -> Sequence[int]:
    """List the channels of a modality in the order of the model's input."""
    channels = range(modality.start, modality.start + modality.channels)
    return channels[::-1] if modality.channels == 3 else channels


def _pictures(stack: Tensor, modalities: Sequence[Modality], missing: Sequence[str]) -> dict[str, np.ndarray]:
    """Split a stack of shape (ΣC_m, H, W), RGB in [0, 1], into pictures (H, W, 3), uint8, BGR."""
    images = {m.name: stack[m.slice].expand(3, -1, -1).flip(0) for m in modalities if m.name not in missing}
    return {
        name: np.ascontiguousarray(image.float().mul(255).round().byte().permute(1, 2, 0).cpu().numpy())
        for name, image in images.items()
    }
