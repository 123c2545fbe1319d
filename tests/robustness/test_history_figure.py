import cv2
import numpy as np
import pytest

from mwam_det.core.mwam import Observation
from mwam_det.robustness.history import draw_history, history_figure, running_mean
from mwam_det.training.history import MWAMHistory


def history_of(tmp_path, steps, **quantities):
    """A history of so many mini-batches, in which "ir" goes its way and "rgb" stays."""
    history = MWAMHistory(tmp_path / "mwam.csv", ["rgb", "ir"])
    for step in range(steps):
        values = {"rgb": 1.0, "ir": 1.0 + step % 4}
        own = {name: quantities.get(name, values) for name in ("frm", "bank", "share", "weight")}
        history.append(1, Observation(**own))
    history.flush()
    return history.file


def test_the_history_of_a_run_becomes_a_picture(tmp_path):
    draw_history(history_of(tmp_path, 5), tmp_path / "mwam.png")
    picture = cv2.imread(str(tmp_path / "mwam.png"))
    assert picture is not None and picture.std() > 5


def test_an_empty_history_draws_nothing(tmp_path):
    draw_history(history_of(tmp_path, 0), tmp_path / "mwam.png")
    assert not (tmp_path / "mwam.png").exists()


def test_a_panel_shows_every_mini_batch_lightly_and_their_mean_before_it(tmp_path):
    figure = history_figure(history_of(tmp_path, 200))
    raw, mean = figure.axes[0].get_lines()[2:]  # of ir
    assert raw.get_alpha() < 0.5 and mean.get_alpha() is None and mean.get_linewidth() > raw.get_linewidth()
    assert list(raw.get_ydata()[:5]) == [1, 2, 3, 4, 1]
    assert np.ptp(mean.get_ydata()[10:-10]) < 1 < np.ptp(raw.get_ydata())


def test_the_words_on_it_need_no_paper_beside_it(tmp_path):
    figure = history_figure(history_of(tmp_path, 200))
    shown = [text for axis in figure.axes for text in (axis.get_title(), axis.get_ylabel(), axis.get_xlabel())]
    assert all(shown) and not any("Eq." in text for text in shown)
    assert [legend for axis in figure.axes if (legend := axis.get_legend())] == []
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "rgb",
        "ir",
        "mean of 10 mini-batches",
        "each mini-batch",
    ]


def test_what_was_never_measured_has_no_panel(tmp_path):
    nothing = {"rgb": float("nan"), "ir": float("nan")}
    figure = history_figure(history_of(tmp_path, 5, frm=nothing, bank=nothing))
    assert [axis.get_title()[:5] for axis in figure.axes] == ["Share", "Weigh"]


@pytest.mark.parametrize("window", [1, 2, 3, 5, 9])
def test_a_mean_is_over_its_window_and_over_what_is_there_at_the_ends(window):
    values = np.random.default_rng(0).uniform(size=7)
    values[3] = np.nan
    before = (window - 1) // 2
    for place, mean in enumerate(running_mean(values, window)):
        own = values[max(place - before, 0) : place - before + window]
        assert mean == pytest.approx(np.nanmean(own)) if np.isfinite(own).any() else np.isnan(mean)
