import csv
import json

import pytest

from mwam_det import RobustnessReport
from mwam_det.engine.robustness import CombinationResult


def report(rgb, ir, both):
    results = [
        CombinationResult(available, {"mAP50": value, "mAP50-95": value / 2})
        for available, value in ((("rgb",), rgb), (("ir",), ir), (("rgb", "ir"), both))
    ]
    return RobustnessReport(("rgb", "ir"), tuple(results), "val", "best.pt")


@pytest.mark.parametrize(
    ("scores", "average", "rate"),
    [((0.215, 0.669, 0.790), 0.558, 44.05), ((0.628, 0.738, 0.804), 0.723, 15.05)],
)
def test_the_averages_are_those_of_the_papers_table_12(scores, average, rate):
    assert report(*scores).average() == pytest.approx(average, abs=6e-4)
    assert report(*scores).average_collapse_rate() == pytest.approx(rate, abs=0.01)


def test_the_complete_combination_has_no_collapse_rate_of_its_own():
    table = report(0.4, 0.5, 0.8)
    assert [table.collapse_rate(result) for result in table.results] == [pytest.approx(50), pytest.approx(37.5), None]


def test_a_model_that_finds_nothing_has_no_collapse_rate_at_all(capsys):
    table = report(0, 0, 0)
    assert table.average_collapse_rate() is None
    table.show()
    assert " - " in capsys.readouterr().out


def test_both_files_hold_the_same_figures(tmp_path):
    table = report(0.4, 0.5, 0.8)
    table.save(tmp_path)
    content = json.loads((tmp_path / "robustness.json").read_text())
    assert content["combinations"][0] == {
        "available": ["rgb"],
        "missing": ["ir"],
        "mAP50": 0.4,
        "mAP50-95": 0.2,
        "PCR": pytest.approx(50),
    }
    assert content["average"]["PCR"] == pytest.approx(43.75)
    with (tmp_path / "robustness.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["available"] for row in rows] == ["rgb", "ir", "rgb+ir", "average"]
    assert [float(row["mAP50"]) for row in rows] == pytest.approx([0.4, 0.5, 0.8, 17 / 30])
    assert rows[2]["PCR"] == ""


def test_the_table_shows_which_modalities_were_there(capsys):
    report(0.4, 0.5, 0.8).show()
    shown = capsys.readouterr().out
    assert "43.75" in shown and "0.567" in shown
    assert [line.count("●") for line in shown.splitlines() if "●" in line] == [1, 1, 2]


def test_results_without_the_complete_combination_are_refused():
    with pytest.raises(ValueError, match="rgb, ir"):
        RobustnessReport(("rgb", "ir"), (CombinationResult(("rgb",), {"mAP50": 1, "mAP50-95": 1}),))
