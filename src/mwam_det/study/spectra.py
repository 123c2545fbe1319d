"""The spectrum of each modality over a dataset, and the contribution of each frequency to its FRM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mwam_det.core.config import MWAMConfig, mwam_config
from mwam_det.data.inspection.preference import contributions
from mwam_det.experiments import Experiment
from mwam_det.files.writing import write_csv, write_json, written_whole
from mwam_det.robustness.style import CONTRASTS, png, tidy

PERCENTILES = (10, 90)

FILES = ("spectrum.json", "spectrum.csv", "spectrum.png")


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of one modality.

    Attributes:
        power: Power by ring, shape (images, rings), float64: the mean of |F|² over the ring of radius k = 1, 2, …
            cycles per longer side of the image and over channels, F the 2-D FFT of pixels in [0, 1] over their number.
        energy: Sum of |F|² by octave, shape (images, octaves): 1 cycle, 2 to 3, 4 to 7 and so on; the corners beyond
            the last ring belong to the last octave.
        frm: Contribution of each DCT coefficient to the FRM, mean over images, shape (q, q), see
            `frequency_contributions`.
    """

    power: np.ndarray
    energy: np.ndarray
    frm: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Share of each octave in the energy without the mean, by image; constant images are left out."""
        varying = self.energy[self.energy.sum(1) > 0]
        return varying / varying.sum(1, keepdims=True)


def measure_spectra(experiment: Experiment, sample: int) -> dict[str, Spectrum]:
    """Measure images of the training split, see `Experiment.images`.

    Args:
        experiment: The recipe.
        sample: Maximum number of samples.

    Returns:
        The spectrum by modality.

    Raises:
        ValueError: If the dataset cannot be used.
    """
    config = mwam_config(experiment.recipe.mwam) or MWAMConfig()
    power: dict[str, list[np.ndarray]] = {}
    energy: dict[str, list[np.ndarray]] = {}
    frm: dict[str, list[np.ndarray]] = {}
    for item in experiment.images(sample):
        for name, parts in contributions({name: image[None] for name, image in item.items()}, config).items():
            rings, octaves = radial_power(item[name].numpy())
            for values, value in ((power, rings), (energy, octaves), (frm, parts)):
                values.setdefault(name, []).append(value)
    return {
        name: Spectrum(_stacked(power[name]), _stacked(energy[name], sum_up=True), np.mean(frm[name], 0))
        for name in power
    }


def _stacked(rows: Sequence[np.ndarray], sum_up: bool = False) -> np.ndarray:
    """Stack rows of different lengths, cut to the shortest, or with the rest added to the last value."""
    shortest = min(map(len, rows))
    stacked = np.array([row[:shortest] for row in rows])
    if sum_up:
        stacked[:, -1] += [row[shortest:].sum() for row in rows]
    return stacked


def radial_power(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measure the power of an image by radius in its spectrum.

    The radius of a coefficient is its frequency in cycles per pixel times the longer side of the image, rounded.

    Args:
        pixels: Shape (C, H, W), uint8.

    Returns:
        The mean of |F|² by ring 1, 2, …, half of the longer side, and its sum by octave, see `Spectrum`.
    """
    height, width = pixels.shape[1:]
    longest = max(height, width)
    values = np.abs(np.fft.fft2(pixels / 255) / (height * width)) ** 2
    radius = longest * np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    ring = np.rint(radius).astype(int).ravel()
    sums = np.bincount(ring, values.mean(0).ravel())
    rings = longest // 2
    octaves = np.zeros(max(rings.bit_length() - (rings & (rings - 1) == 0), 1))
    octave = np.minimum(np.log2(np.arange(1, len(sums))).astype(int), len(octaves) - 1)
    np.add.at(octaves, octave, sums[1:])
    return (sums / np.maximum(np.bincount(ring), 1))[1 : rings + 1], octaves


# Output --------------------------------------------------------------------------------------------------------------


def octave_names(count: int) -> list[str]:
    """Return the names of octaves, in cycles per image: 1, then 2–3, 4–7 and so on."""
    names = ["1", *(f"{2**k}–{2 ** (k + 1) - 1}" for k in range(1, count))]
    return [*names[:-1], f"{2 ** (count - 1)} and more"]


