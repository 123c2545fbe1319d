"""What a recipe without data says of a published dataset."""

from pathlib import Path

import pytest

from mwam_det.cli import main
from mwam_det.data.formats import FORMATS
from mwam_det.data.published import PUBLICATIONS, how_to_get
from mwam_det.experiments import load

ROOT = Path(__file__).parents[2]


def test_every_format_but_that_of_ones_own_pairs_is_published_somewhere():
    assert PUBLICATIONS.keys() == FORMATS.keys() - {"coco"}


@pytest.mark.parametrize("name", PUBLICATIONS)
def test_the_page_of_datasets_says_where_each_is_published(name):
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert f"| `{name}` | <{PUBLICATIONS[name].home}> |" in page


@pytest.mark.parametrize("name", PUBLICATIONS)
def test_the_recipe_of_a_format_keeps_its_data_in_a_folder_of_that_name(name):
    path = load(ROOT / "cfg" / FORMATS[name].recipe).recipe.data["path"]
    assert f"mwam-det convert {name} SRC {path}" in how_to_get(path)


@pytest.mark.parametrize("command", ["train", "inspect"])
def test_a_published_dataset_that_is_not_there_is_told_from_a_wrong_path(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    recipe = str(ROOT / "cfg" / "detect" / "llvip.yaml")
    assert main([command, recipe]) == 2
    said = capsys.readouterr().err
    assert "datasets/LLVIP is not a folder" in said and "https://bupt-ai-cz.github.io/LLVIP/" in said
    assert "mwam-det convert llvip SRC datasets/LLVIP" in said
    assert main([command, recipe, "data.path=elsewhere/my_pairs"]) == 2
    said = capsys.readouterr().err
    assert "elsewhere/my_pairs is not a folder" in said and "convert" not in said
