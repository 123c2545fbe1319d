"""Find the label files of pairs, their kind, and the names of classes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from ultralytics.data.utils import read_mask

from mwam_det.data.conversion.untrusted import read_lines
from mwam_det.data.drafting.pairs import WHOLE, Pairs
from mwam_det.data.drafting.survey import Survey
from mwam_det.data.drafting.words import is_label_word, modality_of, split_of
from mwam_det.data.inspection.sampling import evenly
from mwam_det.data.pairing import read_mode
from mwam_det.data.section import IGNORED, class_names
from mwam_det.data.splits import SPLIT
from mwam_det.files.yaml_text import read_yaml

CLASS_FILES = re.compile(r"(.*[_.-])?(classes|class_names|names|obj|labels|predefined_classes)\.(txt|names)", re.I)
"""Text files with one class name per line."""

DATA_FILES = (".yaml", ".yml")
READ = 5000
"""Maximum number of label files read, evenly spaced."""

TASK_OF = {"boxes": "detect", "rotated boxes": "obb", "outlines": "segment"}
"""The task by kind of label, the simplest first."""


@dataclass(frozen=True)
class Labels:
    """Label files of pairs.

    Attributes:
        kind: "boxes", "rotated boxes", "outlines", "class numbers" of pixels, or "folders" of images.
        task: Their task.
        template: Their folder, as that of a modality; None for folders of images.
        files: Number of files that belong to pairs.
        classes: Number of classes: the largest class number plus 1.
        names: Class names.
        named_by: The file with these names, or None if they are numbers.
        unused: Files that were to name the classes and could not, with the reason.
        problems: Faults of some of them, with an example each.
    """

    kind: str
    task: str
    template: str | None
    files: int
    classes: int
    names: Sequence[str] = ()
    named_by: str | None = None
    unused: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


def find_labels(found: Survey, pairs: Pairs) -> list[Labels]:
    """Find all sets of labels of pairs, the most suitable first.

    YOLO's text files come first, boxes before outlines, and of several sets those named like the first modality or like
    none; then images of class numbers, then folders with the same names in all modalities.
    """
    first = pairs.modalities[0].name
    sets = []
    for template, files in _templates(_texts(found), pairs).items():
        kind, classes, problems = _read_texts(found.root, files)
        if kind is not None:
            sets.append(Labels(kind, TASK_OF[kind], template, len(files), classes, problems=problems))
    if not sets:
        sets = list(_masks(found, pairs))
    tasks = [*TASK_OF.values(), "semantic"]
    sets.sort(key=lambda labels: (tasks.index(labels.task), _is_of_another(labels.template, first), -labels.files))
    if not sets and (folders := folders_of_classes(pairs)):
        sets = [Labels("folders", "classify", None, pairs.count, len(folders), folders)]
    return [_with_names(labels, found) for labels in sets]


def why_no_labels(found: Survey, pairs: Pairs) -> str:
    """Return why text files are not labels, for the end of a sentence; "" if there are none."""
    texts = found.with_suffix(".txt")
    for template, files in _templates(texts, pairs).items():
        where = f": there are text files of that name in {template}, but they"
        if not files[0].endswith(".txt"):
            return f"{where} end in {Path(files[0]).suffix}: rename them to .txt"
        problems = _read_texts(found.root, files)[2]
        return f"{where} {'; '.join(f'{text}, like {file}' for text, file in problems.items()) or 'are all empty'}"
    return f", and the first text file there is {texts[0]}" if texts else ""


def _texts(found: Survey) -> list[str]:
    """Return the possible label files of YOLO, whose suffix must be in lower case."""
    texts = [file for file in found.with_suffix(".txt") if file.endswith(".txt")]
    return [file for file in texts if not CLASS_FILES.fullmatch(file.rpartition("/")[2])]


def folders_of_classes(pairs: Pairs) -> list[str]:
    """Return the folders below each modality, those of classes, if they are the same in all splits and modalities."""
    sets = [
        {stem.split("/")[0] if "/" in stem else "" for stem in files}
        for modality in pairs.modalities
        for files in modality.files.values()
    ]
    names = sets[0]
    return sorted(names) if all(each == names for each in sets) and len(names) > 1 and "" not in names else []


def _is_of_another(template: str | None, first: str) -> bool:
    named = {word for part in (template or "").split("/") if (word := modality_of(part)) is not None}
    return bool(named) and first not in named


def _templates(files: Iterable[str], pairs: Pairs) -> dict[str, list[str]]:
    """Group label files by the folder below which they have the stems of pairs, or of their images."""
    known: dict[str, set[str]] = {}
    for split, keys in pairs.keys.items():
        known[split] = set(keys)
        for modality in pairs.modalities:
            paired = map(modality.shared(split).__getitem__, keys)
            stems = {file: stem for stem, file in modality.files[split].items()}
            known[split] |= {stems[file] for file in paired}
    found: defaultdict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for file in files:
        parts = PurePosixPath(file).with_suffix("").as_posix().split("/")
        for split, start, end, template in _splits_in(parts[:-1], known):
            upto = next((i for i in range(end, len(parts)) if "/".join(parts[i:]) in known[split]), None)
            if upto is not None:
                folders = [*parts[:start], *([template] if template else []), *parts[end:upto]]
                if folders and folders[-1] == SPLIT:
                    folders.pop()
                found["/".join(folders) or "."][split, "/".join(parts[upto:])] = file
                break
    return {template: list(by_stem.values()) for template, by_stem in found.items()}


def _splits_in(folders: Sequence[str], known: Collection[str]) -> Iterator[tuple[str, int, int, str]]:
    """Yield possible splits of folders: the split, the indices of its first folder and after its last, its template."""
    if WHOLE in known:
        yield WHOLE, 0, 0, ""
    if (named := split_of(folders)) is not None and named.word in known:
        yield named.word, named.position, named.position + 1, named.template
    for length in {split.count("/") + 1 for split in known}:
        for start in range(len(folders) - length + 1):
            if (split := "/".join(folders[start : start + length])) in known and split:
                yield split, start, start + length, SPLIT


def _read_texts(root: Path, files: Sequence[str]) -> tuple[str | None, int, dict[str, str]]:
    """Return kind (None if they are not labels), number of classes and problems of YOLO's text files."""
    columns: Counter[int] = Counter()
    problems: dict[str, str] = {}
    largest = -1
    for index in evenly(len(files), READ):
        file = files[index]
        try:
            rows = [line.split() for line in (root / file).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            numbers = [[float(value) for value in row] for row in rows]
        except (OSError, ValueError):
            problems.setdefault("cannot be read as numbers", file)
            continue
        for row in numbers:
            if len(row) < 5:
                problems.setdefault("have fewer than five columns", file)
            elif len(row) > 9 and _are_keypoints(row):
                problems.setdefault("hold keypoints: for the task pose, write a recipe with kpt_shape by hand", file)
            elif len(row) % 2 == 0:
                problems.setdefault(
                    f"have {len(row)} columns, while boxes have 5, rotated ones 9, and outlines a class and pairs of "
                    "numbers (6 are predictions with a confidence)",
                    file,
                )
            elif not all(-0.01 <= value <= 1.01 for value in row[1:]):
                problems.setdefault("have coordinates that are not fractions of the image", file)
            elif row[0] < 0 or row[0] != int(row[0]):
                problems.setdefault("have a class that is not an integer from 0", file)
            else:
                largest = max(largest, int(row[0]))
                columns[len(row)] += 1
    if largest < 0:
        return None, 0, problems
    (count, _), *others = columns.most_common()
    kind = "boxes" if count == 5 else "rotated boxes" if count == 9 and not others else "outlines"
    if kind == "boxes" and others:
        problems.setdefault("have outlines among boxes", files[0])
    return kind, largest + 1, problems


def _are_keypoints(row: Sequence[float]) -> bool:
    """Return whether a line holds a box and keypoints, at least one of them marked visible by a 2."""
    return (len(row) - 5) % 3 == 0 and 2 in row[7::3] and set(row[7::3]) <= {0, 1, 2}


def _masks(found: Survey, pairs: Pairs) -> Iterable[Labels]:
    """Yield the sets of images of class numbers."""
    images = [file for file in found.images if file.lower().endswith(".png")]
    images = [file for file in images if any(map(is_label_word, file.split("/")[:-1]))]
    for template, files in _templates(images, pairs).items():
        largest = -1
        for index in evenly(len(files), 50):
            file = found.root / files[index]
            try:
                values = np.unique(read_mask(str(file), read_mode(file)))
            except (OSError, ValueError, SyntaxError):
                continue
            if values.size and values.max() <= IGNORED:
                largest = max(largest, *values[values != IGNORED].tolist(), -1)
        if largest >= 0:
            yield Labels("class numbers", "semantic", template, len(files), largest + 1)


def _with_names(labels: Labels, found: Survey) -> Labels:
    """Add class names, from a file with enough of them, or numbered ones."""
    if labels.names:
        return labels
    files = [file for file in found.others if CLASS_FILES.fullmatch(file.rpartition("/")[2])]
    files += found.with_suffix(*DATA_FILES)
    unused: dict[str, str] = {}
    for file in sorted(files, key=lambda file: (file.count("/"), file)):
        try:
            names = _names_in(found.root / file)
        except (OSError, ValueError) as error:
            unused[file] = str(error)
            continue
        if len(names) >= labels.classes:
            return replace(labels, names=tuple(names), named_by=file, unused=unused)
        if names:
            unused[file] = f"only {len(names)} for {labels.classes} classes"
    return replace(labels, names=tuple(f"class_{number}" for number in range(labels.classes)), unused=unused)


def _names_in(file: Path) -> list[str]:
    """Read class names from a file, in the order of their numbers; [] if it has none.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it cannot be read as text, or its names do not fit the key `names` of a recipe.
    """
    names: Any
    if file.suffix.lower() in DATA_FILES:
        names = _yaml_names(file)
    else:
        names = [line.strip() for line in read_lines(file) if line.strip()]
        if "\0" in "".join(names):
            raise ValueError("they are not UTF-8 text")
    if not names:
        return []
    if isinstance(names, Mapping):
        names = {int(key) if isinstance(key, str) and key.isdecimal() else key: name for key, name in names.items()}
    values = list(names.values()) if isinstance(names, Mapping) else names
    if isinstance(values, list) and None in values:
        raise ValueError("names: YAML reads null, ~ and an empty text as no name, so quote it")
    names = list(class_names(names).values())
    numbered = [re.fullmatch(rf"{number}\s*[:,;]?\s+(.+)", name) for number, name in enumerate(names)]
    return list(class_names([match[1] for match in numbered if match]).values()) if all(numbered) else names


def _yaml_names(file: Path) -> Any:
    """Return the value of the key `names` in a YAML file; None if there is none."""
    try:
        content = read_yaml(file)
    except ValueError:
        if b"names" in file.read_bytes().replace(b"\0", b""):  # UTF-16 has zeros between letters
            raise
        return None  # a file about something else, such as OpenCV's calibration
    return content.get("names") if isinstance(content, Mapping) else None