def spectrum_tables(spectra: Mapping[str, Spectrum]) -> list[tuple[str, list[list[str]]]]:
    """Return title and rows of each table, with the header as the first row."""
    octaves = [["cycles per image", *spectra]]
    for index, name in enumerate(octave_names(next(iter(spectra.values())).energy.shape[1])):
        shares = [100 * spectrum.shares[:, index] for spectrum in spectra.values()]
        octaves.append(
            [name, *(f"{share.mean():.2f} ± {share.std():.2f} %" if len(share) else "-" for share in shares)]
        )
    parts = [["DCT coefficient", *spectra]]
    sizes = [spectrum.frm.sum() for spectrum in spectra.values()]
    band = next(iter(spectra.values())).frm.shape[0]
    for u in range(band):
        for v in range(band):
            kind = " (brightness)" if u == v == 0 else ""
            added = zip((spectrum.frm[u, v] for spectrum in spectra.values()), sizes, strict=True)
            cells = [f"{100 * part / frm:.1f} %" if frm > 0 else "-" for part, frm in added]
            parts.append([f"u={u}, v={v}{kind}", *cells])
    parts.append(["FRM", *(f"{frm:.3g}" for frm in sizes)])
    images = len(next(iter(spectra.values())).power)
    return [
        (f"Radial power without the mean, by octave: mean ± deviation over {images} images", octaves),
        ("Contribution of each low coefficient to FRM", parts),
    ]


def save_spectra(spectra: Mapping[str, Spectrum], folder: Path) -> list[Path]:
    """Write `FILES`, the CSV with a row per modality and ring, and return their paths."""
    content = {}
    rows: list[Sequence[Any]] = []
    for name, spectrum in spectra.items():
        low, high = np.percentile(spectrum.power, PERCENTILES, axis=0)
        columns = [spectrum.power.mean(0), spectrum.power.std(0), low, high]
        rows += [(name, k, *values) for k, values in enumerate(zip(*(c.tolist() for c in columns), strict=True), 1)]
        shares = spectrum.shares
        content[name] = {
            "images": len(spectrum.power),
            "octaves": {
                label: {"mean": float(share.mean()), "std": float(share.std())} if len(share) else None
                for label, share in zip(octave_names(shares.shape[1]), shares.T, strict=True)
            },
            "frm": [[float(v) if np.isfinite(v) else None for v in row] for row in spectrum.frm],
        }
    header = ["modality", "cycles_per_image", "mean", "std", *(f"percentile_{p}" for p in PERCENTILES)]
    return save_files(folder, content, [header, *rows], spectra_figure(spectra))


def save_files(folder: Path, content: Mapping[str, Any], rows: Iterable[Sequence[Any]], figure: Figure) -> list[Path]:
    """Write `FILES`, each whole or not at all, and return their paths.

    Args:
        folder: Their folder.
        content: Content of the JSON.
        rows: Rows of the CSV, the header first.
        figure: The picture.
    """
    files = [folder / name for name in FILES]
    write_json(files[0], content)
    write_csv(files[1], rows)
    with written_whole(files[2]) as unfinished:
        unfinished.write_bytes(png(figure))
    return files


def spectra_figure(spectra: Mapping[str, Spectrum]) -> Figure:
    """Draw the radial power of each modality, and the contributions of coefficients to its FRM."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, (name, spectrum) in enumerate(spectra.items()):
        colour = CONTRASTS[index % len(CONTRASTS)]
        rings = np.arange(1, spectrum.power.shape[1] + 1)
        floor = np.finfo(float).tiny  # a logarithmic axis has no 0
        low, high = np.maximum(np.percentile(spectrum.power, PERCENTILES, axis=0), floor)
        left.plot(rings, np.maximum(spectrum.power.mean(0), floor), color=colour, label=name)
        left.fill_between(rings, low, high, color=colour, alpha=0.2, linewidth=0)
        band, width = spectrum.frm.shape[0], 0.8 / len(spectra)
        shares = 100 * spectrum.frm.ravel() / spectrum.frm.sum()
        positions = np.arange(band**2) + (index - (len(spectra) - 1) / 2) * width
        right.bar(positions, shares, width * 0.92, color=f"{colour}73", edgecolor=colour, label=name)
        right.set_xticks(range(band**2), [f"({u}, {v})" for u in range(band) for v in range(band)])
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter("{x:g}")
    left.set(yscale="log", xlabel="cycles per image", ylabel="power")
    left.set_title("radial power: mean, and 10th to 90th percentile", fontsize="medium")
    right.set(xlabel="DCT coefficient (u, v)", ylabel="share of FRM, %")
    right.set_title("contribution of each low coefficient to FRM", fontsize="medium")
    for axis in (left, right):
        tidy(axis)
        axis.legend(frameon=False)
    return figure
