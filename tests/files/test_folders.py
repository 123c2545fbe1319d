import os

import pytest

from mwam_det.files.folders import list_files


def touch(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")


def listed(folder):
    return [os.path.relpath(file, folder) for file in list_files(folder)]


def test_files_of_all_folders_come_in_order_without_hidden_ones(tmp_path):
    for name in ("b.jpg", "a/2.jpg", "a/1.jpg", "a/c/3", ".hidden.jpg", ".trash/4.jpg"):
        touch(tmp_path / name)
    assert listed(tmp_path) == ["a/1.jpg", "a/2.jpg", "a/c/3", "b.jpg"]
    assert list_files(tmp_path) == sorted(list_files(tmp_path))


def test_the_folder_may_be_the_working_directory_or_missing(tmp_path, monkeypatch):
    touch(tmp_path / "a/1.jpg")
    monkeypatch.chdir(tmp_path)
    assert list_files(".") == ["a/1.jpg"]
    assert list_files("none") == []


@pytest.mark.parametrize("links", [{"l1": ".", "l2": "."}, {"a/up": "..", "a/on": "../b", "b/on": "../a"}, {"l": "l"}])
def test_links_that_lead_round_in_a_circle_end_and_each_file_is_there_once(tmp_path, links):
    for name in ("0.jpg", "a/1.jpg", "b/2.jpg"):
        touch(tmp_path / name)
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    assert [name for name in listed(tmp_path) if name != "l"] == ["0.jpg", "a/1.jpg", "b/2.jpg"]


def test_a_folder_that_cannot_be_listed_is_left_out_with_a_warning(tmp_path, monkeypatch):
    for name in ("a/1.jpg", "b/2.jpg", "lost+found/3.jpg"):
        touch(tmp_path / name)
    scan = os.scandir

    def refuse(folder):
        if os.path.basename(folder) in ("b", "lost+found"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match=r"b cannot be listed, so its files are left out \(.*Permission") as warnings:
        assert listed(tmp_path) == [os.path.join("a", "1.jpg")]
    assert not any("lost+found" in str(each.message) for each in warnings)


def test_links_that_multiply_end(tmp_path):
    for level in range(40):
        (tmp_path / f"d{level}").mkdir()
        for name in "xy":
            (tmp_path / f"d{level}" / name).symlink_to(f"../d{level + 1}")
    touch(tmp_path / "d40" / "1.jpg")
    assert listed(tmp_path / "d0") == ["/".join([*"x" * 40, "1.jpg"])]


def test_a_folder_that_is_reached_without_a_link_goes_by_that_name(tmp_path):
    touch(tmp_path / "set/z/1.jpg")
    touch(tmp_path / "store/2.jpg")
    (tmp_path / "set/a").symlink_to("z")
    (tmp_path / "set/c").symlink_to(tmp_path / "store")
    (tmp_path / "set/b").symlink_to(tmp_path / "store")
    assert listed(tmp_path / "set") == ["b/2.jpg", "z/1.jpg"]


def test_pipes_are_no_files_and_links_to_files_are_kept_even_where_these_are_gone(tmp_path):
    touch(tmp_path / "1.jpg")
    os.mkfifo(tmp_path / "2.jpg")
    (tmp_path / "3.jpg").symlink_to("2.jpg")
    (tmp_path / "4.jpg").symlink_to("1.jpg")
    (tmp_path / "5.jpg").symlink_to("gone.jpg")
    (tmp_path / "6.jpg").symlink_to("/dev/zero")
    assert listed(tmp_path) == ["1.jpg", "4.jpg", "5.jpg"]
