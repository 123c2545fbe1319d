import csv

from mwam_det.core.history import MWAMHistory
from mwam_det.core.mwam import Observation


def observation(value):
    per_modality = {"rgb": value, "ir": value + 1}
    return Observation(per_modality, per_modality, per_modality, per_modality)


def rows(file):
    with file.open(newline="") as stream:
        return [(int(r["epoch"]), int(r["iteration"]), float(r["bank_ir"])) for r in csv.DictReader(stream)]


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
