import json
import math

import cv2
import numpy as np
import pytest
from html_pages import Page
from rich.console import Console
from scipy import stats
from tables import read_csv

from mwam_det.core.missing import modality_combinations
from mwam_det.robustness.report import RobustnessReport
from mwam_det.robustness.results import METRICS, CombinationResult
from mwam_det.study.comparison import Comparison, Estimate, Run
from mwam_det.study.figure import comparison_figure, comparison_picture
from mwam_det.study.files import save_comparison

ARMS = {"baseline": ["mwam=false"], "mwam": ["mwam=true"]}
BASELINE = {0: (0.010, 0.170, 0.310), 1: (0.020, 0.150, 0.290), 2: (0.000, 0.190, 0.330)}
MWAM = {0: (0.060, 0.180, 0.300), 1: (0.060, 0.190, 0.300), 2: (0.060, 0.200, 0.310)}


def report(rgb, ir, both):
    """Content of robustness.json with these mAP50."""
    rows = {("rgb",): rgb, ("ir",): ir, ("rgb", "ir"): both}
    results = [CombinationResult(names, {"mAP50": v, "mAP50-95": v / 2}) for names, v in rows.items()]
    return RobustnessReport(("rgb", "ir"), tuple(results)).to_dict()


def report_of_ir(value):
    result = CombinationResult(("ir",), {"mAP50": value, "mAP50-95": value / 2})
    return RobustnessReport(("ir",), (result,)).to_dict()


def runs(arm, values):
    return [Run(arm, seed, "done", report(*value)) for seed, value in values.items()]


def comparison(*more, arms=ARMS, baseline=BASELINE, mwam=MWAM, **options):
    every = (*runs("baseline", baseline), *runs("mwam", mwam), *more)
    return Comparison("night", ("rgb", "ir"), arms, every, **options)


def printed(renderable):
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


# Statistics ----------------------------------------------------------------------------------------------------------


def test_mean_and_standard_deviation_are_those_of_numpy():
    estimate = comparison().estimate("baseline", "ir")
    values = [value[1] for value in BASELINE.values()]
    assert estimate.mean == pytest.approx(np.mean(values))
    assert estimate.std == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("column", ["rgb", "ir", "rgb+ir", "average", "PCR"])
def test_the_interval_of_a_difference_is_that_of_the_paired_t_test_of_scipy(column):
    table = comparison()
    first, second = (list(table.estimate(arm, column).values.values()) for arm in ("mwam", "baseline"))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    difference = table.difference("mwam", column)
    assert difference.mean == pytest.approx(np.mean(np.subtract(first, second)))
    assert difference.interval() == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_the_distance_to_a_specialist_is_paired_by_seed_and_in_every_file(tmp_path):
    only = [Run("only-ir", seed, "done", report_of_ir(value)) for seed, value in {0: 0.2, 1: 0.1, 3: 0.9}.items()]
    table = comparison(*only, arms={**ARMS, "only-ir": []})
    assert (table.specialist("ir"), table.specialist("rgb"), table.specialist("rgb+ir")) == ("only-ir", None, None)
    pairs = table.to_specialist("mwam", "ir")
    assert pairs.values == {0: pytest.approx(-0.02), 1: pytest.approx(0.09)}
    assert table.to_specialist("only-ir", "ir") is None and table.to_specialist("mwam", "rgb") is None
    save_comparison(table, tmp_path)
    title = "mAP50, difference to the specialist of a modality, paired by seed [95 % interval]"
    assert title in (tmp_path / "compare.md").read_text() and "to the specialist of" in printed(table.table())
    entry = json.loads((tmp_path / "compare.json").read_text())["arms"][1]["metrics"]["mAP50"]["ir"]["to_specialist"]
    assert (entry["pairs"], entry["mean"]) == (2, pytest.approx(0.035))
    rows = {(row["arm"], row["metric"], row["input"]): row for row in read_csv(tmp_path / "compare.csv")}
    assert float(rows["mwam", "mAP50", "ir"]["to_specialist"]) == pytest.approx(0.035)
    assert rows["mwam", "mAP50", "rgb"]["to_specialist"] == ""


