"""Demo set: generated drone views of streets at night as aligned RGB + infrared pairs.

The set is small enough to train on within minutes, yet neither modality suffices alone: a dark vehicle with a warm
engine shows in infrared only, a cold one under a street lamp in RGB only. Equal arguments give equal images with the
same versions of NumPy and OpenCV.
"""

from __future__ import annotations

import cmath
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from filelock import FileLock

CLASS_NAMES = {0: "car", 1: "truck", 2: "bus"}
GENERATOR_VERSION = 1  # raise it with every change that alters a pixel or a label

_SPLITS = ("train", "val")
_RECORD = "synthetic.json"
_JPEG_QUALITY = 95  # lower settings quantise away the high frequencies that tell RGB from infrared
_MIN_SIDE = 64
_MIN_OBJECTS, _MAX_OBJECTS = 4, 12
_VISIBLE_IN = (("rgb", "ir"), ("ir",), ("rgb",))
_VISIBLE_SHARES = (0.52, 0.30, 0.18)  # before some fail to find a place, the dark ones most often
_CLASS_SHARES = (0.58, 0.22, 0.20)

# Scenes are laid out in units of one pixel at 256 x 320; the canvas scales them to the size asked for.
_VEHICLE_SIZES = ((22, 11), (36, 14), (48, 14))
_LANE, _EDGE = 18, 34  # from the middle of a road to the kerb and to the far side of the pavement
_BAY_LENGTH, _BAY_WIDTH, _AISLE = 28, 16, 24

_Value: TypeAlias = float | Sequence[float]  # of a pixel, in one channel or in several

# Surfaces: reflectance (BGR, 0-255), temperature (infrared grey level), roughness (0-255).
_GRASS, _GRAVEL = ((44, 78, 62), 74, 90), ((96, 108, 116), 82, 70)
_PAVEMENT, _ASPHALT = ((118, 122, 124), 88, 28), ((84, 80, 78), 98, 30)
_MARKING = (205, 215, 215)  # of the temperature and roughness of the asphalt
_ROOF_COLOURS, _ROOF_HEAT = ((70, 78, 130), (92, 88, 84), (120, 118, 112), (62, 84, 112)), 52
_PAINTS = ((228, 230, 232), (232, 228, 222), (178, 182, 186), (44, 40, 196), (186, 96, 36), (48, 190, 228),
           (80, 130, 66), (32, 112, 226), (128, 186, 206))  # fmt: skip
_DULL_PAINTS = ((74, 70, 66), (88, 74, 66), (64, 66, 84), (70, 78, 68))  # white would show even by the light of the sky
_GLASS, _BLACK, _METAL = (30, 24, 20), (17, 17, 16), (120, 122, 124)

# Parts of a vehicle in painting order: front, back and half width from -1 to 1, colour, degrees above the body.
_Part: TypeAlias = tuple[float, float, float, str | tuple[int, int, int], float]
_WHEELS: tuple[_Part, ...] = (
    (1.04, -1.04, 1.16, _BLACK, -30), (0.78, 0.46, 1.06, _BLACK, 30), (-0.46, -0.78, 1.06, _BLACK, 30),
    (1.0, -1.0, 0.8, "body", 0), (0.96, -0.96, 1.0, "body", 0),
)  # fmt: skip
_PARTS: tuple[tuple[_Part, ...], ...] = (
    (*_WHEELS, (0.92, 0.42, 0.8, "body", 75), (0.42, -0.72, 0.84, _GLASS, -12), (0.18, -0.48, 0.74, "roof", 6)),
    (*_WHEELS, (0.96, 0.58, 0.92, "body", 75), (0.88, 0.74, 0.86, _GLASS, 20), (0.56, 0.48, 0.9, _BLACK, 20),
     (0.48, -0.98, 0.98, "load", -14), (0.44, -0.94, 0.04, _METAL, -14)),
    (*_WHEELS, (0.97, 0.86, 0.9, _GLASS, -6), *((at + 0.1, at, 0.98, _GLASS, -6) for at in np.arange(-0.85, 0.8, 0.17)),
     (0.84, -0.96, 0.72, "roof", 8), (-0.62, -0.96, 0.7, "body", 80), (0.4, 0.16, 0.35, _METAL, 24)),
)  # fmt: skip

