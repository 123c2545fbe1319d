"""One version, wherever it is stated."""

import re
from pathlib import Path

import pytest
import yaml

import mwam_det

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("file", "pattern"), [("pyproject.toml", r'^version = "(.+)"$'), ("CHANGELOG.md", r"^## \[(.+?)\] - ")]
)
def test_the_version_is_that_of_the_package(file, pattern):
    stated = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert stated and stated[1] == mwam_det.__version__


def test_the_citation_names_the_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == mwam_det.__version__
    assert [paper["url"] for paper in citation["references"]] == ["https://arxiv.org/abs/2602.22644"]
