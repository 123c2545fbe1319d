"""Imports go one way, up the ladder below; a rung may use the ones before it."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mwam_det

ROOT = Path(mwam_det.__file__).parent
LADDER = [
    {"files"},
    {"core"},
    {"training", "recipe"},
    {"data", "models", "robustness", "keys"},
    {"engine", "hosts"},
    {"experiments"},
    {"study"},
    {"cli", "__init__"},
    {"__main__"},
]
"""Rooms and modules, the lowest first. Those on one rung do not use each other."""

RUNG = {part: rung for rung, parts in enumerate(LADDER) for part in parts}


def imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module if not node.level else "relative import"


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_only_from_below(file):
    part = file.relative_to(ROOT).parts[0].removesuffix(".py")
    names = list(imported(file))
    used = {name.split(".")[1] for name in names if name.startswith("mwam_det.")} - {part}
    above = {other for other in used if RUNG[other] >= RUNG[part]}
    assert not above, f"{part} must not import from {', '.join(sorted(above))}"
    assert "relative import" not in names


def test_no_files_import_each_other_in_a_circle():
    names = {".".join(["mwam_det", *file.relative_to(ROOT).with_suffix("").parts]): file for file in ROOT.rglob("*.py")}
    order = TopologicalSorter(
        {name: names.keys() & set(imported(file)) for name, file in names.items() if file.name != "__init__.py"}
    )
    assert set(order.static_order()) <= set(names)  # or CycleError, with the names


@pytest.mark.parametrize("file", sorted(f for r in ("core", "training") for f in (ROOT / r).rglob("*.py")), ids=str)
def test_the_core_needs_torch_and_the_standard_library_alone(file):
    others = {name.split(".")[0] for name in imported(file)} - set(sys.stdlib_module_names)
    extras = {"torchjd"} if file.name == "jacobian_descent.py" else set()
    assert others <= {"torch", "mwam_det", *extras}


@pytest.mark.parametrize("file", sorted((ROOT / "files").rglob("*.py")), ids=lambda file: file.name)
def test_what_handles_files_of_the_user_needs_no_more_than_yaml_pillow_and_filelock(file):
    others = {name.split(".")[0] for name in imported(file)} - set(sys.stdlib_module_names)
    assert others <= {"yaml", "PIL", "pi_heif", "filelock", "mwam_det"}  # pi_heif where it is installed


@pytest.mark.parametrize("file", sorted((ROOT / "hosts").rglob("*.py")), ids=lambda file: file.name)
def test_other_hosts_need_torch_its_kin_and_no_ultralytics(file):
    others = {name.split(".")[0] for name in imported(file)} - set(sys.stdlib_module_names)
    assert others <= {"torch", "torchvision", "torchmetrics", "cv2", "numpy", "rich", "mwam_det"}


@pytest.mark.slow
def test_the_core_loads_without_ultralytics_and_balancing_without_its_extra():
    code = (
        "import sys; sys.modules['ultralytics'] = sys.modules['torchjd'] = None; "
        "from mwam_det import MWAM, GradientModulator; MWAM(['a']); from mwam_det.core.balancing.methods import METHODS"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.slow
def test_other_hosts_load_without_ultralytics():
    code = "import sys; sys.modules['ultralytics'] = None; import mwam_det.hosts.experiment"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