def test_without_specialists_no_table_speaks_of_them():
    assert "specialist" not in comparison().markdown()


def test_one_seed_has_no_deviation_and_no_interval():
    estimate = Estimate({0: 0.3})
    assert (estimate.mean, estimate.std, estimate.interval()) == (0.3, None, None)


def test_equal_differences_have_no_interval_of_width_zero():
    assert Estimate({0: 0.0, 1: 0.0, 2: 0.0}).interval() is None
    assert Estimate({0: 0.3 - 0.2, 1: 0.4 - 0.3, 2: 0.5 - 0.4}).interval() is None  # equal but for rounding


def test_a_difference_is_taken_of_the_seeds_that_both_arms_have():
    table = comparison(baseline={0: (0.1, 0.2, 0.3), 1: (0.1, 0.2, 0.4)}, mwam={1: (0.1, 0.2, 0.5), 2: (0.9, 0.9, 0.9)})
    assert table.difference("mwam", "rgb+ir").values == {1: pytest.approx(0.1)}


def test_arms_that_share_no_seed_have_no_difference():
    table = comparison(baseline={0: (0.1, 0.2, 0.3)}, mwam={1: (0.1, 0.2, 0.5)})
    assert table.difference("mwam", "rgb+ir") is None


# Columns -------------------------------------------------------------------------------------------------------------


def test_average_and_pcr_are_those_of_the_report_of_each_run():
    table = comparison()
    for seed, values in BASELINE.items():
        content = report(*values)["average"]
        assert table.estimate("baseline", "average").values[seed] == content["mAP50"]
        assert table.estimate("baseline", "PCR").values[seed] == content["PCR"]
        assert table.estimate("baseline", "average", "mAP50-95").values[seed] == content["mAP50-95"]


def test_a_run_whose_pcr_is_undefined_is_left_out_of_its_mean_alone():
    table = comparison(mwam={0: (0.0, 0.0, 0.0), 1: (0.1, 0.2, 0.4)})
    assert table.estimate("mwam", "PCR").values.keys() == {1}
    assert table.estimate("mwam", "rgb+ir").values.keys() == {0, 1}
    assert table.difference("mwam", "PCR").values.keys() == {1}


def test_the_tables_say_where_pcr_is_undefined_and_over_how_many_seeds_its_mean_is():
    table = comparison(mwam={0: (0.0, 0.0, 0.0), 1: (0.1, 0.2, 0.4), 2: (0.1, 0.2, 0.3)})
    for text in (table.markdown(), printed(table.table())):
        assert "With all modalities mwam seed 0 found nothing, so PCR is undefined there" in text
        assert text.count("(n = 2)") == 1
    narrow = Console(width=80, color_system=None)
    with narrow.capture() as capture:
        narrow.print(table.table())
    assert "(n = 2)" in capture.get()
    assert "undefined" not in comparison().markdown() and "(n = " not in comparison().markdown()


def test_a_uni_modal_arm_has_a_value_for_its_modality_alone():
    arms = {**ARMS, "only-ir": []}
    table = comparison(*(Run("only-ir", seed, "done", report_of_ir(0.25)) for seed in range(3)), arms=arms)
    columns = {column: table.estimate("only-ir", column) for column in table.columns()}
    assert columns.pop("ir").values == {0: 0.25, 1: 0.25, 2: 0.25}
    assert set(columns.values()) == {None}
    assert table.difference("only-ir", "ir").mean == pytest.approx(0.25 - 0.17)


def test_three_modalities_have_seven_combinations():
    columns = Comparison("night", ("a", "b", "c"), {"baseline": []}, ()).columns()
    assert columns == ["a", "b", "c", "a+b", "a+c", "b+c", "a+b+c", "average", "PCR"]


def test_one_modality_has_neither_average_nor_pcr():
    assert Comparison("night", ("ir",), {"baseline": []}, ()).columns() == ["ir"]


