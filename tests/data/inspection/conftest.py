"""A set that may be spoiled, and the inspection of one that is not."""

import shutil

import pytest
from inspections import look_at

from mwam_det.data.inspection.figures import Inspection


@pytest.fixture
def section(demo_section, tmp_path) -> dict:
    """The data section of a copy of the demo set, which a test may spoil."""
    shutil.copytree(demo_section["path"], tmp_path / "set")
    return {**demo_section, "path": str(tmp_path / "set")}


@pytest.fixture(scope="session")
def demo_inspection(demo_section) -> Inspection:
    """The inspection of the demo set as it is."""
    return look_at(demo_section)
