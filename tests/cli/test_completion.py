"""What a shell is offered at TAB."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def offered(folder, line):
    """Ask as bash does; return the words offered, and check that nothing slow was imported on the way."""
    pytest.importorskip("argcomplete", reason='argcomplete is not installed: pip install -e ".[test]"')
    code = (
        "import atexit, os, sys\n"
        "leave = os._exit\n"
        "os._exit = lambda status: leave(7 if {'torch', 'ultralytics'} & set(sys.modules) else status)\n"
        "from mwam_det.cli import main\n"
        "main()\n"
    )
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    environment = {**os.environ, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "offered")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [word.strip() for word in (folder / "offered").read_text().splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("rob", ["robustness"]),
        ("train night.yaml train.close", ["train.close_mosaic="]),
        ("train night.yaml mwam.al", ["mwam.alpha=", "mwam.align="]),
        ("train night.yaml train.imgsz=64 pre", ["pretrained="]),
        ("train ni", ["night.yaml"]),
        ("train mo", ["model="]),
        ("train model=yolo11n.yaml epo", ["epochs="]),
        ("train rooms.yaml train.sched", ["train.schedule="]),
        ("val best.pt night.yaml missi", ["missing="]),
        ("predict best.pt save_t", ["save_txt="]),
        ("export best.pt dyn", ["dynamic="]),
        ("inspect night.yaml sam", ["sample="]),
    ],
)
def test_commands_files_and_keys_are_completed(tmp_path, words, expected):
    (tmp_path / "night.yaml").write_text("task: detect\n")
    (tmp_path / "rooms.yaml").write_text("task: rgbd-segmentation\n")
    assert offered(tmp_path, f"mwam-det {words}") == expected


def test_without_argcomplete_a_shell_that_asks_is_told_nothing(tmp_path):
    code = "import sys; sys.modules['argcomplete'] = None; from mwam_det.cli import main; main(['--version'])"
    environment = {**os.environ, "_ARGCOMPLETE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith(b"mwam-det ")