def test_an_arm_is_compared_with_the_first_one_or_the_one_that_it_names():
    arms = {"a": [], "b": [], "c": []}
    table = Comparison("night", ("rgb", "ir"), arms, (), against={"c": "b"})
    assert [table.reference(arm) for arm in arms] == [None, "a", "b"]


# Tables --------------------------------------------------------------------------------------------------------------


def test_json_holds_values_by_seed_means_and_intervals(tmp_path):
    table = comparison()
    save_comparison(table, tmp_path)
    content = json.loads((tmp_path / "compare.json").read_text())
    assert [arm["name"] for arm in content["arms"]] == ["baseline", "mwam"]
    entry = content["arms"][1]["metrics"]["mAP50"]["rgb"]
    low, high = table.difference("mwam", "rgb").interval()
    assert entry["values"] == {"0": 0.06, "1": 0.06, "2": 0.06}
    assert entry["difference"] == {"pairs": 3, "mean": pytest.approx(0.05), "low": low, "high": high}
    assert content["arms"][0]["metrics"]["mAP50"]["rgb"].keys() == {"values", "mean", "std"}


def test_csv_has_a_row_an_arm_metric_and_column(tmp_path):
    save_comparison(comparison(), tmp_path)
    rows = read_csv(tmp_path / "compare.csv")
    assert len(rows) == 2 * (5 + 4)
    (row,) = [r for r in rows if (r["arm"], r["metric"], r["input"]) == ("mwam", "mAP50", "rgb+ir")]
    assert float(row["mean"]) == pytest.approx(0.91 / 3)
    assert (row["seeds"], row["pairs"], row["against"]) == ("3", "3", "baseline")
    assert float(row["low"]) < float(row["difference"]) < float(row["high"])
    assert all(row[key] == "" for row in rows if row["arm"] == "baseline" for key in ("against", "pairs", "low"))


def test_markdown_marks_the_differences_that_chance_explains_badly(tmp_path):
    text = comparison().markdown()
    assert "| baseline | 0.010 ± 0.010 | 0.170 ± 0.020 | 0.310 ± 0.020 |" in text
    assert "| mwam | **+0.050 [+0.025, +0.075]** | +0.020 [−0.023, +0.063] |" in text
    assert "- mwam: `mwam=true`" in text


def test_with_one_seed_the_tables_show_no_spread_and_say_why():
    text = comparison(baseline={0: BASELINE[0]}, mwam={0: MWAM[0]}).markdown()
    assert "| mwam | +0.050 | +0.010 | −0.010 |" in text
    assert "±" not in text.replace("mean ± standard deviation", "")
    assert "One seed" in text
    assert "Student" not in text


def test_tables_tell_which_runs_failed_and_which_are_missing():
    arms = {**ARMS, "broken": []}
    failed, waiting = Run("broken", 0, "failed", error="ValueError: [too] much"), Run("broken", 1)
    table = comparison(failed, waiting, arms=arms)
    for text in (table.markdown(), printed(table.table())):
        assert "broken (0 of 2 seeds)" in text
        assert "Failed: broken, seed 0: ValueError: [too] much" in text
        assert "1 of 8 runs are not finished" in text


def test_arms_that_were_evaluated_on_other_images_are_told():
    more = {**report(0.1, 0.2, 0.3), "images": 40}
    arms = {**ARMS, "more": []}
    assert "different numbers" not in comparison().markdown()
    assert "baseline 0, mwam 0, more 40" in comparison(Run("more", 0, "done", more), arms=arms).markdown()


def test_the_terminal_shows_the_same_figures():
    text = printed(comparison().table())
    assert "0.310" in text and "± 0.020" in text
    assert "+0.050" in text and "[+0.025," in text and "+0.075]" in text


def test_progress_shows_every_run():
    arms = {**ARMS, "only-ir": []}
    more = [Run("only-ir", 0, "done", report_of_ir(0.25)), Run("only-ir", 1, "running"), Run("only-ir", 2, "failed")]
    lines = printed(comparison(*more, arms=arms).progress()).splitlines()
    (first,) = [line for line in lines if "baseline" in line]
    (last,) = [line for line in lines if "only-ir" in line]
    assert "0.310, 0.163" in first
    assert [word.strip() for word in last.split("│")[2:5]] == ["0.250", "running", "failed"]
    assert "7 of 9 runs done" in lines[0]


