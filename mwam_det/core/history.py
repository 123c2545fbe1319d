"""MWAM's record of a run: mwam.csv, one row a mini-batch, and a picture of it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from statistics import fmean

from mwam_det.core.mwam import Observation

QUANTITIES = ("frm", "bank", "share", "weight")
LOGGED = ("frm", "share", "weight")


class MWAMHistory:
    """Collect what MWAM observed and write it to a CSV file, epoch by epoch.

    Columns: epoch (from 1), iteration (from 1, over the whole run), then FRM, banked FRM, share and weight of every
    modality, as `frm_rgb` … `weight_ir`. Rows are written at the end of an epoch, with the host's checkpoint, so that
    file and checkpoint tell of the same epochs.

    Args:
        file: Where the rows go. An existing file is begun anew unless `keep_epochs` is called first.
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
        """Note one mini-batch of an epoch (from 1)."""
        values = [getattr(observation, quantity)[name] for quantity in QUANTITIES for name in self._modalities]
        self._pending.append([epoch, self._written + len(self._pending) + 1, *(f"{value:.9g}" for value in values)])

    def flush(self) -> None:
        """Write what is pending."""
        with self.file.open("a" if self._begun else "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if not self._begun:
                writer.writerow(self.header)
            writer.writerows(self._pending)
        self._begun = True
        self._written += len(self._pending)
        self._latest, self._pending = self._pending, []

    def means(self, epoch: int) -> dict[str, float]:
        """Return the means over the mini-batches of the epoch written last, for loggers.

        Args:
            epoch: The epoch (from 1) that is asked for.

        Returns:
            FRM, share and weight by modality, as "mwam/frm/rgb". A quantity that no mini-batch has is left out, and all
            are if the epoch is not the one written last.
        """
        means = {}
        for column, name in enumerate(self.header):
            quantity, _, modality = name.partition("_")
            values = [float(row[column]) for row in self._latest if int(row[0]) == epoch] if quantity in LOGGED else []
            if values := [value for value in values if not isnan(value)]:
                means[f"mwam/{quantity}/{modality}"] = fmean(values)
        return means

    def discard_pending(self) -> None:
        """Forget the rows of an epoch that will be run again."""
        self._pending.clear()

    def keep_epochs(self, last: int) -> None:
        """Continue the file of an interrupted run after epoch `last`; rows of an epoch cut short are dropped."""
        rows = []
        if self.file.is_file():
            with self.file.open(newline="", encoding="utf-8") as stream:
                header, *rows = list(csv.reader(stream)) or [[]]
            rows = [row for row in rows if len(row) == len(self.header) and int(row[0]) <= last]
            if header != self.header:
                rows = []
        self._begun, self._pending = False, rows
        self._written = 0
        self.flush()


def draw_history(history: Path, file: Path) -> None:
    """Draw banked FRM, share and weight of every modality over the iterations of a run (Fig. 4 of the paper).

    Args:
        history: mwam.csv of the run; without a row there is no picture.
        file: The picture to write.
    """
    from matplotlib.figure import Figure

    with history.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        return
    iterations = [int(row["iteration"]) for row in rows]
    names = [key.removeprefix("bank_") for key in rows[0] if key.startswith("bank_")]
    panels = {"bank": "banked FRM (Eq. 2)", "share": "share T (Eq. 6)", "weight": "weight K (Eq. 5)"}
    figure = Figure(figsize=(13, 3.6), tight_layout=True)
    axes = figure.subplots(1, len(panels))
    for axis, (quantity, title) in zip(axes, panels.items(), strict=True):
        for name in names:
            axis.plot(iterations, [float(row[f"{quantity}_{name}"]) for row in rows], label=name, linewidth=1)
        axis.set_title(title)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[-1].legend()
    figure.savefig(file, dpi=150)
