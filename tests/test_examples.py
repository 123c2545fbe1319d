"""The notebooks run from top to bottom, with settings so small that each takes a moment."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
TINY = {
    "demo": "pairs, epochs, imgsz = 8, 1, 64",
    "own_folders": "pairs, epochs, imgsz = 12, 1, 64",
    "torchvision_model": "samples, epochs, size = 32, 1, 32",
}
"""What stands in the cell of each notebook that is tagged as its parameters."""


def cells(notebook, kind="code"):
    """The cells of a kind: their tags and their source."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    return [
        (cell["metadata"].get("tags", []), "".join(cell["source"]))
        for cell in content["cells"]
        if cell["cell_type"] == kind
    ]


def test_there_is_one_setting_for_each_notebook():
    assert [notebook.stem for notebook in NOTEBOOKS] == sorted(TINY)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_plain_python_with_one_cell_of_parameters_and_without_outputs(notebook):
    tagged = [source for tags, source in cells(notebook) if "parameters" in tags]
    assert len(tagged) == 1
    names = [target.id for target in ast.parse(tagged[0]).body[0].targets[0].elts]
    assert names == [target.id for target in ast.parse(TINY[notebook.stem]).body[0].targets[0].elts]
    assert cells(notebook, "markdown")[0][1].startswith("# ")
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in content["cells"])


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(notebook, tmp_path):
    sources = [TINY[notebook.stem] if "parameters" in tags else source for tags, source in cells(notebook)]
    (tmp_path / "script.py").write_text("\n\n".join(sources), encoding="utf-8")
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
