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
