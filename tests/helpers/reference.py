"""The paper's equations restated in float64 with NumPy and SciPy, sharing no line with the package."""

import numpy as np
from scipy.fft import dctn


def patches_of(images, p):
    """(B, C, H, W) → (B, C, h, w, p, p)."""
    b, c, height, width = images.shape
    h, w = height // p, width // p
    return images[:, :, : h * p, : w * p].reshape(b, c, h, p, w, p).swapaxes(3, 4)


def flat_in_all(modalities, p):
    """Patches whose every channel has max = min, in each modality: (B, h, w)."""
    flat = []
    for images in modalities:
        blocks = patches_of(images, p)
        flat.append((blocks.max((-1, -2)) == blocks.min((-1, -2))).all(1))
    return np.logical_and.reduce(flat)


def frm(images, p=8, q=2, sigma=1e-6, leave_out=None):
    """Eq. 4, the high block flipped inside its patch; pixels as float64 in [0, 1] or uint8."""
    pixels = images.astype(np.float64) / (255 if images.dtype == np.uint8 else 1)
    total, b, c = 0.0, *images.shape[:2]
    spectrum = dctn(patches_of(pixels, p), type=2, norm="ortho", axes=(-2, -1))
    for i in range(q):
        for j in range(q):
            ratio = np.abs(spectrum[..., i, j] / (spectrum[..., p - 1 - i, p - 1 - j] + sigma))
            if leave_out is not None:
                ratio = np.where(leave_out[:, None], 0.0, ratio)
            total += ratio.sum()
    return total / (b * c)


def shares(banked, sigma=1e-6):
    """Eq. 6."""
    mean = sum(banked) / len(banked)
    return [value / (mean + sigma) for value in banked]


def weights(share, alpha=1.5, beta=1.0, lam=6.0, gamma=0.7):
    """Eq. 5."""
    return [alpha - beta / (1 + np.exp(-lam * (t - gamma))) for t in share]


def banks(series, omega=0.5):
    """Eq. 2 over a series of FRMs."""
    out = [series[0]]
    for value in series[1:]:
        out.append(omega * out[-1] + (1 - omega) * value)
    return out


def corners(images, p=8, q=2):
    """The low and the high corner of every patch as they stand in the spectrum: twice (B, C, h, w, q, q)."""
    pixels = images.astype(np.float64) / (255 if images.dtype == np.uint8 else 1)
    spectrum = dctn(patches_of(pixels, p), type=2, norm="ortho", axes=(-2, -1))
    return spectrum[..., :q, :q], spectrum[..., p - q :, p - q :]


def reassembled(blocks):
    """(B, C, h, w, q, q) → the map (B, C, h·q, w·q) of Fig. 2."""
    b, c, h, w, q, _ = blocks.shape
    return blocks.swapaxes(3, 4).reshape(b, c, h * q, w * q)


def frm_of_the_map(images, p=8, q=2, sigma=1e-6):
    """Eq. 4 to the letter: low(a, b) over high(w − 1 − a, h − 1 − b) of the reassembled maps."""
    low, high = (reassembled(blocks) for blocks in corners(images, p, q))
    return np.abs(low / (high[:, :, ::-1, ::-1] + sigma)).sum((2, 3)).mean()


def by_rule(images, rule, p=8, q=2, sigma=1e-6):
    """Eq. 3, 27, 28 and the two rules that are not in the paper."""
    low, high = (np.abs(blocks) for blocks in corners(images, p, q))
    dc = np.zeros_like(low)
    dc[..., 0, 0] = low[..., 0, 0]

    def total(x):
        return x.sum((2, 3, 4, 5))

    return {
        "low_l1": total(low),
        "sum_l1": total(low) + total(high),
        "weighted_l1": 0.9 * total(low) + 0.1 * total(high),
        "ratio_of_sums": total(low) / (total(high) + sigma),
        "ac_ratio": total(low - dc) / (total(high) + sigma),
    }[rule].mean()


def frm_of_volumes(volumes, p=8, q=2, sigma=1e-6, leave_out=None, on_the_map=False):
    """Eq. 4 on three axes: volumes (B, C, D, H, W), cubes of p³ voxels, corners of q³ coefficients."""
    pixels = volumes.astype(np.float64) / (255 if volumes.dtype == np.uint8 else 1)
    grid = [side // p for side in volumes.shape[2:]]
    total = 0.0
    spectra = {}
    for place in np.ndindex(*grid):
        cube = pixels[(..., *(slice(i * p, i * p + p) for i in place))]
        spectra[place] = dctn(cube, type=2, norm="ortho", axes=(-3, -2, -1))
    for place, spectrum in spectra.items():
        mirrored = tuple(n - 1 - i for n, i in zip(grid, place, strict=True))
        partner = spectra[mirrored] if on_the_map else spectrum
        ratio = np.abs(spectrum[..., :q, :q, :q] / (partner[..., ::-1, ::-1, ::-1][..., :q, :q, :q] + sigma))
        if leave_out is not None:
            ratio = ratio * ~leave_out[(slice(None), *place)][:, None, None, None, None]
        total += ratio.sum()
    return total / (volumes.shape[0] * volumes.shape[1])
