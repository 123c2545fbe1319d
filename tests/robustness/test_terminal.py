import io
import subprocess
import sys

import pytest
from reports import full_report, table

from mwam_det.cli import main
from mwam_det.files.terminal import marks_in
from mwam_det.robustness.tables import degradation_table

SCORES = {("rgb",): 0.4, ("ir",): 0.5, ("rgb", "ir"): 0.8}


@pytest.mark.parametrize("encoding", ["ascii", "cp1251", "latin-1", "cp932"])
def test_a_report_is_printed_in_any_encoding_and_tells_what_was_there(monkeypatch, encoding):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding))
    table(("rgb", "ir"), SCORES, notes=["320×256 – 汉字"]).show()
    sys.stdout.flush()
    lines = printed.getvalue().decode(encoding).splitlines()
    (there, missing), of_both = marks_in(encoding), next(line for line in lines if "0.800" in line)
    of_one = next(line for line in lines if "0.400" in line)
    assert (of_both.count(there), of_both.count(f" {missing} ")) == (2, 0)
    assert (of_one.count(there), of_one.count(f" {missing} ")) == (1, 1)
    assert any("320" in line for line in lines)


def test_below_the_table_stand_the_legend_and_a_sentence(capsys):
    table(("rgb", "ir"), SCORES).show()
    shown = capsys.readouterr().out.split()
    assert "● present ○ missing. PCR: share of mAP50 that is lost, lower is better." in " ".join(shown)
    assert "Without ir this model finds 50 % of what it finds with both" in " ".join(shown)


def test_degradations_are_a_table_a_modality_with_a_mark_where_absence_would_be_better(capsys):
    report = full_report()
    report.show()
    shown = capsys.readouterr().out
    for modality, rows in degradation_table(report).items():
        assert (
            f"mAP50 with {modality} degraded (without it: {report.without(modality).metrics['mAP50']:.3f})"
            in " ".join(shown.split())
        )
        for row in rows:
            assert row["name"] in shown and all(f"{cell['value']:.3f}" in shown for cell in row["cells"])
    worse = sum(c["worse"] for rows in degradation_table(report).values() for row in rows for c in row["cells"])
    assert shown.count("▼") == worse + 1 > 1


def test_without_degradations_nothing_speaks_of_them(capsys):
    table(("rgb", "ir"), SCORES).show()
    assert "degraded" not in capsys.readouterr().out


def test_marks_are_circles_where_there_are_circles():
    assert marks_in("utf-8") == ("●", "○")
    assert marks_in("no such encoding") == ("x", ".")


@pytest.mark.parametrize("words", [["--help"], ["convert", "--help"]])
def test_the_help_is_printed_in_any_encoding(monkeypatch, words):
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="cp1251"))
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    sys.stdout.flush()
    assert b"mwam-det" in printed.getvalue()


def test_a_name_in_no_encoding_is_printed():
    code = "from mwam_det.files.terminal import tolerate_encodings; tolerate_encodings(); print('a\\udcffb')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "a?b\n"), done.stderr
