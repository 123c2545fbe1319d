"""Files that are there whole or not at all."""

import json

import pytest

from mwam_det.files.writing import write_json, written_whole


def test_a_file_is_replaced_when_all_of_it_is_written(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("old")
    (tmp_path / ".a.csv.unfinished").write_text("of a process that died")
    with written_whole(file) as place, place.open("a") as stream:
        stream.write("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_an_error_the_file_is_as_it_was_and_nothing_lies_beside_it(tmp_path, error):
    file = tmp_path / "a.csv"
    file.write_text("old")
    with pytest.raises(error), written_whole(file) as place:
        place.write_text("half")
        raise error
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_a_name_in_no_encoding_is_an_escape_of_json(tmp_path):
    write_json(tmp_path / "a.json", {"file": "caf\udce9.png"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"file": "caf\udce9.png"}
