"""Imports go one way: files, core → training | data | report → models → engine | adapters → recipe → compare → cli."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mwam_det

ROOT = Path(mwam_det.__file__).parent
MAY_IMPORT = {
    "files": {"files"},
    "locks": set(),
    "core": {"core"},
    "training": {"core", "training"},
    "checkpoints": set(),
    "report": {"core", "report"},
    "adapters": {"files", "locks", "core", "training", "report", "checkpoints", "adapters"},
    "data": {"files", "locks", "core", "data"},
    "models": {"core", "training", "models"},
    "engine": {"locks", "core", "training", "data", "models", "report", "engine"},
    "recipe": {"files", "core", "training", "data", "models", "engine"},
    "compare": {
        "files",
        "locks",
        "core",
        "training",
        "data",
        "models",
        "report",
        "engine",
        "adapters",
        "checkpoints",
        "recipe",
    },
    "cli": {"core", "data", "models", "report", "engine", "adapters", "checkpoints", "recipe", "compare"},
    "__init__": {"core", "data", "models", "report", "engine"},
}


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
    own = {name.split(".")[1] for name in names if name.startswith("mwam_det.")}
    assert own <= MAY_IMPORT[part], f"{part} must not import from {own - MAY_IMPORT[part]}"
    assert "relative import" not in names


@pytest.mark.parametrize("file", sorted(f for r in ("core", "training") for f in (ROOT / r).rglob("*.py")), ids=str)
def test_the_core_needs_torch_and_the_standard_library_alone(file):
    others = {name.split(".")[0] for name in imported(file)} - set(sys.stdlib_module_names)
    assert others <= {"torch", "mwam_det"}


@pytest.mark.parametrize("file", sorted((ROOT / "files").rglob("*.py")), ids=lambda file: file.name)
def test_what_reads_files_of_the_user_needs_yaml_pillow_and_the_standard_library_alone(file):
    others = {name.split(".")[0] for name in imported(file)} - set(sys.stdlib_module_names)
    assert others <= {"yaml", "PIL", "pi_heif", "mwam_det"}  # the last but one where it is installed


@pytest.mark.parametrize("file", sorted((ROOT / "adapters").rglob("*.py")), ids=lambda file: file.name)
def test_other_hosts_need_torch_its_kin_and_no_ultralytics(file):
    others = {name.split(".")[0] for name in imported(file)} - set(sys.stdlib_module_names)
    assert others <= {"torch", "torchvision", "torchmetrics", "cv2", "numpy", "rich", "mwam_det"}


def test_the_core_loads_without_ultralytics():
    code = "import sys; sys.modules['ultralytics'] = None; from mwam_det import MWAM, GradientModulator; MWAM(['a'])"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_other_hosts_load_without_ultralytics():
    code = "import sys; sys.modules['ultralytics'] = None; import mwam_det.adapters.experiment"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
