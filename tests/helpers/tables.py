"""Tables that the package writes, read back."""

import csv
from pathlib import Path


def read_csv(file: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV file by column, all as text."""
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
