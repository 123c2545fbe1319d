"""A dataset of pairs with its data section resolved: where files lie and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mwam_det.data.errors import DatasetError
from mwam_det.data.modality import Modality, check_names, keys_of, modalities_of
from mwam_det.data.splits import groups_of, source_of

RESOLVED_KEYS = {"path", "names", "nc", "channels", "modalities", "visible", "splits"}
LABEL_KEYS = ("kpt_shape", "flip_idx", "label_mapping")
"""Keys for keypoints and pixel labels only, the first two named as in Ultralytics."""


@dataclass(frozen=True)
class PairedData:
    """A dataset of pairs, checked; every folder is absolute and exists.

    Attributes:
        path: Its folder.
        modalities: Its modalities, in the order of the stack.
        names: Class names by number, from 0.
        splits: By split, the folder of every modality and of "labels", or groups of them, see `mwam_det.data.splits`.
        labels: Values of those of `LABEL_KEYS` that are given.
    """

    path: str
    modalities: tuple[Modality, ...]
    names: Mapping[int, str]
    splits: Mapping[str, Any]
    labels: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PairedData:
        """Read the result of `as_dict`.

        Raises:
            DatasetError: If a name of a modality is not allowed.
        """
        check_names(data["modalities"])
        labels = {key: data[key] for key in LABEL_KEYS if key in data}
        return cls(str(data["path"]), modalities_of(data), dict(data["names"]), data["splits"], labels)

    @property
    def channels(self) -> dict[str, int]:
        """Number of channels by modality, in order."""
        return {modality.name: modality.channels for modality in self.modalities}

    def as_dict(self) -> dict[str, Any]:
        """Return the dictionary that Ultralytics passes around.

        Returns:
            Ultralytics' keys "path", "train", "val", "test" if given (the absolute folder of the first modality, or a
            name for several folders or a list), "names", "nc" and "channels" (of the stacked image), and ours:
            "modalities" (channels by name), "visible" (a name or None), "splits", `READING_KEYS`, and `LABEL_KEYS` if
            given.
        """
        first = self.modalities[0].name
        return {
            "path": self.path,
            **{split: source_of(groups_of(of_split), first) for split, of_split in self.splits.items()},
            "names": dict(self.names),
            "nc": len(self.names),
            **keys_of(self.modalities),
            "splits": dict(self.splits),
            **self.labels,
        }

    def as_single_class(self) -> PairedData:
        """Return the dataset with all classes merged into one, as Ultralytics' `single_cls` does."""
        return replace(self, names={0: "item"})


def check_split(data: PairedData, split: str) -> None:
    """Raise DatasetError unless a dataset has a split."""
    if split not in data.splits:
        raise DatasetError(f"the data section has no split '{split}': choose from {', '.join(data.splits)}")


def check_labels(data: PairedData | Mapping[str, Any], task: str, single_class: bool = False) -> None:
    """Check that a dataset has the keys for labels that a task needs.

    Args:
        data: A dataset, or a data section.
        task: One of Ultralytics' tasks.
        single_class: Whether all classes count as one.

    Raises:
        DatasetError: If not, or if the task cannot count all classes as one.
    """
    if isinstance(data, PairedData):
        groups = [group for split in data.splits.values() for group in groups_of(split)]
        labelled, keys = any("labels" in folders for group in groups for folders in group.folders), data.labels
    else:
        labelled, keys = bool(data.get("labels")), data
    if labelled and task == "classify":
        raise DatasetError("task=classify takes the folder of an image for its class: leave out data.labels")
    if not labelled and task != "classify":
        raise DatasetError(f"the key 'labels' is missing or empty: task={task} needs data.labels, the label files")
    if task == "pose" and "kpt_shape" not in keys:
        raise DatasetError("task=pose needs data.kpt_shape, [number of keypoints, 2 or 3], like [17, 3]")
    if task in ("semantic", "classify") and single_class:
        raise DatasetError(f"single_cls=true would leave task={task} with one class everywhere: leave it out")


def save_dataset_yaml(data: Mapping[str, Any], folder: Path) -> str:
    """Write a dataset in Ultralytics' form to `folder`/data.yaml and return its path, for the standalone validator."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return str(file)
