import base64
import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from html_pages import Page
from reports import full_report, table
from tables import read_csv

from mwam_det.robustness.figures import bars, curves, degradation_curves, draw_figures
from mwam_det.robustness.files import html, latex, markdown
from mwam_det.robustness.report import RobustnessReport
from mwam_det.robustness.results import FILES, Boxes, CombinationResult, DegradationResult
from mwam_det.robustness.samples import HIT, MISS, judge, sample_sheet
from mwam_det.robustness.tables import degradation_table, markdown_text
from mwam_det.robustness.words import in_words

ODD = ("a<b>&c$x$", "50%_{d}#", "e|f~g^h\\i")
FIGURES = {"bars", "curves", "degradations", "samples"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A report with everything, and the folder that it was saved to."""
    folder, report = tmp_path_factory.mktemp("report"), full_report()
    report.save(folder)
    return report, folder


def picture(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_all_files_are_written_and_no_other(saved):
    _, folder = saved
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)


def test_the_files_for_machines_hold_everything(saved):
    report, folder = saved
    content = json.loads((folder / "robustness.json").read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(report.to_dict()))
    curve = content["precision_recall"]
    assert len(curve["recall"]) == 101
    assert [len(each["precision"]) for each in curve["precision"]] == [101] * 3
    rows = read_csv(folder / "robustness_classes.csv")
    assert [(row["available"], row["class"]) for row in rows[:2]] == [("rgb", "car"), ("rgb", "bus")]
    assert float(rows[-1]["mAP50"]) == report.full.classes[-1].metrics["mAP50"]
    rows = read_csv(folder / "robustness_degradations.csv")
    assert len(rows) == len(report.degradations)
    assert float(rows[7]["mAP50"]) == report.degradations[7].metrics["mAP50"]
    rows = read_csv(folder / "robustness.csv")
    assert [row["COCO mAP50"] for row in rows[:-1]] == [row["mAP50"] for row in rows[:-1]]


def test_a_report_without_figures_leaves_none_of_an_earlier_one(tmp_path):
    (tmp_path / "robustness_bars.png").touch()
    (tmp_path / "robustness_degradations.csv").touch()
    table(("rgb",), {("rgb",): 0.5}).save(tmp_path, plots=False)
    expected = {"robustness.json", "robustness.csv", "robustness.md", "robustness.tex", "report.html"}
    assert {file.name for file in tmp_path.iterdir()} == expected
    assert "<img" not in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["latex", "html"])
def test_a_report_that_dies_in_the_middle_leaves_the_earlier_one_and_is_made_whole_by_the_next(
    tmp_path, monkeypatch, moment
):
    table(("a", "b"), {("a",): 0.1, ("b",): 0.1, ("a", "b"): 0.2}).save(tmp_path, plots=False)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"mwam_det.robustness.files.{moment}", die)
        full_report().save(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
    full_report().save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == set(FILES)


def test_the_page_needs_nothing_from_outside(saved):
    text = (saved[1] / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.links) == 4 and all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "script" not in page.tags and "link" not in page.tags and not page.open
    assert "url(" not in text and "@import" not in text and "://" not in re.sub(r'src="data:[^"]*"', "", text)


@pytest.mark.parametrize("modalities", [("rgb",), ("rgb", "ir"), ("rgb", "ir", "depth")], ids=len)
def test_every_row_of_the_pages_tables_has_the_same_columns(modalities):
    page = Page(html(full_report(modalities)))
    assert len(page.tables) == 2 + len(modalities) + 2 + 1  # combinations, of a part, degradations, of classes, COCO
    assert all(len(set(rows)) == 1 for rows in page.tables)


def test_the_page_shows_the_figures_of_the_table_and_the_notes(saved):
    report, folder = saved
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    for result in report.results:
        assert f"{result.metrics['mAP50']:.3f}" in text
    assert f"{report.average_collapse_rate():.2f} %" in text
    assert report.notes[0] in text


def test_the_page_says_what_was_trained_by_what_and_when(saved):
    report, folder = saved
    text = Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert all(name in text and value in text for name, value in report.origin.trained.items())
    assert all(f"{name} {version}" in text for name, version in report.origin.versions.items())
    assert report.origin.date[:10] in text and in_words(report) in text
    document = (folder / "robustness.md").read_text(encoding="utf-8")
    assert "MWAM: on, incomplete: views=2" in document and markdown_text(in_words(report)) in document


def test_the_page_shows_mwam_over_the_training_where_there_is_a_picture_of_it(tmp_path):
    report = table(
        ("a", "b"), {("a",): 0.1, ("b",): 0.1, ("a", "b"): 0.2}, weights=str(tmp_path / "run/weights/best.pt")
    )
    report.save(tmp_path / "elsewhere")
    pages = [(tmp_path / "elsewhere/report.html").read_text(encoding="utf-8")]
    (tmp_path / "run/weights").mkdir(parents=True)
    (tmp_path / "run/mwam.png").write_bytes(b"of this run")
    for plots in (True, False):
        report.save(tmp_path / "elsewhere", plots=plots)
        pages.append((tmp_path / "elsewhere/report.html").read_text(encoding="utf-8"))
    encoded = base64.b64encode(b"of this run").decode()
    assert [encoded in page for page in pages] == [False, True, False]
    assert ["MWAM over the training" in page for page in pages] == [False, True, False]


@pytest.mark.slow
def test_odd_names_are_text_on_the_page():
    names = (*ODD, "<script>alert(1)</script>")
    report = full_report(ODD, names, images=1)
    text = html(report, draw_figures(report))
    page = Page(text)
    assert "script" not in page.tags and "b" not in page.tags
    assert all(name in page.text for name in names)


def columns_of(line):
    return sum(int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", line)) + len(re.split(r"(?<!\\)&", line))


@pytest.mark.parametrize("coco", [False, True], ids=["without COCO", "with COCO"])
@pytest.mark.parametrize("modalities", [("rgb",), ("rgb", "ir"), ODD], ids=["1", "2", "odd names"])
def test_the_latex_table_is_balanced(modalities, coco):
    text = latex(full_report(modalities, coco=coco))
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    assert [text.count(rf"\{kind}{{{name}}}") for name in ("table", "tabular") for kind in ("begin", "end")] == [1] * 4
    declared = len(re.search(r"\\begin\{tabular\}\{([cr]+)\}", text).group(1))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert declared == len(modalities) + (5 if coco else 3)
    assert {columns_of(row) for row in rows} == {declared}
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


def test_the_latex_table_says_what_table_12_says():
    lines = latex(table(("RGB", "IR"), {("RGB",): 0.215, ("IR",): 0.669, ("RGB", "IR"): 0.790})).splitlines()
    assert r"    $\bullet$ & $\circ$ & 0.215 & 0.107 & 72.78 \\" in lines
    assert r"    $\bullet$ & $\bullet$ & 0.790 & 0.395 & - \\" in lines
    assert r"    \multicolumn{2}{c}{Average} & 0.558 & 0.279 & 44.05 \\" in lines


def test_odd_names_are_text_in_latex():
    text = latex(full_report(ODD))
    assert r"a\textless{}b\textgreater{}\&c\$x\$ & 50\%\_\{d\}\# &" in text
    assert r"e\textbar{}f\textasciitilde{}g\textasciicircum{}h\textbackslash{}i" in text


def test_every_row_of_a_markdown_table_has_the_same_columns():
    lines = markdown(full_report(ODD, ("a|b", "_c_", "<i>"))).splitlines()
    tables = [block.splitlines() for block in "\n".join(lines).split("\n\n") if block.startswith("|")]
    assert len(tables) == 3 + len(ODD)
    for rows in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert any(line.startswith(r"| a\|b ") for line in lines) and any(line.startswith(r"| \_c\_ ") for line in lines)
    assert any(line.startswith("| &lt;i> ") for line in lines)


def test_a_rate_that_rounds_to_nothing_has_no_sign():
    assert "-0.00" not in markdown(table(("a", "b"), {("a",): 0.5000001, ("a", "b"): 0.5}))


def test_a_degradation_that_costs_more_than_the_absence_is_marked():
    report = full_report()
    absent = report.without("rgb").metrics["mAP50"]
    cells = [cell for row in degradation_table(report)["rgb"] for cell in row["cells"]]
    assert {cell["worse"] for cell in cells} == {True, False}
    assert all(cell["worse"] == (cell["value"] < absent) for cell in cells)
    assert Page(html(report)).text.count("▼") == 1 + sum(
        cell["worse"] for rows in degradation_table(report).values() for row in rows for cell in row["cells"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modalities", "classes"),
    [(("rgb",), 1), (("rgb", "ir"), 1), (("rgb", "ir", "depth"), 20), (ODD, 2)],
    ids=["1 modality", "2 modalities", "3 modalities", "odd names"],
)
def test_no_figure_is_blank(modalities, classes):
    names = [f"class {number}" for number in range(classes)]
    figures = draw_figures(full_report(modalities, names, images=2))
    assert set(figures) == FIGURES
    for name, png in figures.items():
        drawn = picture(png)
        assert min(drawn.shape[:2]) > 150 and drawn.std() > 10, name
        assert len(np.unique(drawn.astype(int) @ [1, 256, 65536])) > 50, name


def test_figures_without_content_are_not_drawn():
    assert set(draw_figures(table(("rgb",), {("rgb",): 0.0}))) == {"bars"}


def test_bars_of_both_metrics_fit_whichever_is_larger():
    for first, second in ((0.2, 0.85), (0.85, 0.2)):
        result = CombinationResult(("rgb",), {"mIoU": first, "pixel_acc": second})
        axis = bars(RobustnessReport(("rgb",), (result,), metrics=tuple(result.metrics))).axes[0]
        assert 0.85 < axis.get_xlim()[1] < 1.0


def test_every_combination_has_its_curve_and_its_name_in_the_legend():
    report = full_report(("rgb", "ir", "depth"))
    figure = curves(report)
    lines = figure.axes[0].get_lines()
    assert [list(line.get_ydata()) for line in lines] == [list(result.precision) for result in report.results]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 7
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[-1].startswith("rgb + ir + depth")


def test_a_row_of_the_sheet_shows_the_modalities_and_then_every_combination():
    report = full_report(images=2)
    axes = sample_sheet(report).axes
    assert [axis.get_title() for axis in axes[:5]] == ["rgb, labels", "ir, labels", "rgb", "ir", "rgb + ir"]
    assert len(axes) == 10


def test_predictions_are_drawn_on_the_visible_image_where_the_detector_had_it():
    report = replace(full_report(("ir", "rgb"), images=1), visible="rgb")
    sample = report.samples[0]
    sample.images.update(ir=np.full((96, 128, 3), 10, np.uint8), rgb=np.full((96, 128, 3), 20, np.uint8))
    grounds = [int(axis.images[0].get_array().flat[0]) for axis in sample_sheet(report).axes]
    assert grounds == [10, 20, 10, 20, 20]  # ir, rgb, then ir alone, rgb alone, both


def test_hits_misses_and_unsure_predictions_are_drawn_as_such():
    report = full_report(images=1)
    sample = report.samples[0]
    labels = sample.labels
    half = Boxes(labels.coordinates[:2], labels.classes[:2], np.array([0.9, 0.1]))
    sample.found[("rgb",)] = half
    axis = sample_sheet(report).axes[2]
    colours = [
        "#" + "".join(f"{round(255 * part):02X}" for part in patch.get_edgecolor()[:3]) for patch in axis.patches
    ]
    assert sorted(colours) == sorted([MISS] * 3 + [HIT])


def boxes(*corners, classes=None, scores=None):
    count = len(corners)
    return Boxes(
        np.array(corners, float).reshape(-1, 4),
        np.array(classes or [0] * count),
        np.array(scores or np.linspace(1, 0.5, count)),
    )


def test_the_surer_of_two_predictions_of_an_object_is_the_hit():
    hits, found = judge(boxes([0, 0, 10, 10]), boxes([0, 0, 10, 8], [0, 0, 10, 10], scores=[0.4, 0.6]))
    assert hits.tolist() == [False, True] and found.tolist() == [True]


def test_a_prediction_takes_the_next_best_object_that_is_left():
    labels = boxes([0, 0, 10, 10], [0, 0, 10, 13])
    hits, found = judge(labels, boxes([0, 0, 10, 10], [0, 0, 10, 10]))
    assert hits.all() and found.all()


@pytest.mark.parametrize(
    "found", [boxes([0, 0, 10, 10], classes=[1]), boxes([6, 0, 16, 10]), boxes()], ids=["class", "place", "nothing"]
)
def test_another_class_another_place_and_nothing_are_misses(found):
    hits, taken = judge(boxes([0, 0, 10, 10]), found)
    assert not hits.any() and not taken.any()


def test_no_line_of_the_degradation_curves_leaves_its_panel():
    report = full_report()
    better = [DegradationResult("ir", "noise", severity, {"mAP50": 0.99, "mAP50-95": 0.5}) for severity in range(1, 6)]
    figure = degradation_curves(replace(report, degradations=(*report.degradations, *better)))
    for axis in figure.axes:
        low, high = axis.get_ylim()
        assert all(low <= min(line.get_ydata()) and max(line.get_ydata()) < high for line in axis.get_lines())
