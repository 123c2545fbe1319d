"""Folders of runs."""

from pathlib import Path

import pytest

from mwam_det.files.runs import new_folder, runs_folder


def test_a_second_run_of_one_name_gets_a_folder_of_its_own(tmp_path):
    assert [new_folder(tmp_path, "run").name for _ in range(3)] == ["run", "run-2", "run-3"]


@pytest.mark.parametrize(
    ("project", "folder"),
    [(None, "runs"), ("", "runs"), ("night", "night"), (2024, "2024"), ("~/night", "home/night"), ("../up", "../up")],
)
def test_a_project_is_a_folder_in_the_working_directory_or_that_of_the_user(project, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert runs_folder(project) == Path(tmp_path / folder).resolve()
