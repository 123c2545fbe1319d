import json
from pathlib import Path


def test_figures_of_a_clean_set_are_those_of_its_files(demo_section, demo_inspection):
    assert {name: (split.images, split.pairs) for name, split in demo_inspection.splits.items()} == {
        "train": (8, 8),
        "val": (4, 4),
    }
    lines = [line for f in Path(demo_section["path"]).glob("labels/train/*.txt") for line in f.read_text().splitlines()]
    names = demo_section["names"]
    counted = {name: sum(int(line.split()[0]) == number for line in lines) for number, name in names.items()}
    assert demo_inspection.splits["train"].boxes == counted
    assert demo_inspection.sampled == 12
    for figures in demo_inspection.modalities.values():
        assert figures.sizes == {"128×96": 12}
        assert all(kind.startswith("8 bit") for kind in figures.formats)
    assert demo_inspection.modalities["rgb"].coloured == 12
    assert demo_inspection.modalities["ir"].coloured == 0


def test_everything_fits_into_json(demo_inspection):
    content = json.loads(json.dumps(demo_inspection.to_dict(), allow_nan=False))
    assert content["splits"]["train"]["pairs"] == 8
    assert content["findings"] == list(demo_inspection.findings)
