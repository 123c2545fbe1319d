"""One class in a comparison's runs, where the mean over the classes is at the mercy of a rare one.

    python benchmarks/by_class.py runs/harbour-compare boat

For each arm its mAP50 on every combination of modalities, mean ± standard deviation over the seeds, and with all
modalities the difference to a reference, paired by seed, with the 95 % interval.
"""

from __future__ import annotations

import csv
from pathlib import Path

from machine import argument_parser, show
from rich.table import Table

from mwam_det.study.comparison import Estimate


def read_class(folder: Path, name: str) -> dict[str, Estimate]:
    """Return mAP50 of a class by combination of modalities, over the finished runs of an arm.

    Raises:
        SystemExit: If a run does not know the class.
    """
    values: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob("seed*/robustness_classes.csv")):
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
        if name not in (known := dict.fromkeys(row["class"] for row in rows)):
            raise SystemExit(f"{file} has no class {name}: choose from {', '.join(known)}")
        for row in rows:
            if row["class"] == name:
                values.setdefault(row["available"], {})[int(file.parent.name[4:])] = float(row["mAP50"])
    return {available: Estimate(by_seed) for available, by_seed in values.items()}


def main() -> None:
    """Read the runs and print the table."""
    parser = argument_parser(__doc__)
    parser.add_argument("folder", type=Path, help="folder of a comparison, which holds one for each arm")
    parser.add_argument("name", help="the class")
    parser.add_argument("--against", default="baseline", help="arm of reference")
    options = parser.parse_args()
    arms = {folder.name: read_class(folder, options.name) for folder in sorted(options.folder.iterdir())}
    arms = {arm: found for arm, found in arms.items() if found}
    if options.against not in arms:
        raise SystemExit(f"{options.folder} has no finished run of {options.against}: choose from {', '.join(arms)}")
    reference, columns = arms[options.against], list(arms[options.against])
    table = Table("arm", *columns, f"difference to {options.against}", title=f"mAP50 of {options.name}")
    for arm, found in arms.items():
        cells = [f"{e.mean:.3f} ± {e.std or 0:.3f}" if (e := found.get(column)) else "-" for column in columns]
        difference = found[columns[-1]].minus(reference[columns[-1]]) if columns[-1] in found else None
        interval = difference.interval() if difference and arm != options.against else None
        cells.append(f"{difference.mean:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "-")
        table.add_row(arm, *cells)
    show(table)


if __name__ == "__main__":
    main()
