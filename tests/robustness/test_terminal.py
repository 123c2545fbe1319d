import io
import subprocess
import sys

import pytest
from reports import table

from mwam_det.cli.main import main
from mwam_det.files.terminal import marks_in

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
