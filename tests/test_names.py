"""One name, one meaning: what is public has a name of its own, whatever room it lies in."""

import ast
from collections import defaultdict
from pathlib import Path

import mwam_det

ROOT = Path(mwam_det.__file__).parent
SHARED = {
    ("data/formats", "read"): "lists the pairs of a source, in the module of each format, see `Format.read`",
    ("cli", "add"): "declares a command, in the module of each",
    ("cli", "run"): "executes a command, in the module of each",
}
"""Names that the modules of a room share, with what they mean there."""


def test_no_two_public_classes_or_functions_share_a_name():
    places = defaultdict(list)
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                room = file.parent.relative_to(ROOT).as_posix()
                places[node.name].append(room if (room, node.name) in SHARED else str(file.relative_to(ROOT)))
    assert not {name: found for name, found in places.items() if len(set(found)) > 1}
