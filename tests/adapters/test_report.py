import csv
import json

import pytest

from mwam_det.adapters.report import HostReport

NAMES = ("rgb", "depth", "ir")
COMBINATIONS = [("rgb",), ("depth",), ("ir",), ("rgb", "depth"), ("rgb", "ir"), ("depth", "ir"), NAMES]
# Table 5 of the paper, SF-MD without MWAM and with both interventions: accuracy, PCR, and the averages of both.
PUBLISHED = {
    "without": ([83.92, 93.65, 89.60, 95.43, 93.26, 96.74, 97.39], [13.83, 3.84, 8.00, 2.01, 4.24, 0.67], 92.85, 5.43),
    "hybrid": ([92.13, 96.55, 93.76, 98.25, 96.62, 98.63, 98.93], [6.87, 2.41, 5.23, 0.69, 2.33, 0.30], 96.41, 2.97),
}


def report(scores=(0.4, 0.5, 0.8), **values):
    combinations = [("rgb",), ("ir",), ("rgb", "ir")]
    return HostReport("accuracy", ("rgb", "ir"), dict(zip(combinations, scores, strict=True)), 10, **values)


@pytest.mark.parametrize(("scores", "rates", "average", "rate"), PUBLISHED.values(), ids=PUBLISHED)
def test_rates_and_averages_are_those_of_the_papers_table(scores, rates, average, rate):
    table = HostReport("accuracy", NAMES, dict(zip(COMBINATIONS, scores, strict=True)), 1)
    assert [each for *_, each in table.rows()][:-1] == pytest.approx(rates, abs=0.0101)
    assert table.rows()[-1][2] is None
    assert table.averages() == (pytest.approx(average, abs=0.01), pytest.approx(rate, abs=0.0101))


def test_the_files_hold_the_same_figures_of_all_samples_and_of_each_group(tmp_path):
    night = (4, {("rgb",): 0.0, ("ir",): 0.6, ("rgb", "ir"): 0.6})
    report(groups={"night": night}).save(tmp_path)
    content = json.loads((tmp_path / "robustness.json").read_text(encoding="utf-8"))
    assert content["combinations"][0] == {"available": ["rgb"], "missing": ["ir"], "accuracy": 0.4, "PCR": 50}
    assert content["average"] == {"accuracy": pytest.approx(17 / 30), "PCR": pytest.approx(43.75)}
    assert content["groups"]["night"]["images"] == 4
    assert content["groups"]["night"]["average"]["PCR"] == pytest.approx(50)
    with (tmp_path / "robustness.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["group"], row["available"]) for row in rows] == [
        (group, available) for group in ("", "night") for available in ("rgb", "ir", "rgb+ir", "average")
    ]
    assert [float(row["accuracy"]) for row in rows[4:]] == pytest.approx([0, 0.6, 0.6, 0.4])
    assert rows[2]["PCR"] == ""


def test_a_host_that_gets_nothing_right_has_no_collapse_rate(capsys):
    nothing = report((0, 0, 0))
    assert nothing.averages() == (0, None)
    nothing.show()
    assert " - " in capsys.readouterr().out


def test_the_table_shows_which_modalities_were_there_and_the_notes(capsys):
    report(notes=("mind the [gap]",)).show()
    shown = capsys.readouterr().out
    assert "43.75" in shown and "0.567" in shown and "mind the [gap]" in shown
    assert [line.count("●") for line in shown.splitlines() if "●" in line] == [1, 1, 2]


def test_scores_without_the_complete_combination_are_refused():
    with pytest.raises(ValueError, match="rgb, ir"):
        HostReport("mIoU", ("rgb", "ir"), {("rgb",): 1.0}, 1)
