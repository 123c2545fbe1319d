import json

import pytest
from reports import full_report, table
from tables import read_csv

from mwam_det import RobustnessReport
from mwam_det.robustness.results import CombinationResult

# Tables 3, 4 and 12 of the paper: metric A of each combination with its PCR as printed, the complete one last, and the
# averages of both as printed. Their rows are in the order of the marks of the tables: singles, pairs, all.
TWO = [("rgb",), ("second",), ("rgb", "second")]
THREE = [("rgb",), ("depth",), ("ir",), ("rgb", "depth"), ("rgb", "ir"), ("depth", "ir"), ("rgb", "depth", "ir")]
PUBLISHED = {
    "3 ESANet-MD": (TWO, [41.30, 38.79, 47.51], [13.07, 18.35], 42.53, 15.71),
    "3 MMANet": (TWO, [42.24, 39.93, 48.26], [12.47, 17.26], 43.47, 14.87),
    "3 ESANet-MD + MWAM": (TWO, [44.27, 40.34, 48.80], [9.28, 17.34], 44.47, 13.31),
    # Printed are 8.77 and 12.66, which do not follow from the printed MIoU of 45.88 and 49.90.
    "3 MMANet + MWAM": (TWO, [45.88, 41.64, 49.90], [8.06, 16.55], 45.81, 12.30),
    "4 SF-MD": (
        THREE,
        [83.92, 93.65, 89.60, 95.43, 93.26, 96.74, 97.39],
        [13.83, 3.84, 8.00, 2.01, 4.24, 0.67],
        92.85,
        5.43,
    ),
    "4 MMFormer": (
        THREE,
        [88.85, 95.33, 86.01, 98.07, 95.23, 96.90, 98.06],
        [9.39, 2.78, 12.29, -0.01, 2.89, 1.18],
        94.07,
        4.75,
    ),
    "4 CRMT-JT": (
        THREE,
        [90.13, 96.26, 89.75, 95.68, 91.81, 98.74, 98.68],
        [8.66, 2.45, 9.05, 3.04, 6.96, -0.06],
        94.44,
        5.02,
    ),
    "4 MMANet": (
        THREE,
        [91.43, 97.73, 89.96, 98.39, 96.99, 98.82, 99.13],
        [7.77, 1.41, 9.25, 0.75, 2.16, 0.31],
        96.06,
        3.61,
    ),
    "4 SF-MD + MWAM": (
        THREE,
        [92.13, 96.55, 93.76, 98.25, 96.62, 98.63, 98.93],
        [6.87, 2.41, 5.23, 0.69, 2.33, 0.30],
        96.41,
        2.97,
    ),
    "4 MMANet + MWAM": (
        THREE,
        [93.49, 98.31, 94.18, 98.64, 96.60, 99.27, 98.74],
        [5.32, 0.44, 4.62, 0.10, 2.17, -0.54],
        97.03,
        2.02,
    ),
    "12 T-yolov8n": (TWO, [0.215, 0.669, 0.790], [72.78, 15.32], 0.558, 44.05),
    "12 T-yolov8n + MWAM": (TWO, [0.628, 0.738, 0.804], [21.89, 8.21], 0.723, 15.05),
}


def report(rgb, ir, both, **values):
    return table(("rgb", "ir"), {("rgb",): rgb, ("ir",): ir, ("rgb", "ir"): both}, **values)


@pytest.mark.parametrize(("combinations", "scores", "rates", "average", "rate"), PUBLISHED.values(), ids=PUBLISHED)
def test_rates_and_averages_are_those_of_the_papers_tables(combinations, scores, rates, average, rate):
    published = table(combinations[-1], dict(zip(combinations, scores, strict=True)))
    found = [published.collapse_rate(result) for result in published.results]
    digit = 0.001 if scores[-1] < 1 else 0.01
    assert found[-1] is None
    assert found[:-1] == pytest.approx(rates, abs=0.0101)  # some are cut off after two digits, not rounded
    assert [each < 0 for each in found[:-1]] == [each < 0 for each in rates]
    assert published.average() == pytest.approx(average, abs=digit)
    assert published.average_collapse_rate() == pytest.approx(rate, abs=0.0101)


def test_the_complete_combination_has_no_collapse_rate_of_its_own():
    plain = report(0.4, 0.5, 0.8)
    assert [plain.collapse_rate(result) for result in plain.results] == [pytest.approx(50), pytest.approx(37.5), None]


def test_a_model_that_finds_nothing_has_no_collapse_rate_at_all(capsys):
    plain = report(0, 0, 0)
    assert plain.average_collapse_rate() is None
    plain.show()
    assert " - " in capsys.readouterr().out


