import cv2

from mwam_det.core.mwam import Observation
from mwam_det.robustness.history import draw_history
from mwam_det.training.history import MWAMHistory


def test_the_history_of_a_run_becomes_a_picture(tmp_path):
    history = MWAMHistory(tmp_path / "mwam.csv", ["rgb", "ir"])
    for step in range(5):
        values = {"rgb": 1.0 + step, "ir": 2.0}
        history.append(1, Observation(values, values, values, values))
    history.flush()
    draw_history(history.file, tmp_path / "mwam.png")
    picture = cv2.imread(str(tmp_path / "mwam.png"))
    assert picture is not None and picture.std() > 5


def test_an_empty_history_draws_nothing(tmp_path):
    history = MWAMHistory(tmp_path / "mwam.csv", ["rgb"])
    history.flush()
    draw_history(history.file, tmp_path / "mwam.png")
    assert not (tmp_path / "mwam.png").exists()
