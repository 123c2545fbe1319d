"""What a poor sensor delivers, in five severities, and what stands in for a sensor that delivers nothing.

`degrade` is the door to all degradations and `DEGRADATIONS` the list of them: for each, what it does, the physical
parameter behind the severities 1 to 5 and its five values, and which sensor it suits. The functions of a single image
take that parameter itself. Everything random follows from the key of an image alone: the batch that the image is in,
the device and the precision have no part in it, and neither has the severity, so that a curve over severities shows
one noise, one place of a lamp, one direction growing stronger.

Lengths in pixels are those of the images as they are given; other lengths are relative to the shorter side.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SEVERITIES = (1, 2, 3, 4, 5)
SUITS = ("rgb", "thermal", "any")
FILLS = ("zero", "mean", "noise")

GAMMA = 2.2
"""Cameras encode light by about this power; exposure, stray light and fog act on light, not on the encoded values."""

FULL_SCALE_ELECTRONS = 2000.0
"""Electrons that make the largest value of a small sensor at high gain, which is how cameras run in the dark."""

READ_NOISE_ELECTRONS = 3.0
"""Standard deviation of the read noise of such a sensor."""

LAMP_RADIUS = 0.02
"""Where the stray light of a glaring lamp has fallen to half of its peak, in shorter sides of the image."""

MEAN_ALBEDO = 1 / 3
"""Share of the light that falls on a scene which it reflects, in the mean; tells from an image how bright fog is."""

NEAREST_DISTANCE = 0.4
"""Distance at the bottom row where no depth is known, in units of the distance at the top row."""

BACKGROUND_SIGMA = 1 / 12
"""Standard deviation of the Gaussian that tells objects from background, in shorter sides of the image."""

HOTTEST = 4.0
"""How many times warmer than its surroundings a saturated scene gets at most, beside what it was."""

GREY_TOLERANCE = 8 / 255
"""An image whose channels differ by no more is grey: one sensor element a pixel made them all (JPEG adds a little)."""


def darkness(image: Tensor, stops: float, generator: torch.Generator) -> Tensor:
    """Take an image with too little light: a lower exposure, with the shot and read noise of that few electrons.

    The variance of the noise, in electrons, is the signal plus the square of the read noise (the linear camera model of
    EMVA standard 1288), drawn as a Gaussian. The camera does not brighten the image afterwards.

    Args:
        image: Shape (C, H, W), float in [0, 1], encoded as cameras do.
        stops: How many times the exposure is halved.
        generator: Source of the noise, on the CPU.

    Returns:
        The shape and dtype of `image`.
    """
    electrons = image.pow(GAMMA) * (FULL_SCALE_ELECTRONS * 2.0**-stops)
    noise = _normal(image, generator) * (electrons + READ_NOISE_ELECTRONS**2).sqrt()
    return _encode((electrons + noise) / FULL_SCALE_ELECTRONS)


def overexposure(image: Tensor, stops: float) -> Tensor:
    """Take an image (C, H, W) with an exposure that is doubled `stops` times; what exceeds the sensor is cut off."""
    return _encode(image.pow(GAMMA) * 2.0**stops)


def glare(image: Tensor, luminance: float, generator: torch.Generator) -> Tensor:
    """Let a lamp shine into the lens, anywhere in the image.

    Its stray light is added to the light of the scene and falls with the inverse square of the distance from the lamp,
    as glare in the eye does (Stiles–Holladay): L / (1 + (r / R)²). All is white up to r = R √(L − 1).

    Args:
        image: Shape (C, H, W), float in [0, 1], encoded as cameras do.
        luminance: L at the lamp, in multiples of what saturates the sensor.
        generator: Says where the lamp is, on the CPU.

    Returns:
        The shape and dtype of `image`.
    """
    height, width = image.shape[-2:]
    y, x = torch.rand(2, generator=generator).mul(torch.tensor([height, width])).tolist()
    rows, columns = _positions(height, image) + 0.5 - y, _positions(width, image) + 0.5 - x
    squares = (rows[:, None] ** 2 + columns**2) / (LAMP_RADIUS * min(height, width)) ** 2
    return _encode(image.pow(GAMMA) + luminance / (1 + squares))


def fog(image: Tensor, optical_depth: float) -> Tensor:
    """Look through fog with a camera for visible light: I t + A (1 − t) with t = exp(−β d) (Koschmieder).

    Depth is not known. In its stead the distance d grows in a straight line from the bottom row to the top row, as
    on a road that is seen from a vehicle; in views from above that is a mere slope. A is grey and is what the scene
    would reflect if it were white, so that fog is dark at night. I and A are light, not encoded values.

    Args:
        image: Shape (C, H, W), float in [0, 1], encoded as cameras do.
        optical_depth: β d at the top row; 3.0 is the limit of sight (5 % of contrast left).

    Returns:
        The shape and dtype of `image`.
    """
    light = image.pow(GAMMA)
    return _encode(_veil(light, (light.mean() / MEAN_ALBEDO).clamp(max=1), optical_depth))


def thermal_fog(image: Tensor, optical_depth: float) -> Tensor:
    """Look through fog with a thermal camera.

    Long waves see hardly any scattered daylight. Instead droplets absorb, and emit at the temperature of the air: the
    whole image, cold parts and warm ones, moves towards the air, for which its median stands. Distances as in `fog`.

    Args:
        image: Shape (C, H, W), float in [0, 1], linear.
        optical_depth: β d at the top row, for long-wave infrared.

    Returns:
        The shape and dtype of `image`.
    """
    return _veil(image, image.median(), optical_depth)


def defocus(image: Tensor, radius: float) -> Tensor:
    """Spread every pixel of an image (C, H, W) evenly over a disc of `radius` pixels; edges are repeated outwards."""
    steps = _positions(2 * math.ceil(radius) + 1, image) - math.ceil(radius)
    distances = (steps[:, None] ** 2 + steps**2).sqrt()
    return _filter(image, (radius + 0.5 - distances).clamp(0, 1))


def motion_blur(image: Tensor, length: float, generator: torch.Generator) -> Tensor:
    """Spread every pixel of an image (C, H, W) over a straight line of `length` pixels in a direction that is drawn."""
    angle = math.pi * torch.rand(1, generator=generator).item()
    reach = math.ceil(length / 2)
    steps = _positions(2 * reach + 1, image) - reach
    along = math.cos(angle) * steps + math.sin(angle) * steps[:, None]
    across = math.cos(angle) * steps[:, None] - math.sin(angle) * steps
    return _filter(image, (length / 2 + 0.5 - along.abs()).clamp(0, 1) * (1 - across.abs()).clamp(min=0))


def noise(image: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of a standard deviation to an image (C, H, W); the same in all channels of a grey image."""
    return image + deviation * _normal(image, generator)


