"""Made-up robustness reports, to lay out and to look at."""

import numpy as np

from mwam_det.core.missing import modality_combinations
from mwam_det.robustness.degradation import degradations_for
from mwam_det.robustness.origin import Origin
from mwam_det.robustness.report import RobustnessReport
from mwam_det.robustness.results import RECALLS, Boxes, ClassResult, CombinationResult, DegradationResult, Sample


def table(modalities, scores, **values) -> RobustnessReport:
    """A report with nothing but mAP50, by combination, and half of that as mAP50-95."""
    results = [
        CombinationResult(tuple(available), {"mAP50": score, "mAP50-95": score / 2})
        for available, score in scores.items()
    ]
    return RobustnessReport(tuple(modalities), tuple(results), **values)


def boxes(random, count, classes, size=(96, 128)):
    height, width = size
    corners = random.uniform(0, 0.7, (count, 2)) * [width, height]
    corners = np.concatenate([corners, corners + random.uniform(0.1, 0.3, (count, 2)) * [width, height]], axis=1)
    return Boxes(corners, random.integers(0, classes, count), np.ones(count))


def jittered(random, labels, size=(96, 128)):
    """Most of the labels, a little beside their places, and a false alarm; confidences at random."""
    kept = random.random(len(labels.classes)) < 0.7
    corners = labels.coordinates[kept] + random.normal(0, 2, (kept.sum(), 4))
    false = boxes(random, 1, 1, size)
    corners = np.concatenate([corners, false.coordinates])
    classes = np.concatenate([labels.classes[kept], false.classes])
    return Boxes(corners, classes, random.uniform(0.1, 1, len(classes)))


def full_report(modalities=("rgb", "ir"), classes=("car", "bus"), images=3, coco=True, seed=0) -> RobustnessReport:
    """A report with everything in it."""
    random = np.random.default_rng(seed)
    results = []
    for available in modality_combinations(modalities):
        level = random.uniform(0.2, 0.5) + 0.4 * len(available) / len(modalities)
        each = [
            ClassResult(name, int(random.integers(1, 999)), {"mAP50": level * share, "mAP50-95": level * share / 2})
            for name, share in zip(classes, random.uniform(0.4, 1.0, len(classes)), strict=True)
        ]
        metrics = {key: float(np.mean([c.metrics[key] for c in each])) for key in ("mAP50", "mAP50-95")}
        curve = tuple(float(max(0.0, 1 - (recall / level) ** 4)) for recall in RECALLS)
        own = {**metrics, "mAP75": metrics["mAP50-95"], "mAP50-95 large": None} if coco else None
        results.append(CombinationResult(available, metrics, tuple(each), curve, own))
    best = results[-1].metrics["mAP50"]
    degradations = [
        DegradationResult(modality, name, severity, {"mAP50": best * share**severity, "mAP50-95": best / 3})
        for place, modality in enumerate(modalities)
        for name in degradations_for("thermal" if place else "rgb")
        for share in [random.uniform(0.5, 1)]
        for severity in range(1, 6)
    ]
    samples = []
    for number in range(images):
        labels = boxes(random, 4, len(classes))
        ground = np.linspace(40, 200, 96 * 128).reshape(96, 128, 1).repeat(3, axis=2).astype(np.uint8)
        found = {result.available: jittered(random, labels) for result in results}
        samples.append(Sample(f"{number:05d}.jpg", dict.fromkeys(modalities, ground), labels, found))
    return RobustnessReport(
        tuple(modalities),
        tuple(results),
        "val",
        "runs/best.pt",
        degradations=tuple(degradations),
        notes=("The detector leans on the second modality.",),
        images=images,
        origin=Origin(
            {
                "model": "yolov8n.yaml, fusion concat",
                "run": "demo",
                "training": "14 epochs, 320 px, batch 4, SGD, seed 0",
                "MWAM": "on",
                "incomplete": "views=2",
            },
            {"mwam_det": "0.2.0", "ultralytics": "8.4.190", "torch": "2.14.1"},
            "2026-11-27T02:50+00:00",
        ),
        visible=modalities[0],
        samples=tuple(samples),
        groups={"night": table(modalities, dict.fromkeys(modality_combinations(modalities), 0.3), images=1)},
    )
