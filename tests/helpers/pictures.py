"""Images for tests: generated ones, and readers of real pairs."""

import cv2
import numpy as np


def pictures(seed, batch=2, channels=3, height=40, width=56):
    """Smooth uint8 images with some noise, like photographs, so that small high coefficients occur."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (batch, channels, height // 8 + 1, width // 8 + 1))
    images = [[cv2.resize(c, (width, height), interpolation=cv2.INTER_CUBIC) for c in image] for image in coarse]
    return np.clip(np.array(images) + rng.normal(0, 2, (batch, channels, height, width)), 0, 255).astype(np.uint8)


def letterboxed(images, top, bottom, grey=114):
    return np.pad(images, ((0, 0), (0, 0), (top, bottom), (0, 0)), constant_values=grey)


def load_pairs(folder, count=6):
    """RGB and IR of DroneVehicle pairs as uint8, (B, 3, H, W)."""
    return [
        np.stack([cv2.imread(str(f))[..., ::-1].transpose(2, 0, 1) for f in sorted((folder / name).iterdir())[:count]])
        for name in ("visible", "infrared")
    ]
