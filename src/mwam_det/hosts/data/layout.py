"""The data section of a recipe for other hosts: which files are the samples of a split.

Keys:
    format: "folders", "list" or "videos", see below.
    path: Root folder; "~" is the home folder.
    modalities: By name, in order, where a modality's files are.
    train, val, test: Where a split is; test may be left out.
    names: The classes: a list, or a mapping from their numbers 0, 1, …
    labels: For segmentation, the folder of the labels.
    channels: By modality, 1 or 3; 3 if left out.
    range: By modality, the values that become 0 and 255, or "percentile" or "minmax" of each image, for files of more
        than 8 bits; null for files of 8 bits.
    filter: Which frequencies of a modality are kept, {ir: {low: 16}} or {ir: {high: 16}}: those inside the n×n window
        in the middle of the shifted 2-D FFT of the file's image, or those outside of it; false for all.
    groups: By name, a pattern of file names such as "day_*" of the first modality: the report covers each group too.

"folders": `modalities` names folders, to which "/" and the split are appended, or which hold "{split}" where it
belongs. For classification there is a folder for each class in it (and `names` may be left out: the classes are those
folders of the training split, sorted). For segmentation the files lie in it, as those of NYUv2 in ESANet's layout do,
and `labels` names the folder of the labels in the same way: grey pictures with 0 for void and 1 + class. Files of one
sample have the same name without suffix.

"list", for classification: a split is a text file such as CASIA-SURF's, a sample a line: files relative to `path`, and
behind them the number of the class, separated by white space. `modalities` names columns, counted from 0.

"videos", for classification: a split is a text file such as UCF-101's, a sample a line: the class, "/", and the name
of a video, whose suffix and what follows it are ignored. `modalities` names folders that hold a folder of frames for
each video, or for each class and in it for each video; or lists of such folders, which are channels of one modality,
like the two directions of optical flow: {rgb: frames, flow: [flow/u, flow/v]}. Training takes a frame at random, at the
same time of the video in every modality, evaluation the one in the middle. Neither a mirror image nor a rotation turns
the direction of flow: train with flip=0 and degrees=0. `names` may be left out: the classes are those of the training
list, sorted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mwam_det.core.config import refuse_unknown_keys
from mwam_det.data.conversion.untrusted import read_lines
from mwam_det.data.filtering import read_filters
from mwam_det.data.levels import read_range
from mwam_det.data.names import check_modality_names
from mwam_det.files.paths import expanded
from mwam_det.hosts.data.samples import HostModality, HostSample, pictures_in

FORMATS = ("folders", "list", "videos")
SPLITS = ("train", "val", "test")
SECTION_KEYS = ("format", "path", "modalities", *SPLITS, "names", "labels", "channels", "range", "filter", "groups")
MOST_PARTS = 4
"""Largest number of folders that make one modality."""

SHOWN = 3
"""Number of files that are named where there are more of a kind."""


@dataclass(frozen=True)
class HostData:
    """A dataset, looked up.

    Attributes:
        modalities: The modalities in order.
        classes: Names of the classes.
        splits: The samples of each split, sorted by name, or as the list has them.
        groups: A pattern of file names of the first modality by group.
        notes: Sentences on what was left out.
    """

    modalities: tuple[HostModality, ...]
    classes: tuple[str, ...]
    splits: dict[str, list[HostSample]]
    groups: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def group_of(self, sample: HostSample) -> list[str]:
        """Return the groups that a sample belongs to."""
        files = sample.files[self.modalities[0].name]
        name = (files if isinstance(files, Path) else files[0]).name
        return [group for group, pattern in self.groups.items() if fnmatch(name, pattern)]


def check_section(section: Any, segmentation: bool) -> None:
    """Check keys, types and choices of a data section; folders are not looked at.

    Raises:
        ValueError: If one is wrong; the message names key, value and choices.
    """
    if not isinstance(section, Mapping):
        raise ValueError(f"{section!r} must map keys to values: {', '.join(SECTION_KEYS)}")
    refuse_unknown_keys(section, SECTION_KEYS)
    needed = ["path", "modalities", "train", "val"]
    needed += ["names", "labels"] if segmentation else ["names"] if section.get("format") == "list" else []
    if lacking := [key for key in needed if section.get(key) is None]:
        raise ValueError(f"the section lacks {' and '.join(repr(key) for key in lacking)}")
    format_ = section.get("format", "folders")
    choices = FORMATS[:1] if segmentation else FORMATS
    if format_ not in choices:
        raise ValueError(f"format={format_!r} must be {' or '.join(choices)}")
    for key in ("path", *SPLITS, "labels"):
        if not isinstance(value := section.get(key, ""), str):
            raise ValueError(f"{key}={value!r} must be a path")
    _check_modalities(section, format_)
    classes = _class_names(section.get("names", []))
    if format_ == "folders" and not segmentation:
        for name in classes:
            if name == ".." or name != Path(name).name or "\0" in name:
                raise ValueError(f"names: the class {name!r} is the name of a folder, which cannot be called so")
    groups = section.get("groups", {})
    if not isinstance(groups, Mapping) or not all(isinstance(pattern, str) for pattern in groups.values()):
        raise ValueError(f"groups={groups!r} must map names to patterns of file names, like {{day: 'day_*'}}")


def _check_modalities(section: Mapping[str, Any], format_: str) -> None:
    modalities, kind = section["modalities"], int if format_ == "list" else str
    channels = section.get("channels", {})
    fits = isinstance(modalities, Mapping) and len(modalities) > 0
    places = modalities.values() if fits else ()
    if format_ == "videos":
        for name, place in modalities.items() if fits else ():
            if isinstance(place, list) and not 2 <= len(place) <= MOST_PARTS:
                raise ValueError(f"modalities={{{name}: {place!r}}} must be one folder, or a list of 2 to {MOST_PARTS}")
            if isinstance(place, list) and isinstance(channels, Mapping) and name in channels:
                raise ValueError(f"channels={{{name}: …}}: {name} has a channel for each of its {len(place)} folders")
        places = [part for place in places for part in _parts(place)]
    if not fits or not all(type(place) is kind and (isinstance(place, str) or place >= 0) for place in places):
        what = "columns, like {rgb: 0, depth: 1}" if kind is int else "folders, like {rgb: visible, ir: infrared}"
        raise ValueError(f"modalities={modalities!r} must map names to {what}")
    check_modality_names(modalities)
    for key in ("channels", "range"):
        if not isinstance(section.get(key, {}), Mapping):
            raise ValueError(f"{key}={section[key]!r} must map modalities to values")
        refuse_unknown_keys(section.get(key, {}), modalities)
    for name, number in channels.items():
        if number not in (1, 3):
            raise ValueError(f"channels={{{name}: {number!r}}} must be 1 or 3")
    for name, value in section.get("range", {}).items():
        if value is not None:  # as if left out
            read_range(name, value)
    read_filters(section.get("filter"), modalities)


def _class_names(names: Any) -> tuple[str, ...]:
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise ValueError(f"names={names!r} must number the classes 0, 1, …")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, Sequence) or isinstance(names, str) or len({str(name) for name in names}) != len(names):
        raise ValueError(f"names={names!r} must be a list of different classes, or a mapping from their numbers")
    return tuple(map(str, names))


def find_samples(section: Mapping[str, Any], segmentation: bool) -> HostData:
    """Look up the samples of every split.

    Args:
        section: The data section.
        segmentation: Whether targets are pictures of labels, else classes.

    Raises:
        ValueError: As `check_section`, and if a folder, a file or every sample of a split is missing.
    """
    check_section(section, segmentation)
    root = expanded(section["path"])
    if not os.path.isdir(root):  # unlike Path.is_dir, not an error where the name is too long
        raise ValueError(f"data.path={section['path']} is not a folder")
    ranges = {name: read_range(name, value) for name, value in section.get("range", {}).items() if value is not None}
    filters = read_filters(section.get("filter"), section["modalities"])
    modalities = tuple(
        HostModality(name, channels_of(section, name), ranges.get(name), filters.get(name))
        for name in section["modalities"]
    )
    classes = _class_names(section.get("names", []))
    splits = {split: section[split] for split in SPLITS if section.get(split)}
    notes: list[str] = []
    if section.get("format", "folders") == "list":
        found = {split: _from_list(root, name, section["modalities"], classes) for split, name in splits.items()}
    elif section.get("format") == "videos":
        videos = {split: _videos(root, name) for split, name in splits.items()}
        classes = classes or tuple(sorted({name for name, _ in videos["train"]}))
        found = {s: _from_videos(root, section["modalities"], videos[s], classes, s, notes) for s in splits}
    else:
        folders = {
            split: {m: _folder(root, place, name) for m, place in section["modalities"].items()}
            for split, name in splits.items()
        }
        if segmentation:
            labels = {split: _folder(root, section["labels"], name) for split, name in splits.items()}
            found = {split: _with_labels(folders[split], labels[split], split, notes) for split in splits}
        else:
            classes = classes or _folders_in(next(iter(folders["train"].values())))
            found = {split: _by_class(folders[split], classes, split, notes) for split in splits}
    for split, samples in found.items():
        if not samples:
            raise ValueError(f"data.{split}={splits[split]} has no sample with every modality, in {root}")
    return HostData(modalities, classes, found, dict(section.get("groups", {})), tuple(notes))


def channels_of(section: Mapping[str, Any], modality: str) -> int:
    """Return how many channels a modality of a data section has."""
    place = section["modalities"][modality]
    return len(place) if isinstance(place, list) else section.get("channels", {}).get(modality, 3)


def _parts(place: str | list[str]) -> list[str]:
    """Return the folders of a modality of videos."""
    return place if isinstance(place, list) else [place]


def _frames(folder: Path, class_name: str, video: str) -> Path:
    """Return where the frames of a video are, or would be: in a folder of its class, or beside all others."""
    by_class = folder / class_name / video
    return by_class if by_class.is_dir() else folder / video


def _folder(root: Path, place: str, split: str) -> Path:
    folder = root / (place.replace("{split}", split) if "{split}" in place else f"{place}/{split}")
    if not os.path.isdir(folder):
        raise ValueError(f"the folder {folder} is missing")
    return folder


def _folders_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted; hidden ones are skipped.

    Raises:
        ValueError: If there are fewer than two.
    """
    names = tuple(sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")))
    if len(names) < 2:
        raise ValueError(f"{folder} must hold a folder for each class, two at least: there are {list(names)}")
    return names


def _pictures(folder: Path) -> dict[str, Path]:
    """Return the pictures in a folder by name without suffix; hidden ones are skipped.

    Raises:
        ValueError: If two have the same.
    """
    pictures: dict[str, Path] = {}
    for file in pictures_in(folder) if folder.is_dir() else []:
        if pictures.setdefault(file.stem, file) != file:
            raise ValueError(f"{pictures[file.stem]} and {file.name} have the same name: which one is meant?")
    return pictures


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _complete(by_place: Mapping[str, dict[str, Path]], where: str, notes: list[str]) -> list[str]:
    """Return the names that every place has, sorted, and note those that are left out."""
    names = set.union(*map(set, by_place.values()))
    common = set.intersection(*map(set, by_place.values()))
    for place, files in by_place.items():
        if lacking := sorted(names - set(files)):
            notes.append(f"{where}: {len(lacking)} left out that {place} lacks ({_some(lacking)})")
    return sorted(common)


def _by_class(folders: Mapping[str, Path], classes: Sequence[str], split: str, notes: list[str]) -> list[HostSample]:
    for folder in folders.values():
        if unknown := sorted(set(_folders_in(folder)) - set(classes)):
            raise ValueError(f"{folder} has folders of unknown classes {unknown}: the classes are {list(classes)}")
    samples = []
    for number, name in enumerate(classes):
        files = {modality: _pictures(folder / name) for modality, folder in folders.items()}
        samples += [
            HostSample({modality: pictures[stem] for modality, pictures in files.items()}, number)
            for stem in _complete(files, f"{split}/{name}", notes)
        ]
    return samples


def _with_labels(folders: Mapping[str, Path], labels: Path, split: str, notes: list[str]) -> list[HostSample]:
    files = {**{modality: _pictures(folder) for modality, folder in folders.items()}, "labels": _pictures(labels)}
    return [
        HostSample({modality: files[modality][stem] for modality in folders}, files["labels"][stem])
        for stem in _complete(files, split, notes)
    ]


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a list that are not empty, each after the words that say where it is.

    Raises:
        ValueError: If the list is missing, or is not UTF-8; the message names it.
    """
    if not file.is_file():
        raise ValueError(f"the list {file} is missing")
    for number, line in enumerate(read_lines(file), 1):
        if line.strip():
            yield f"{file}, line {number}", line


def _from_list(root: Path, name: str, columns: Mapping[str, int], classes: Sequence[str]) -> list[HostSample]:
    samples = []
    for where, line in _lines(root / name):
        words = line.split()
        if len(words) < max(columns.values()) + 2:
            raise ValueError(
                f"{where}: '{line}' has {len(words)} words, but the modalities are in columns "
                f"{list(columns.values())} and the class comes last; a list without classes cannot be used"
            )
        if not words[-1].isdecimal() or int(words[-1]) >= len(classes):
            raise ValueError(f"{where}: '{words[-1]}' is not a class: names has 0 to {len(classes) - 1}")
        files = {modality: root / words[column].replace("\\", "/") for modality, column in columns.items()}
        for path in files.values():
            if not path.is_file():
                raise ValueError(f"{where}: {path} is not a file")
        samples.append(HostSample(files, int(words[-1])))
    return samples


def _videos(root: Path, name: str) -> list[tuple[str, str]]:
    """Read class and name of every video of a list."""
    videos = []
    for where, line in _lines(root / name):
        parts = line.split()[0].replace("\\", "/").split("/")
        if len(parts) != 2 or not all(parts) or {".", ".."} & set(parts):
            raise ValueError(f"{where}: '{line}' must be like Archery/v_Archery_g08_c01.avi")
        videos.append((parts[0], Path(parts[1]).stem))
    return videos


def _from_videos(
    root: Path,
    places: Mapping[str, str | list[str]],
    videos: Sequence[tuple[str, str]],
    classes: Sequence[str],
    split: str,
    notes: list[str],
) -> list[HostSample]:
    samples, lacking = [], []
    for class_name, video in videos:
        if class_name not in classes:
            raise ValueError(f"{split}: the class {class_name} of {video} is not one of {list(classes)}")
        files = {
            modality: tuple(_frames(root / part, class_name, video) for part in _parts(place))
            for modality, place in places.items()
        }
        if all(folder.is_dir() for folders in files.values() for folder in folders):
            samples.append(HostSample(files, classes.index(class_name)))
        else:
            lacking.append(video)
    if lacking:
        notes.append(f"{split}: {len(lacking)} videos left out that lack frames of a modality ({_some(lacking)})")
    return samples