_SKY_LIGHT, _HAZE = np.array((0.11, 0.085, 0.066), np.float32), np.array((17, 11, 8), np.float32)  # blueish
_DARK, _LIT, _DAZZLING = 0.04, 0.35, 1.3  # light on unlit vehicles: at most; on lit ones: at least, at most


@dataclass(frozen=True)
class SceneObject:
    """One vehicle of a scene.

    Attributes:
        label: Class index, a key of `CLASS_NAMES`.
        corners: (4, 2) float32, x and y in pixels, clockwise on screen from the front left corner. (0, 0) is the outer
            corner of the top left pixel. Vehicles that the border cuts have corners outside the image.
        visible_in: The modalities whose pixels show the vehicle, a non-empty subset of ("rgb", "ir").
    """

    label: int
    corners: np.ndarray
    visible_in: tuple[str, ...]


def render_pair(
    rng: np.random.Generator, size: tuple[int, int] = (256, 320)
) -> tuple[np.ndarray, np.ndarray, list[SceneObject]]:
    """Render one aligned RGB + infrared pair of a street scene at night, seen from above.

    Args:
        rng: The only source of randomness.
        size: Height and width in pixels, at least 64 each. Vehicles grow with the image.

    Returns:
        The RGB image, (H, W, 3) uint8 in OpenCV's BGR order; the infrared image, (H, W) uint8, brighter where warmer;
        4 to 12 objects that do not overlap, each with at least 70 % of its area inside the image.

    Raises:
        ValueError: If a side of `size` is shorter than 64 pixels.
    """
    _check_size(size)
    canvas = _Canvas(size)
    roads, bays, lamps, light, vehicles = _lay_out(rng, canvas)
    _paint_ground(rng, canvas, roads, bays)
    for lamp in lamps:
        canvas.disc(canvas.shine, lamp, 2.2, (190, 235, 255))
        canvas.disc(canvas.heat, lamp, 1.5, 120)
    for vehicle in vehicles:
        _paint_vehicle(rng, canvas, vehicle)
    objects = [SceneObject(v.label, v.part(1, -1, -1, 1) * np.float32(canvas.scale), v.visible_in) for v in vehicles]
    return *_expose(rng, canvas, light), objects


def write_demo(
    folder: Path, *, train: int = 96, val: int = 32, size: tuple[int, int] = (256, 320), seed: int = 0
) -> Path:
    """Write the demo set, unless `folder` already holds it.

    The layout is `{visible,infrared}/{train,val}/NNNN.jpg` for the images, `labels/{train,val}/NNNN.txt` for upright
    boxes (class, centre, width, height), `labels_obb/{train,val}/NNNN.txt` for rotated ones (class, four corners), both
    normalised to the image and clipped to [0, 1], and `synthetic.json` for how the set was made. Everything is drawn in
    a hidden folder beside `folder` that takes its name at the end, so an interrupted run leaves no half set; let one
    process at a time write a folder.

    Args:
        folder: Where to write; must not exist, be empty or hold the demo set of the same arguments.
        train: Number of training pairs.
        val: Number of validation pairs.
        size: Height and width of the images in pixels, at least 64 each.
        seed: Non-negative; each pair depends on it, on its split and on its index only.

    Returns:
        `folder`.

    Raises:
        FileExistsError: If `folder` holds anything else. Nothing is ever overwritten.
        ValueError: If a count or the seed is negative or `size` is too small.
    """
    _check_size(size)
    for name, value in (("train", train), ("val", val), ("seed", seed)):
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    record = {"version": GENERATOR_VERSION, "train": train, "val": val, "size": [int(s) for s in size], "seed": seed}
    folder = Path(folder)
    target = folder.resolve()
    if _holds_demo(target, record):
        return folder

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.synthetic-lock")
    with FileLock(lock):  # called by all processes of a distributed training
        if not _holds_demo(target, record):
            _draw(target, record)
        lock.unlink(missing_ok=True)  # later callers find the set
    return folder