def dead_lines(image: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Silence a share of the rows and of the columns of an image (C, H, W), at least one of each: they become 0."""
    image = image.clone()
    for dim in (-2, -1):
        size = image.shape[dim]
        dead = torch.randperm(size, generator=generator)[: max(1, round(share * size))]
        image.index_fill_(dim, dead.to(image.device), 0)
    return image


def thermal_saturation(image: Tensor, share: float) -> Tensor:
    """Heat the warm parts of a scene beyond the range of a thermal camera: the warmest share of the pixels is white.

    A microbolometer is linear up to the end of its range and flat beyond it, so whatever is not heated looks as before.
    The median stands for the surroundings: the difference of all that is warmer is multiplied so that the share
    reaches the end of the range, by `HOTTEST` at most. Where the surroundings are even and what is warm is smaller than
    the share, that limit keeps their noise from being taken for heat, and fewer pixels saturate.

    Args:
        image: Shape (C, H, W), float in [0, 1], linear.
        share: The share of pixels that saturate; more where many are exactly equally warm.

    Returns:
        The shape and dtype of `image`.
    """
    warmth = image.mean(0)
    surroundings = warmth.median()
    span = (warmth.quantile(1 - share) - surroundings).clamp(min=torch.finfo(image.dtype).tiny)
    heated = surroundings + ((1 - surroundings) / span).clamp(max=HOTTEST) * (image - surroundings)
    return torch.where(image > surroundings, heated, image).clamp(0, 1)


def thermal_crossover(image: Tensor, contrast: float) -> Tensor:
    """Let the contrast between objects and background of a thermal image vanish and turn round, as at dusk and dawn.

    The background is the image without what is small, a Gaussian mean of a twelfth of the shorter side; so no boxes are
    needed, and objects that are much larger than that keep their inside and lose their edges.

    Args:
        image: Shape (C, H, W), float in [0, 1], linear.
        contrast: What is left of the difference from the background: 1 all, 0 nothing, −1 the opposite.

    Returns:
        The shape and dtype of `image`.
    """
    background = _smooth(image, BACKGROUND_SIGMA * min(image.shape[-2:]))
    return background + contrast * (image - background)


def frozen_frame(image: Tensor, share: float, other: Tensor) -> Tensor:
    """Take the lower share of the rows of an image (C, H, W) from `other`, an earlier frame: the readout stopped there.

    The rows above were still renewed; with a share of 1 nothing was.
    """
    kept = image.shape[-2] - round(share * image.shape[-2])
    return torch.cat([image[..., :kept, :], other[..., kept:, :]], dim=-2)


def shift(image: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Move an image (C, H, W) by whole pixels, left, right, up or down as drawn; the edge that is left is repeated."""
    direction = int(torch.randint(4, (1,), generator=generator))
    dim, step = -1 - direction // 2, pixels if direction % 2 else -pixels
    size = image.shape[dim]
    sources = (torch.arange(size, device=image.device) - step).clamp(0, size - 1)
    return image.index_select(dim, sources)


@dataclass(frozen=True)
class Degradation:
    """A degradation in five severities.

    Attributes:
        function: Degrades one image: function(image, level, …), see `needs`.
        levels: The physical parameter at severity 1 to 5.
        parameter: What that parameter is, with its unit.
        suits: The sensor that suffers from it: "rgb", "thermal" or "any".
        source: Where the levels come from.
        needs: What `function` takes besides: "generator", "other" or nothing.
    """

    function: Callable[..., Tensor]
    levels: tuple[float, float, float, float, float]
    parameter: str
    suits: str
    source: str = "own choice"
    needs: str | None = None


_HENDRYCKS = "Hendrycks and Dietterich 2019 (ImageNet-C), used for detection by Michaelis et al. 2019"

DEGRADATIONS: dict[str, Degradation] = {
    "darkness": Degradation(
        darkness, (2, 3, 4, 5, 6), "exposure lost, stops", "rgb", "own choice, noise as in EMVA 1288", "generator"
    ),
    "overexposure": Degradation(overexposure, (1, 1.75, 2.5, 3.25, 4), "exposure gained, stops", "rgb"),
    "glare": Degradation(
        glare, (5, 17, 50, 120, 257), "luminance of the lamp, multiples of saturation", "rgb", needs="generator"
    ),
    "fog": Degradation(fog, (0.3, 0.6, 1, 1.7, 3), "optical depth at the top row, visible light", "rgb"),
    "thermal_fog": Degradation(
        thermal_fog,
        (0.05, 0.2, 0.5, 1.7, 3),
        "optical depth at the top row, long-wave infrared",
        "thermal",
        "the weather of fog at the same severity: light fog absorbs long waves less than light, dense fog as much",
    ),
    "thermal_saturation": Degradation(
        thermal_saturation,
        (0.002, 0.005, 0.02, 0.05, 0.15),
        "share of pixels beyond the range",
        "thermal",
        "own choice: gain control cuts off less than 1 % as FLIR recommends (Tau 2, Camera Adjustments, 2014)",
    ),
    "thermal_crossover": Degradation(
        thermal_crossover, (0.5, 0.25, 0, -0.5, -1), "contrast left between object and background", "thermal"
    ),
    "defocus": Degradation(defocus, (3, 4, 6, 8, 10), "radius of the blur disc, pixels", "any", _HENDRYCKS),
    "motion_blur": Degradation(
        motion_blur, (6, 10, 15, 20, 30), "length of the movement, pixels", "any", needs="generator"
    ),
    "noise": Degradation(
        noise, (0.08, 0.12, 0.18, 0.26, 0.38), "standard deviation, of a range of 1", "any", _HENDRYCKS, "generator"
    ),
    "dead_lines": Degradation(
        dead_lines, (0.01, 0.03, 0.06, 0.12, 0.25), "share of dead rows, and of dead columns", "any", needs="generator"
    ),
    "frozen_frame": Degradation(
        frozen_frame, (0.2, 0.4, 0.6, 0.8, 1), "share of the rows that come from an earlier frame", "any", needs="other"
    ),
    "shift": Degradation(shift, (2, 4, 8, 16, 32), "displacement, pixels", "any", needs="generator"),
}
"""All degradations by name. The severity that costs a detector most need not be 5: cross-over hides objects at 3."""


def degradations_for(sensor: str) -> list[str]:
    """List the names of the degradations that a sensor may suffer from.

    Args:
        sensor: "rgb", "thermal" or, for others such as depth, "any".

    Raises:
        ValueError: If it is none of these.
    """
    _check_choice(sensor, "sensor", SUITS)
    return [name for name, degradation in DEGRADATIONS.items() if degradation.suits in ("any", sensor)]


def degrade(
    images: Tensor,
    name: str,
    severity: int,
    *,
    keys: Sequence[int | str],
    other: Tensor | None = None,
    areas: Sequence[tuple[int, int, int, int]] | None = None,
    seed: int = 0,
) -> Tensor:
    """Degrade the images of one modality, each as if it were alone.

    Args:
        images: Shape (B, C, H, W), float in [0, 1].
        name: One of `DEGRADATIONS`. It need not suit the modality.
        severity: 1 to 5.
        keys: What tells each image from the others of the set: its index or the path of its file. Everything random
            about an image follows from its key, `name` and `seed`.
        other: Shape of `images`, the frame that each image is frozen to. Only frozen_frame takes it. What is meant is
            the previous image of the split, and for the first one the last.
        areas: The part of each image that the sensor took, as (top, bottom, left, right) in pixels. What lies outside,
            the border of a letterbox, stays as it is. The whole image if left out.
        seed: Another seed draws another noise, place or direction for the same keys.

    Returns:
        New tensor in [0, 1], with the shape, dtype and device of `images`.

    Raises:
        ValueError: If the name or severity is unknown, `images` are no floats in [0, 1], `keys` or `areas` do not
            belong to `images`, or `other` is missing, superfluous or of another shape.
    """
    _check_images(images)
    _check_choice(name, "degradation", DEGRADATIONS)
    if isinstance(severity, bool) or not isinstance(severity, int) or severity not in SEVERITIES:
        raise ValueError(f"severity={severity!r}: choose from {', '.join(map(str, SEVERITIES))}")
    _check_length(keys, "keys", images)
    degradation, level = DEGRADATIONS[name], DEGRADATIONS[name].levels[severity - 1]
    if (degradation.needs == "other") != (other is not None):
        problem = "needs the images to freeze to as 'other'" if other is None else "takes no 'other' images"
        raise ValueError(f"{name} {problem}")
    if other is not None and other.shape != images.shape:
        raise ValueError(f"other has the shape {tuple(other.shape)}, the images have {tuple(images.shape)}")
    if areas is not None:
        _check_areas(areas, images)

    degraded = images.clone()
    # Half precision has no convolution on some processors, and 11 bits are few for light before it is encoded.
    dtype = torch.promote_types(images.dtype, torch.float32)
    for index, key in enumerate(keys):
        top, bottom, left, right = areas[index] if areas is not None else (0, images.shape[-2], 0, images.shape[-1])
        place = (index, slice(None), slice(top, bottom), slice(left, right))
        extra: dict[str, Tensor | torch.Generator] = {}
        if degradation.needs == "generator":
            extra["generator"] = _generator(name, key, seed)
        elif other is not None:
            extra["other"] = other[place].to(images.device, dtype)
        image = images[place].to(dtype).contiguous()  # the last digit may depend on how it lies in memory
        degraded[place] = degradation.function(image, level, **extra).clamp(0, 1).to(images.dtype)
    return degraded


def fill(
    images: Tensor,
    name: str,
    *,
    mean: Sequence[float] | Tensor | None = None,
    keys: Sequence[int | str] | None = None,
    seed: int = 0,
) -> Tensor:
    """Make what a detector sees in place of a modality that is missing. Nothing of the images' content is used.

    Args:
        images: The missing modality, shape (B, C, H, W), float; gives the shape, dtype and device.
        name: "zero"; "mean", the same value everywhere a channel; or "noise", every value uniform in [0, 1].
        mean: For "mean": the mean of each channel over the training set, shape (C,), in [0, 1]. It cannot be that of
            the image itself, because a sensor that is missing delivers no image to take the mean of.
        keys: For "noise": as in `degrade`. Images with equal keys get equal noise.
        seed: As in `degrade`.

    Returns:
        New tensor with the shape, dtype and device of `images`.

    Raises:
        ValueError: If the name is unknown or `mean` or `keys` is missing or of the wrong length.
    """
    _check_choice(name, "fill", FILLS)
    if name == "mean":
        if mean is None or len(mean) != images.shape[1]:
            given = "none" if mean is None else len(mean)
            raise ValueError(f"the fill 'mean' needs one mean for each of the {images.shape[1]} channels, got {given}")
        values = torch.as_tensor(mean, dtype=images.dtype, device=images.device)
        return values[None, :, None, None].expand_as(images).clone()
    filled = torch.zeros_like(images)
    if name == "noise":
        keys = () if keys is None else keys
        _check_length(keys, "keys", images)
        for index, key in enumerate(keys):
            filled[index] = torch.rand(images.shape[1:], generator=_generator("fill", key, seed)).to(images)
    return filled


def _generator(name: str, key: int | str, seed: int) -> torch.Generator:
    """Return a generator on the CPU for one image; its state is the same in every process and on every machine."""
    digest = hashlib.sha256(f"{seed}/{name}/{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _normal(image: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal noise for an image, shape (C, H, W), or (1, H, W) if the image is grey."""
    grey = bool((image.amax(0) - image.amin(0) <= GREY_TOLERANCE).all())
    return torch.randn((1 if grey else image.shape[0], *image.shape[1:]), generator=generator).to(image)


def _encode(light: Tensor) -> Tensor:
    """Turn light into the values of a camera, cutting off what is below 0 and above 1."""
    return light.clamp(0, 1).pow(1 / GAMMA)


def _veil(image: Tensor, air: Tensor, optical_depth: float) -> Tensor:
    """Mix an image with the air before it, the more the higher the row."""
    height = image.shape[-2]
    above_bottom = 1 - (_positions(height, image) + 0.5) / height
    distances = NEAREST_DISTANCE + (1 - NEAREST_DISTANCE) * above_bottom
    transmission = (-optical_depth * distances).exp()[:, None]
    return image * transmission + air * (1 - transmission)


def _positions(size: int, image: Tensor) -> Tensor:
    return torch.arange(size, dtype=image.dtype, device=image.device)


def _filter(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel of an image (C, H, W) with a kernel of odd sides, scaled to a sum of 1."""
    height, width = kernel.shape
    padded = F.pad(image[None], (width // 2, width // 2, height // 2, height // 2), mode="replicate")
    channels = len(image)
    return F.conv2d(padded, (kernel / kernel.sum()).expand(channels, 1, height, width), groups=channels)[0]


def _smooth(image: Tensor, sigma: float) -> Tensor:
    """Take the Gaussian mean of an image (C, H, W). Wide ones work on a smaller copy: nothing fine is left anyway."""
    height, width = image.shape[-2:]
    factor = max(1, int(sigma / 3))
    whole = F.pad(image[None], (0, -width % factor, 0, -height % factor), mode="replicate")
    small = F.avg_pool2d(whole, factor)[0]
    reach = math.ceil(3 * sigma / factor)
    kernel = (-0.5 * ((_positions(2 * reach + 1, image) - reach) * factor / sigma) ** 2).exp()
    small = _filter(_filter(small, kernel[:, None]), kernel[None])
    return F.interpolate(small[None], whole.shape[-2:], mode="bilinear", align_corners=False)[0, :, :height, :width]


def _check_choice(name: str, what: str, choices: Sequence[str] | dict[str, Degradation]) -> None:
    if name not in choices:
        raise ValueError(f"unknown {what} {name!r}: choose from {', '.join(choices)}")


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floats of shape (B, C, H, W), got {images.dtype} of {tuple(images.shape)}")
    if images.numel() and not (images.amin() >= 0 and images.amax() <= 1):  # NaN fails as well
        raise ValueError(f"images must be in [0, 1], got values from {images.amin():g} to {images.amax():g}")


def _check_length(values: Sequence[object], what: str, images: Tensor) -> None:
    if len(values) != len(images):
        raise ValueError(f"{what} has {len(values)} entries for {len(images)} images")


def _check_areas(areas: Sequence[tuple[int, int, int, int]], images: Tensor) -> None:
    _check_length(areas, "areas", images)
    height, width = images.shape[-2:]
    for top, bottom, left, right in areas:
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            area = f"(top, bottom, left, right) = {(top, bottom, left, right)}"
            raise ValueError(f"areas: {area} is no part of an image of {height} × {width} pixels")