def test_progress_names_no_metric_before_there_is_one():
    waiting = Comparison("night", ("rgb", "ir"), {"baseline": []}, (Run("baseline", 0),))
    assert "mAP50" not in printed(waiting.progress()) and "mAP50 with all" in printed(comparison().progress())


# Page ----------------------------------------------------------------------------------------------------------------


def test_the_page_shows_every_table_the_figure_what_is_missing_and_how_it_was_made(tmp_path):
    versions = {"mwam_det": "1.2.3", "torch": "4.5"}
    failed, waiting = Run("<broken>", 0, "failed", error="ValueError: too much", versions=versions), Run("<broken>", 1)
    arms = {**ARMS, "<broken>": ["train.lr0=1"]}
    table = comparison(failed, waiting, arms=arms, command="mwam-det compare night.yaml --seeds 3")
    save_comparison(table, tmp_path)
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(content)
    assert not page.open and not {"script", "link", "broken"} & set(page.tags)
    assert len(page.links) == 1 and page.links[0].startswith("data:image/png;base64,")
    assert all(len(set(rows)) == 1 for rows in page.tables) and len(page.tables) == 2 * 2 + 2
    for metric in table.metrics:
        for title, _, rows in table.tables(metric):
            assert title in page.text
            assert all(cell.text in page.text and cell.more in page.text for row in rows for cell in row)
    assert "[+0.025, +0.075]" in page.text
    for said in ("Failed: <broken>, seed 0: ValueError: too much", "1 of 8 runs are not finished", "train.lr0=1"):
        assert said in page.text
    assert "mwam_det 1.2.3, torch 4.5" in page.text and "mwam-det compare night.yaml --seeds 3" in page.text


def test_on_the_page_the_differences_stand_out_that_chance_explains_badly(tmp_path):
    save_comparison(comparison(), tmp_path)
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<strong>+0.050</strong>" in content and "<strong>+0.020</strong>" not in content and "**" not in content


def test_before_a_run_is_done_the_page_says_how_far_the_runs_are(tmp_path):
    save_comparison(Comparison("night", ("rgb", "ir"), {"baseline": []}, (Run("baseline", 0, "running"),)), tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "0 of 1 runs done" in page.text and "running" in page.text and "img" not in page.tags


# Figure --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 12])
def test_the_figure_shows_every_arm(count):
    arms = {f"arm {place}": [] for place in range(count)}
    every = tuple(run for arm in arms for run in runs(arm, MWAM))
    drawn = comparison_picture(Comparison("night", ("rgb", "ir"), arms, every))
    picture = cv2.imdecode(np.frombuffer(drawn, np.uint8), cv2.IMREAD_COLOR)
    assert picture.std() > 5
    assert math.prod(picture.shape[:2]) > 500_000


def test_columns_that_do_not_fit_go_to_a_second_row_where_nothing_is_cut_off():
    modalities, arms = ("a", "b", "c"), {f"arm {place}": [] for place in range(8)}
    results = [CombinationResult(c, {m: 0.2 * len(c) for m in METRICS}) for c in modality_combinations(modalities)]
    content = RobustnessReport(modalities, tuple(results)).to_dict()
    every = tuple(Run(arm, seed, "done", content) for arm in arms for seed in range(2))
    figure = comparison_figure(Comparison("night", modalities, arms, every))
    assert [len(axis.get_xticks()) for axis in figure.axes] == [4, 4]
    assert all(axis.get_ylim()[0] == 0 and axis.get_ylim()[1] > 0.6 for axis in figure.axes)


def test_without_a_finished_run_there_is_no_figure(tmp_path):
    night = Comparison("night", ("rgb", "ir"), {"baseline": []}, (Run("baseline", 0),))
    files = save_comparison(night, tmp_path, "compare-x")
    assert [file.name for file in files] == ["compare-x.json", "compare-x.csv", "compare-x.md", "report-x.html"]
    assert not (tmp_path / "compare-x.png").exists()
