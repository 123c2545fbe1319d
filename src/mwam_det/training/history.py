"""MWAM's record of a run: mwam.csv, one row a mini-batch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from statistics import fmean

from mwam_det.core.mwam import Observation
from mwam_det.files.writing import written_whole

QUANTITIES = ("frm", "bank", "share", "weight")
LOGGED = ("frm", "share", "weight")


class MWAMHistory:
    """Collect the observations of MWAM and write them to a CSV file, epoch by epoch.

    Columns: epoch (from 1), iteration (from 1, over the whole run), then FRM, banked FRM, share and weight of every
    modality, as `frm_rgb` … `weight_ir`. Rows are written at the end of an epoch, with the host's checkpoint, so that
    file and checkpoint cover the same epochs.

    Args:
        file: The file. An existing one is replaced unless `keep_epochs` is called first.
        modalities: Names of the modalities.
    """

    def __init__(self, file: Path, modalities: Sequence[str]):
        self.file = file
        self.header = ["epoch", "iteration", *(f"{quantity}_{name}" for quantity in QUANTITIES for name in modalities)]
        self._modalities = tuple(modalities)
        self._pending: list[list[float | str]] = []
        self._latest: list[list[float | str]] = []
        self._written = 0
        self._begun = False

    def append(self, epoch: int, observation: Observation) -> None:
        """Record one mini-batch of an epoch (from 1)."""
        values = [getattr(observation, quantity)[name] for quantity in QUANTITIES for name in self._modalities]
        self._pending.append([epoch, self._written + len(self._pending) + 1, *(f"{value:.9g}" for value in values)])

    def flush(self) -> None:
        """Write the pending rows."""
        with self.file.open("a" if self._begun else "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if not self._begun:
                writer.writerow(self.header)
            writer.writerows(self._pending)
        self._begun = True
        self._written += len(self._pending)
        self._latest, self._pending = self._pending, []

    def means(self, epoch: int) -> dict[str, float]:
        """Return the means over the mini-batches of the epoch written last, for loggers.

        Args:
            epoch: The epoch (from 1).

        Returns:
            FRM, share and weight by modality, as "mwam/frm/rgb", without quantities that no mini-batch has; {} if the
            epoch is not the one written last.
        """
        means = {}
        for column, name in enumerate(self.header):
            quantity, _, modality = name.partition("_")
            values = [float(row[column]) for row in self._latest if int(row[0]) == epoch] if quantity in LOGGED else []
            if values := [value for value in values if not isnan(value)]:
                means[f"mwam/{quantity}/{modality}"] = fmean(values)
        return means

    def discard_pending(self) -> None:
        """Drop the rows of an epoch that will run again."""
        self._pending.clear()

    def keep_epochs(self, last: int) -> None:
        """Continue the file of an interrupted run after epoch `last`; rows of an epoch cut short are dropped."""
        header, rows = keep_epochs(self.file, last)
        self._begun, self._pending, self._latest = header == self.header, [], [[*row] for row in rows]
        self._written = len(rows) if self._begun else 0


def keep_epochs(file: Path, last: int) -> tuple[list[str], list[list[str]]]:
    """Keep only the whole rows of an interrupted run's record that belong to its checkpoint.

    Args:
        file: A CSV file whose column "epoch" counts from 1. It is replaced if it changes, and may not exist.
        last: The last epoch of the checkpoint.

    Returns:
        The header and the rows kept.
    """
    if not file.is_file():
        return [], []
    with file.open(newline="", encoding="utf-8") as stream:
        header, *rows = list(csv.reader(stream)) or [[]]
    kept: list[list[str]] = []
    if "epoch" in header:
        place = header.index("epoch")
        whole = [row for row in rows if len(row) == len(header) and row[place].isdecimal()]
        kept = [row for row in whole if int(row[place]) <= last]
    if kept != rows:
        with written_whole(file) as new, new.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([header, *kept])
    return header, kept