def _draw(target: Path, record: dict) -> None:
    """Draw the demo set of `record` beside its folder, then rename it."""
    from rich.progress import track

    train, val, size, seed = (record[key] for key in ("train", "val", "size", "seed"))
    partial = target.with_name(f".{target.name}.synthetic-partial")
    if partial.exists():  # an earlier run was interrupted
        shutil.rmtree(partial)
    for kind in ("visible", "infrared", "labels", "labels_obb"):
        for split in _SPLITS:
            (partial / kind / split).mkdir(parents=True)
    jobs = [(split, index) for split, count in zip(_SPLITS, (train, val), strict=True) for index in range(count)]
    for split, index in track(jobs, description="Drawing the demo set"):
        _write_pair(partial, split, index, size, seed)
    (partial / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8", newline="\n")
    if target.exists():  # empty, or it would have been refused
        target.rmdir()
    partial.rename(target)


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < _MIN_SIDE:
        raise ValueError(f"size must be at least {_MIN_SIDE} pixels a side, got {tuple(size)}")


def _holds_demo(folder: Path, record: dict) -> bool:
    """Return whether the demo set of `record` exists; refuse a folder that holds anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found == record:
        return True
    if isinstance(found, dict):
        differing = (key for key in record if found.get(key) != record[key])
        content = "a demo set with " + ", ".join(f"{k} {found.get(k)} instead of {record[k]}" for k in differing)
    else:
        content = f"files that are not a demo set (there is no readable {_RECORD})"
    raise FileExistsError(f"{folder} holds {content}; choose another data.path or delete that folder yourself.")


def _write_pair(root: Path, split: str, index: int, size: tuple[int, int], seed: int) -> None:
    rgb, ir, objects = render_pair(np.random.default_rng((seed, _SPLITS.index(split), index)), size)
    for kind, image in (("visible", rgb), ("infrared", ir)):
        _, encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
        (root / kind / split / f"{index:04d}.jpg").write_bytes(encoded.tobytes())
    lines: dict[str, list[str]] = {"labels": [], "labels_obb": []}
    for item in objects:
        corners = (item.corners / np.array(size[::-1], np.float32)).clip(0, 1)
        low, high = corners.min(axis=0), corners.max(axis=0)
        for kind, numbers in (("labels", ((low + high) / 2, high - low)), ("labels_obb", corners)):
            lines[kind].append(" ".join((str(item.label), *(f"{n:.6f}" for n in np.ravel(numbers)))) + "\n")
    for kind, text in lines.items():
        (root / kind / split / f"{index:04d}.txt").write_text("".join(text), encoding="utf-8", newline="\n")


# Scene ---------------------------------------------------------------------------------------------------------------


class _Pose(NamedTuple):
    """A place x + iy and a heading in radians, clockwise on screen from +x; `across` is positive to the right."""

    at: complex
    heading: float

    def point(self, along: float, across: float) -> complex:
        return self.at + complex(along, across) * cmath.exp(1j * self.heading)

    def move(self, along: float, across: float, turn: float = 0.0) -> _Pose:
        return _Pose(self.point(along, across), self.heading + turn)

    def strip(self, start: float, end: float, left: float, right: float) -> np.ndarray:
        """Return the corners of a rectangle, (4, 2) float32, clockwise from the front left."""
        corners = (self.point(a, b) for a, b in ((end, left), (end, right), (start, right), (start, left)))
        return np.array([(corner.real, corner.imag) for corner in corners], np.float32)


class _Vehicle(NamedTuple):
    label: int
    pose: _Pose
    length: float
    width: float
    visible_in: tuple[str, ...]
    headlights: bool

    def part(self, front: float, back: float, left: float, right: float) -> np.ndarray:
        """Return the corners of a part, given from -1 to 1 along (front 1) and across (right 1) the vehicle."""
        a, b = self.length / 2, self.width / 2
        return self.pose.strip(back * a, front * a, left * b, right * b)


class _Canvas:
    """The layers that are drawn on, in scene units."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.scale = min(size[0] / 256, size[1] / 320)
        self.height, self.width = (side / self.scale for side in size)
        self.albedo, self.shine = (np.zeros((*size, 3), np.uint8) for _ in range(2))  # reflected and emitted light
        self.heat, self.rough, self.taken = (np.zeros(size, np.uint8) for _ in range(3))

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        # OpenCV puts (0, 0) in the middle of a pixel and takes sub-pixel positions as integers of 1/16 pixel.
        return np.rint(points * (16 * self.scale) - 8).astype(np.int32)

    def fill(self, layer: np.ndarray, corners: np.ndarray, value: _Value) -> None:
        cv2.fillConvexPoly(layer, self._fixed(corners), value, cv2.LINE_AA, 4)

    def disc(self, layer: np.ndarray, centre: complex, radius: float, value: _Value) -> None:
        x, y = self._fixed(np.array((centre.real, centre.imag))).tolist()
        cv2.circle(layer, (x, y), round(radius * self.scale * 16), value, -1, cv2.LINE_AA, 4)

    def paint(self, corners: np.ndarray, colour: _Value, heat: float, rough: float = 8) -> None:
        for layer, value in ((self.albedo, colour), (self.heat, heat), (self.rough, rough)):
            self.fill(layer, corners, value)

    def claim(self, corners: np.ndarray) -> bool:
        """Mark an area as taken unless part of it is taken already; return whether it was free."""
        mask = np.zeros_like(self.taken)
        self.fill(mask, corners, 1)
        free = not cv2.countNonZero(cv2.bitwise_and(mask, self.taken))
        if free:
            self.taken |= mask
        return free

    def holds(self, point: complex, border: float) -> bool:
        return border < point.real < self.width - border and border < point.imag < self.height - border


class _Light:
    """Light on the ground and glare in front of it, at half resolution because both are smooth."""

    def __init__(self, canvas: _Canvas) -> None:
        y, x = np.mgrid[1 : canvas.size[0] : 2, 1 : canvas.size[1] : 2].astype(np.float32)
        self.at, self.scale = (x + 1j * y) / np.float32(canvas.scale), canvas.scale
        self.ground, self.glare = (np.zeros((*x.shape, 3), np.float32) for _ in range(2))

    def add_lamp(self, lamp: complex, reach: float, colour: np.ndarray, glare: float) -> None:
        squared = (np.abs(self.at - np.complex64(lamp)) / np.float32(reach))[..., None] ** 2
        self.ground += 1.25 * colour / (1 + squared) ** 3
        if glare:
            self.glare += glare * colour / (1 + 50 * squared) ** 1.5

    def add_headlights(self, vehicle: _Vehicle) -> None:
        local = (self.at - np.complex64(vehicle.pose.at)) * np.complex64(cmath.exp(-1j * vehicle.pose.heading))
        along, across = local.real, local.imag
        ahead = np.maximum(along - vehicle.length / 2, 0)
        beam = np.exp(-((across / (0.4 * vehicle.width + 0.25 * ahead)) ** 2) - ahead / 28) * (ahead > 0)
        halo = np.exp(-2 * (along / vehicle.length) ** 2 - 2 * (across / vehicle.width) ** 2)  # light the road returns
        self.ground += (0.9 * beam + 0.8 * halo)[..., None] * np.array((0.82, 0.95, 1.0), np.float32)

    def suits(self, vehicle: _Vehicle) -> bool:
        """Return whether the light on a vehicle agrees with where it is to be visible."""
        points = np.vstack((vehicle.part(1.2, -1.2, -1.2, 1.2), vehicle.part(0.4, -0.4, 0, 0)))
        rows, columns = self.at.shape
        column, row = (points * (self.scale / 2)).astype(int).T
        where = row.clip(0, rows - 1), column.clip(0, columns - 1)
        levels = (self.ground[where] + self.glare[where]).mean(axis=-1)
        if "rgb" not in vehicle.visible_in:
            return bool(levels.max() < _DARK)
        return bool(levels.max() < _DAZZLING and (vehicle.headlights or np.median(levels) > _LIT))


# Layout --------------------------------------------------------------------------------------------------------------


def _lay_out(
    rng: np.random.Generator, canvas: _Canvas
) -> tuple[list[_Pose], list[_Pose], list[complex], _Light, list[_Vehicle]]:
    """Lay out roads, bays, lamps, light and vehicles, anew until enough vehicles have found a place."""
    while True:
        crossing = complex(canvas.width * rng.uniform(0.3, 0.7), canvas.height * rng.uniform(0.3, 0.7))
        heading = rng.uniform(0, np.pi)
        roads = [_Pose(crossing, heading), _Pose(crossing, heading + np.pi * rng.uniform(0.3, 0.7))]
        bays = _lay_out_car_park(rng, canvas, roads)
        lamps = _stand_lamps(rng, canvas, roads, bays)
        light, dazzling = _Light(canvas), rng.integers(1, 3)
        for i, lamp in enumerate(lamps):
            warm, cold = np.array((0.36, 0.16, 0), np.float32), np.array((0.42, 0.74, 1.0), np.float32)
            colour = cold + warm * np.float32(rng.uniform())
            light.add_lamp(lamp, rng.uniform(42, 54), colour, glare=1.6 if i < dazzling else 0.0)
        vehicles = _place_vehicles(rng, canvas, roads, bays, light)
        if len(vehicles) >= _MIN_OBJECTS:
            return roads, bays, lamps, light, vehicles


def _lay_out_car_park(rng: np.random.Generator, canvas: _Canvas, roads: list[_Pose]) -> list[_Pose]:
    """Return the bays, heading away from the first road; none where the second leaves no room."""
    count, depth = int(rng.integers(5, 9)), _AISLE + _BAY_LENGTH
    half = count * _BAY_WIDTH / 2
    for _ in range(12):
        kerb = roads[0].move(0, 0, np.pi * rng.integers(2)).move(rng.uniform(-130, 130), _LANE)
        offsets = (kerb.strip(-half, half, 0, depth) @ (1, 1j) - roads[1].at) * cmath.exp(-1j * roads[1].heading)
        one_side = abs(np.sign(offsets.imag).sum()) == 4 and abs(offsets.imag).min() > _EDGE
        if one_side and canvas.holds(kerb.point(0, depth / 2), 40):
            across = _AISLE + _BAY_LENGTH / 2
            return [kerb.move((i + 0.5) * _BAY_WIDTH - half, across, np.pi / 2) for i in range(count)]
    return []


def _stand_lamps(rng: np.random.Generator, canvas: _Canvas, roads: list[_Pose], bays: list[_Pose]) -> list[complex]:
    """Stand lamps at the car park and along the roads, so far apart that the stretches between them stay dark."""
    lamps = [bays[len(bays) // 2].point(0.6 * _BAY_LENGTH, 0)] if bays else []
    wanted = rng.integers(3, 5)
    for _ in range(60):
        along, across = rng.uniform(64, 180), 1.1 * _EDGE  # clear of the crossing
        lamp = roads[rng.integers(2)].point(along * rng.choice((-1, 1)), across * rng.choice((-1, 1)))
        if len(lamps) < wanted and canvas.holds(lamp, 15) and all(abs(lamp - other) > 90 for other in lamps):
            lamps.append(lamp)
    return [lamps[i] for i in rng.permutation(len(lamps))]


def _place_vehicles(
    rng: np.random.Generator, canvas: _Canvas, roads: list[_Pose], bays: list[_Pose], light: _Light
) -> list[_Vehicle]:
    """Place vehicles one after the other; `light` gains the headlights of those on the move."""
    vehicles: list[_Vehicle] = []
    drawn = rng.choice(3, size=rng.integers(_MIN_OBJECTS, _MAX_OBJECTS + 1), p=_VISIBLE_SHARES)
    for kind in sorted(drawn, key=lambda k: "rgb" not in _VISIBLE_IN[k]):  # the dark ones last: then all light is known
        visible_in, label = _VISIBLE_IN[kind], int(rng.choice(3, p=_CLASS_SHARES))
        length, width = (float(side * rng.uniform(0.85, 1.15)) for side in _VEHICLE_SIZES[label])
        for _ in range(60):
            pose, in_lane = _draw_pose(rng, roads, bays if label == 0 else [])
            if in_lane and "ir" not in visible_in:  # nobody leaves a cold vehicle in a lane
                continue
            vehicle = _Vehicle(label, pose, length, width, visible_in, in_lane and "rgb" in visible_in)
            if _fits(canvas, vehicle, vehicles) and light.suits(vehicle):
                vehicles.append(vehicle)
                if vehicle.headlights:
                    light.add_headlights(vehicle)
                break
    return vehicles


def _draw_pose(rng: np.random.Generator, roads: list[_Pose], bays: list[_Pose]) -> tuple[_Pose, bool]:
    """Draw a pose in a bay, on the pavement or in a lane (right-hand traffic), and whether it is in a lane."""
    turn = np.pi * rng.integers(2) + rng.normal(0, 0.03)
    place = rng.uniform()
    if bays and place < 0.3:
        bay = bays[rng.integers(len(bays))]
        along, across = rng.normal(0, 0.8, 2)
        return bay.move(along, across, turn), False
    in_lane = place < 0.75
    road = roads[rng.integers(2)].move(0, 0, turn)
    if in_lane:
        return road.move(rng.uniform(-220, 220), 0.52 * _LANE), True
    return road.move(rng.uniform(62, 220) * rng.choice((-1, 1)), (_LANE + _EDGE) / 2), False  # clear of the crossing


def _fits(canvas: _Canvas, vehicle: _Vehicle, others: list[_Vehicle]) -> bool:
    def rectangle(v: _Vehicle, margin: float) -> tuple:
        return (v.pose.at.real, v.pose.at.imag), (v.length + margin, v.width + margin), np.degrees(v.pose.heading)

    def shared_area(a: tuple, b: tuple) -> float:
        kind, region = cv2.rotatedRectangleIntersection(a, b)
        return cv2.contourArea(cv2.convexHull(region)) if kind != cv2.INTERSECT_NONE else 0.0

    image = (canvas.width / 2, canvas.height / 2), (canvas.width, canvas.height), 0.0
    inside = shared_area(rectangle(vehicle, 0), image) / (vehicle.length * vehicle.width)
    return inside > 0.72 and not any(shared_area(rectangle(vehicle, 3), rectangle(other, 3)) for other in others)


# Painting ------------------------------------------------------------------------------------------------------------


def _clouds(rng: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Return smooth noise, (H, W) float32, interpolated between `cells` knots a side."""
    return cv2.resize(rng.standard_normal((cells, cells), np.float32), size[::-1], interpolation=cv2.INTER_CUBIC)


def _paint_ground(rng: np.random.Generator, canvas: _Canvas, roads: list[_Pose], bays: list[_Pose]) -> None:
    far = abs(complex(canvas.width, canvas.height))
    gravel = _clouds(rng, canvas.size, 7) > 0.7
    for place, layer in enumerate((canvas.albedo, canvas.heat, canvas.rough)):
        layer[:] = _GRASS[place]
        layer[gravel] = _GRAVEL[place]
    for half, surface in ((_EDGE, _PAVEMENT), (_LANE, _ASPHALT)):
        for road in roads:
            canvas.paint(road.strip(-far, far, -half, half), *surface)
            canvas.fill(canvas.taken, road.strip(-far, far, -half, half), 1)
    for bay in bays:
        ground = bay.strip(-_BAY_LENGTH / 2 - _AISLE, _BAY_LENGTH / 2, -_BAY_WIDTH / 2 - 0.5, _BAY_WIDTH / 2 + 0.5)
        canvas.paint(ground, *_ASPHALT)
        canvas.fill(canvas.taken, ground, 1)
    _paint_markings(canvas, roads, bays)
    for _ in range(10):
        _paint_roof(rng, canvas, roads[rng.integers(2)])


def _paint_markings(canvas: _Canvas, roads: list[_Pose], bays: list[_Pose]) -> None:
    between = roads[1].heading - roads[0].heading
    clear = _LANE * (1 + abs(np.cos(between))) / np.sin(between) + 3  # where the crossing ends
    far = abs(complex(canvas.width, canvas.height))
    for end in (pose for road in roads for pose in (road, road.move(0, 0, np.pi))):
        crosswalk = [(clear, clear + 8, across, across + 2) for across in range(3 - _LANE, _LANE - 3, 4)]
        dashes = [(start, start + 8, -0.6, 0.6) for start in range(int(clear) + 14, int(far), 16)]
        edges = [(clear + 11, far, across - 0.5, across + 0.5) for across in (1.5 - _LANE, _LANE - 1.5)]
        for marking in crosswalk + dashes + edges:
            canvas.fill(canvas.albedo, end.strip(*marking), _MARKING)
    for bay in bays:
        for across in (-_BAY_WIDTH / 2, _BAY_WIDTH / 2):
            line = bay.strip(-_BAY_LENGTH / 2, _BAY_LENGTH / 2, across - 0.5, across + 0.5)
            canvas.fill(canvas.albedo, line, _MARKING)


def _paint_roof(rng: np.random.Generator, canvas: _Canvas, road: _Pose) -> None:
    a, b = rng.uniform(24, 46), rng.uniform(18, 30)
    roof = road.move(rng.uniform(-220, 220), rng.choice((-1, 1)) * (_EDGE + b + rng.uniform(6, 40)))
    if not canvas.claim(roof.strip(-a - 4, a + 4, -b - 4, b + 4)):
        return
    colour = np.array(_ROOF_COLOURS[rng.integers(len(_ROOF_COLOURS))], np.float32)
    canvas.paint(roof.strip(-a - 1, a + 1, -b - 1, b + 1), (0.45 * colour).tolist(), _ROOF_HEAT + 14)
    for side, shade in ((-1, 1.12), (1, 0.82)):  # two slopes of tiles that meet at the ridge
        canvas.paint(roof.strip(-a, a, *sorted((0, side * b))), (shade * colour).tolist(), _ROOF_HEAT, 40)
        for row in np.arange(3, b, 3.5):
            canvas.fill(canvas.albedo, roof.strip(-a, a, side * row, side * row + 1), (0.8 * shade * colour).tolist())
    x = rng.uniform(-0.8, 0.6) * a
    canvas.paint(roof.strip(x, x + 6, 4, 9), _METAL, _ROOF_HEAT + 22)  # a chimney


def _paint_vehicle(rng: np.random.Generator, canvas: _Canvas, vehicle: _Vehicle) -> None:
    paints = _PAINTS if "rgb" in vehicle.visible_in else _DULL_PAINTS
    paint, load = (np.array(paints[i], np.float32) for i in rng.integers(len(paints), size=2))
    colours = {"body": (0.9 * paint).tolist(), "roof": (paint + 8).tolist(), "load": load.tolist()}
    body_heat = rng.uniform(140, 165)
    for front, back, half, colour, degrees in _PARTS[vehicle.label]:
        corners = vehicle.part(front, back, -half, half)
        canvas.fill(canvas.albedo, corners, colours[colour] if isinstance(colour, str) else colour)
        canvas.fill(canvas.rough, corners, 8)
        if "ir" in vehicle.visible_in:  # a cold vehicle has the temperature of the ground
            canvas.fill(canvas.heat, corners, body_heat + degrees)
    if vehicle.headlights:
        for side in (-0.62, 0.62):
            for front, back, colour in ((1.02, 1 - 3 / vehicle.length, (235, 250, 255)),
                                        (2.4 / vehicle.length - 1, -1.02, (20, 20, 235))):  # fmt: skip
                canvas.fill(canvas.shine, vehicle.part(front, back, side - 0.22, side + 0.22), colour)


def _expose(rng: np.random.Generator, canvas: _Canvas, light: _Light) -> tuple[np.ndarray, np.ndarray]:
    """Return what the two cameras see of the canvas, with grain of the surfaces, optics and sensor noise."""
    ground, glare = (cv2.resize(layer, canvas.size[::-1]) for layer in (light.ground, light.glare))
    mottles = _clouds(rng, canvas.size, 56)
    grain = 1 + canvas.rough * (rng.standard_normal(canvas.size, np.float32) + mottles) / np.float32(255)
    rgb = canvas.albedo * grain[..., None] * (ground + _SKY_LIGHT) + 255 * glare + _HAZE
    rgb += 1.5 * cv2.GaussianBlur(canvas.shine, (0, 0), 1.1 * canvas.scale).astype(np.float32)
    rgb = rgb.clip(0, 255)
    rgb += rng.standard_normal(rgb.shape, np.float32) * (7 - rgb / 60)  # the darker, the more noise is amplified

    ir = cv2.GaussianBlur(canvas.heat, (0, 0), 0.9 * canvas.scale) + 4 * _clouds(rng, canvas.size, 4) + 1.5 * mottles
    ir += np.float32(1.2) * rng.standard_normal(canvas.size, np.float32)
    return rgb.clip(0, 255).astype(np.uint8), ir.clip(0, 255).astype(np.uint8)
