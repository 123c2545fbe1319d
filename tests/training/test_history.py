import pytest
from tables import read_csv

from mwam_det.core.mwam import Observation
from mwam_det.training.history import MWAMHistory, keep_epochs


def observation(value):
    per_modality = {"rgb": value, "ir": value + 1}
    return Observation(per_modality, per_modality, per_modality, per_modality)


def rows(file):
    return [(int(row["epoch"]), int(row["iteration"]), float(row["bank_ir"])) for row in read_csv(file)]


def test_rows_are_written_epoch_by_epoch_and_iterations_run_on(tmp_path):
    history = MWAMHistory(tmp_path / "mwam.csv", ["rgb", "ir"])
    for epoch in (1, 2):
        for _ in range(2):
            history.append(epoch, observation(epoch))
        history.flush()
    assert rows(history.file) == [(1, 1, 2), (1, 2, 2), (2, 3, 3), (2, 4, 3)]


def test_columns_name_quantity_and_modality(tmp_path):
    history = MWAMHistory(tmp_path / "mwam.csv", ["rgb", "ir"])
    history.flush()
    assert history.file.read_text().strip() == (
        "epoch,iteration,frm_rgb,frm_ir,bank_rgb,bank_ir,share_rgb,share_ir,weight_rgb,weight_ir"
    )


def test_an_epoch_that_is_run_again_leaves_no_rows_of_its_first_try(tmp_path):
    history = MWAMHistory(tmp_path / "mwam.csv", ["rgb", "ir"])
    history.append(1, observation(1))
    history.flush()
    history.append(2, observation(2))
    history.keep_epochs(1)
    history.append(2, observation(5))
    history.flush()
    assert rows(history.file) == [(1, 1, 2), (2, 2, 6)]


def test_a_resumed_run_continues_after_its_last_whole_epoch(tmp_path):
    first = MWAMHistory(tmp_path / "mwam.csv", ["rgb", "ir"])
    for epoch in (1, 2, 3):
        first.append(epoch, observation(epoch))
        first.flush()
    second = MWAMHistory(tmp_path / "mwam.csv", ["rgb", "ir"])
    second.keep_epochs(2)
    assert rows(second.file) == [(1, 1, 2), (2, 2, 3)], "the file is whole at once, and stays so"
    assert b"\r" not in second.file.read_bytes()
    second.append(3, observation(7))
    second.flush()
    assert rows(second.file) == [(1, 1, 2), (2, 2, 3), (3, 3, 8)]


def test_a_new_run_begins_the_file_anew(tmp_path):
    (tmp_path / "mwam.csv").write_text("old\n")
    history = MWAMHistory(tmp_path / "mwam.csv", ["rgb", "ir"])
    history.append(1, observation(1))
    history.flush()
    assert rows(history.file) == [(1, 1, 2)]


def test_resuming_without_the_file_begins_one(tmp_path):
    history = MWAMHistory(tmp_path / "mwam.csv", ["rgb", "ir"])
    history.keep_epochs(4)
    history.append(5, observation(1))
    history.flush()
    assert rows(history.file) == [(5, 1, 2)]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("epoch,x\n1,5\n2,6\n2,7\n3,8\n", [["1", "5"], ["2", "6"], ["2", "7"]]),
        ("epoch,x\n1,5\n2", [["1", "5"]]),
        ("epoch,x\n1,5\nnan,6\n", [["1", "5"]]),
        ("time,epoch\n9,1\n9,3\n", [["9", "1"]]),
        ("a,b\n1,2\n", []),
        ("", []),
    ],
    ids=["later", "half", "no number", "another column", "no epochs", "empty"],
)
def test_rows_beyond_a_checkpoint_and_broken_ones_are_dropped(tmp_path, text, rows):
    file = tmp_path / "results.csv"
    file.write_text(text)
    assert keep_epochs(file, 2)[1] == rows
    assert [line.split(",") for line in file.read_text().splitlines()[1:]] == rows
    assert [own.name for own in tmp_path.iterdir()] == ["results.csv"]


def test_a_record_that_is_whole_stays_as_it_is(tmp_path):
    file = tmp_path / "results.csv"
    file.write_bytes(b"epoch,x\r\n1,5\r\n")
    keep_epochs(file, 1)
    assert file.read_bytes() == b"epoch,x\r\n1,5\r\n"
    assert keep_epochs(tmp_path / "none.csv", 1) == ([], [])
