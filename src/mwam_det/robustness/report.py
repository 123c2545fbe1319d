"""The robustness report: a model evaluated on every combination of its modalities."""

from __future__ import annotations

from pathlib import Path

from mwam_det.robustness.results import RobustnessResults


class RobustnessReport(RobustnessResults):
    """The results on all 2^M − 1 combinations of modalities, to be saved and shown; see `RobustnessResults`."""

    def save(self, folder: str | Path, plots: bool = True) -> None:
        """Write the report to a folder, replacing an earlier report.

        robustness.json holds everything; robustness.csv, .md and .tex the table (.tex in the form of Table 12);
        robustness_classes.csv, _groups.csv and _degradations.csv what their names say; robustness_*.png the figures;
        report.html everything for a browser, in one file.

        Args:
            folder: Created if missing.
            plots: Whether to draw figures.
        """
        from mwam_det.robustness.files import write_report  # needs jinja2 and matplotlib

        write_report(self, Path(folder), plots)

    def show(self) -> None:
        """Print the table and the notes to the terminal."""
        from mwam_det.robustness.terminal import print_report

        print_report(self)
