"""What does the evaluation of all combinations cost in one pass, compared with one validation for each?

    python benchmarks/one_pass.py WEIGHTS RECIPE [KEY=VALUE ...] [--rounds 5] [--imgsz 320] [--batch 16]

Times `MultimodalYOLO.robustness` (without figures) and a separate validation of every combination, in turn, on the
split "train" of the recipe, which is the larger one; prints both, their ratio round by round, and the largest
difference between their metrics. Reading the data, warm-up and metrics are part of both times; finding and checking the
pairs is not, as the result is cached from the round before.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from machine import argument_parser, show, time_in_turn
from rich.table import Table
from ultralytics.utils import LOGGER

from mwam_det import MultimodalYOLO
from mwam_det.core.missing import modality_combinations
from mwam_det.data.section import resolve_dataset
from mwam_det.experiments import load


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, rounds=5, imgsz=320, batch=16)
    parser.add_argument("weights")
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    LOGGER.setLevel("WARNING")
    data = resolve_dataset(load(args.recipe, args.overrides).recipe.data).as_dict()
    modalities = tuple(data["modalities"])
    model = MultimodalYOLO(args.weights)
    shared = {"data": data, "split": "train", "imgsz": args.imgsz, "batch": args.batch, "device": args.device}
    found: dict[str, dict[tuple[str, ...], float]] = {"one pass": {}, "one by one": {}}
    with tempfile.TemporaryDirectory() as folder:

        def one_pass() -> None:
            report = model.robustness(save_dir=Path(folder) / "report", plots=False, **shared)
            found["one pass"] = {result.available: result.metrics["mAP50-95"] for result in report.results}

        def one_by_one() -> None:
            for available in modality_combinations(modalities):
                missing = [name for name in modalities if name not in available]
                metrics = model.val(missing=missing, plots=False, project=folder, name="val", exist_ok=True, **shared)
                found["one by one"][available] = float(metrics.box.map)

        times = time_in_turn({"one by one": one_by_one, "one pass": one_pass}, args.rounds, device=args.device)
    table = Table("way", "s, quartiles", "/ one by one")
    for name, spread in times.items():
        seconds = " ".join(f"{value / 1e3:.2f}" for value in spread.quartiles)
        table.add_row(name, seconds, f"{spread.over(times['one by one']):.3f}")
    difference = max(abs(found["one pass"][each] - value) for each, value in found["one by one"].items())
    show(
        f"{', '.join(modalities)}; {args.imgsz} px, batch {args.batch}, {args.device}, {args.rounds} rounds",
        table,
        f"largest difference of mAP50-95: {difference:.1e}",
    )


if __name__ == "__main__":
    main()