def test_both_files_hold_the_same_figures(tmp_path):
    report(0.4, 0.5, 0.8).save(tmp_path, plots=False)
    content = json.loads((tmp_path / "robustness.json").read_text(encoding="utf-8"))
    assert content["combinations"][0] == {
        "available": ["rgb"],
        "missing": ["ir"],
        "mAP50": 0.4,
        "mAP50-95": 0.2,
        "PCR": pytest.approx(50),
        "coco": None,
    }
    assert content["average"]["PCR"] == pytest.approx(43.75)
    rows = read_csv(tmp_path / "robustness.csv")
    assert [row["available"] for row in rows] == ["rgb", "ir", "rgb+ir", "average"]
    assert [float(row["mAP50"]) for row in rows] == pytest.approx([0.4, 0.5, 0.8, 17 / 30])
    assert rows[2]["PCR"] == ""


def test_the_rate_of_a_degraded_modality_is_against_clean_complete_input():
    full = full_report()
    for degraded, row in zip(full.degradations, full.to_dict()["degradations"], strict=True):
        best = full.full.metrics["mAP50"]
        assert row["PCR"] == pytest.approx((best - degraded.metrics["mAP50"]) / best * 100)


def test_what_is_left_without_a_modality_is_the_combination_of_all_others():
    full = full_report(("rgb", "ir", "depth"))
    assert full.without("ir").available == ("rgb", "depth")
    assert full_report(("rgb",)).without("rgb") is None


def test_the_table_shows_which_modalities_were_there(capsys):
    report(0.4, 0.5, 0.8).show()
    shown = capsys.readouterr().out
    assert "43.75" in shown and "0.567" in shown
    rows = [line for line in shown.splitlines() if line.startswith("│")]
    assert [row.count("●") for row in rows if "●" in row] == [1, 1, 2]


def test_the_terminal_shows_notes_and_names_as_they_are(capsys):
    odd = table(("[b]",), {("[b]",): 0.5}, notes=("mind the [gap]",), split="[red]")
    odd.show()
    shown = capsys.readouterr().out
    assert "[b]" in shown and "mind the [gap]" in shown and "[red]" in shown


def test_results_without_the_complete_combination_are_refused():
    with pytest.raises(ValueError, match="rgb, ir"):
        RobustnessReport(("rgb", "ir"), (CombinationResult(("rgb",), {"mAP50": 1, "mAP50-95": 1}),))


# Parts of the split ---------------------------------------------------------------------------------------------------


def in_parts():
    """A report on a split of which all that is known are two parts."""
    return report(0.4, 0.5, 0.8, images=10, groups={"night <3": report(0.0, 0.6, 0.6, images=4)})


def test_parts_of_the_split_are_in_every_file(tmp_path):
    in_parts().save(tmp_path)
    content = json.loads((tmp_path / "robustness.json").read_text(encoding="utf-8"))
    assert content["groups"]["night <3"]["images"] == 4
    assert content["groups"]["night <3"]["average"]["PCR"] == pytest.approx(50)
    rows = read_csv(tmp_path / "robustness_groups.csv")
    assert [(row["group"], row["available"]) for row in rows] == [
        ("night <3", available) for available in ("rgb", "ir", "rgb+ir", "average")
    ]
    assert [float(row["mAP50"]) for row in rows] == pytest.approx([0, 0.6, 0.6, 0.4])
    assert [row["PCR"] for row in rows] == ["100.0", "0.0", "", "50.0"]
    assert "## night &lt;3, 4 images" in (tmp_path / "robustness.md").read_text(encoding="utf-8")
    assert "<h3>night &lt;3, 4 images</h3>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_parts_of_the_split_are_printed(capsys):
    in_parts().show()
    assert "night <3: 4 images" in " ".join(capsys.readouterr().out.split())


def test_one_metric_is_enough(tmp_path):
    results = [
        CombinationResult(available, {"accuracy": score}) for available, score in zip(TWO, (0, 1, 0), strict=True)
    ]
    only = RobustnessReport(TWO[-1], tuple(results), metrics=("accuracy",))
    only.save(tmp_path)
    assert only.average_collapse_rate() is None
    assert (tmp_path / "robustness.csv").read_text().splitlines()[-1].startswith("average,0.333")
    assert {file.name for file in tmp_path.iterdir()} == {
        "robustness.json", "robustness.csv", "robustness.md", "robustness.tex", "robustness_bars.png", "report.html"
    }  # fmt: skip
