"""List the pairs of a split: the images of the first modality, their folders and their partners."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mwam_det.data.errors import DatasetError
from mwam_det.data.modality import Modality
from mwam_det.data.naming import Naming
from mwam_det.data.pairing import find_partners, list_images, select_files
from mwam_det.data.splits import Group, choose_listed, groups_of, source_of

if TYPE_CHECKING:
    from mwam_det.data.paired_data import PairedData

Folders = dict[str, Path]
"""The folder of every modality, and of "labels", by name."""


def list_split(
    groups: Iterable[Group], modalities: Sequence[Modality], root: str | Path
) -> tuple[dict[str, Folders], list[str]]:
    """List the images of the first modality, with the folders of each.

    Args:
        groups: The groups of the split.
        modalities: The modalities.
        root: The dataset's folder.

    Returns:
        The folders by image, in order; and warnings of entries in lists that name no image.

    Raises:
        DatasetError: If a folder has no image of the first modality, or a list cannot be read or names no image at all.
    """
    found: dict[str, Folders] = {}
    warnings = []
    for group in groups:
        images = _images_of(group, modalities)
        if group.listed is not None:
            images, warning = _listed(group, group.listed, images, modalities[0], root)
            warnings += [warning] if warning else []
        found |= {file: folders for file, folders in images.items() if file not in found}
    return found, warnings


def check_splits(data: PairedData) -> None:
    """Raise DatasetError, as `list_split` does, unless the splits that training needs have images."""
    for split in ("train", "val"):
        list_split(groups_of(data.splits[split]), data.modalities, data.path)


def partners_in(
    folders_of: Mapping[str, Folders], modalities: Sequence[Modality]
) -> tuple[dict[str, dict[str, list[str]]], dict[str, Counter[str]]]:
    """Find the partners of images, as `find_partners` does in one folder.

    Args:
        folders_of: The folders by image of the first modality.
        modalities: The modalities.

    Returns:
        By image, the candidates of every modality; and by modality and folder, the number of files without an image.
    """
    by_folders: defaultdict[tuple[Path, ...], list[str]] = defaultdict(list)
    for file, folders in folders_of.items():
        by_folders[tuple(folders[modality.name] for modality in modalities)].append(file)
    found: dict[str, dict[str, list[str]]] = {}
    left_over: dict[str, Counter[str]] = {modality.name: Counter() for modality in modalities[1:]}
    for files in by_folders.values():
        folders = {modality.name: folders_of[files[0]][modality.name] for modality in modalities}
        partners, over = find_partners(files, folders, _namings(modalities))
        found |= partners
        for name, count in over.items():
            left_over[name][str(folders[name])] += count
    return {file: found[file] for file in folders_of}, left_over


def first_pair(groups: Iterable[Group], modalities: Sequence[Modality], root: str | Path) -> dict[str, str]:
    """Return the files, by modality, of the first image that has all partners; {} if none has.

    Arguments and errors are those of `list_split`.
    """
    found, _ = partners_in(list_split(groups, modalities, root)[0], modalities)
    for candidates in found.values():
        if all(len(candidates[modality.name]) == 1 for modality in modalities):
            return {name: files[0] for name, files in candidates.items()}
    return {}


def _images_of(group: Group, modalities: Sequence[Modality]) -> dict[str, Folders]:
    """List all images of the first modality in the folders of a group."""
    first = modalities[0].name
    found: dict[str, Folders] = {}
    for folders in ({name: Path(folder) for name, folder in texts.items()} for texts in group.folders):
        files = list_images(folders[first])
        if not files and group.listed is None:
            raise DatasetError(f"there is no image of {first} in {folders[first]}")
        of_modalities = {modality.name: folders[modality.name] for modality in modalities}
        found |= dict.fromkeys(select_files(first, files, of_modalities, _namings(modalities)), folders)
    return found


def _listed(
    group: Group, listed: Sequence[str], images: Mapping[str, Folders], first: Modality, root: str | Path
) -> tuple[dict[str, Folders], str | None]:
    """Select the listed images, and return a warning of entries that name none."""
    folder_of = {file: str(folders[first.name]) for file, folders in images.items()}
    try:
        chosen, unknown = choose_listed(listed, folder_of, first.naming, root)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    name = source_of([group], first.name)
    if not unknown and not chosen:
        raise DatasetError(f"{name} is empty: it must name images of {first.name}, one per line")
    if not unknown:
        return {file: images[file] for file in chosen}, None
    searched = ", ".join(dict.fromkeys(folders[first.name] for folders in group.folders))
    warning = (
        f"{len(unknown)} of {len(unknown) + len(chosen)} entries of {name} name no image, or several, of "
        f"{first.name} in {searched}, like '{unknown[0]}'"
    )
    if not chosen:
        raise DatasetError(warning + (f"; there is {next(iter(images))}" if images else ""))
    return {file: images[file] for file in chosen}, f"{warning}: left out"


def _namings(modalities: Sequence[Modality]) -> dict[str, Naming]:
    return {modality.name: modality.naming for modality in modalities}
