"""What a loop says of how far it is, with a terminal and without."""

import io

import pytest
from hosts import toy_trainer
from rich.console import Console

from mwam_det.hosts import progress as module
from mwam_det.hosts.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(module, "monotonic", lambda: Clock.now)
    return Clock


def go(progress, clock, seconds):
    with progress:
        for pause in progress.over(seconds, len(seconds), "epoch 1/3, mini-batch"):
            clock.now += pause


def test_without_a_terminal_a_line_is_printed_after_each_half_minute(clock):
    log = io.StringIO()
    go(Progress(Console(file=log)), clock, [12.0] * 6)
    assert log.getvalue().splitlines() == [
        "epoch 1/3, mini-batch 3 of 6: 12 s each, 0:00:36 left",
        "epoch 1/3, mini-batch 6 of 6: 12 s each, 0:00:00 left",
    ]


def test_a_quick_loop_prints_nothing_and_a_slow_step_its_own_line(clock):
    log = io.StringIO()
    go(Progress(Console(file=log)), clock, [0.1] * 100)
    assert log.getvalue() == ""
    go(Progress(Console(file=log)), clock, [300.0, 300.0])
    assert log.getvalue().count("300 s each") == 2


def test_what_is_said_meanwhile_ends_the_silence_too(clock):
    log = io.StringIO()
    progress = Progress(Console(file=log))
    for _ in progress.over(range(4), 4, "x"):
        clock.now += 20
        progress.say("epoch 1/3: loss 0.1")
    assert log.getvalue() == "epoch 1/3: loss 0.1\n" * 4


def test_lines_in_a_log_are_whole_and_written_at_once(clock):
    class Log(io.StringIO):
        flushed = ""

        def flush(self):
            self.flushed = self.getvalue()

    log, text = Log(), "epoch 1/3: " + "accuracy([rgb]+ir) 0.5, " * 20
    Progress(Console(file=log)).say(text)
    assert log.flushed == text + "\n"


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm-256color"})


def test_in_a_terminal_there_is_a_bar_and_no_lines(clock):
    console = terminal()
    go(Progress(console), clock, [40.0] * 3)
    shown = console.file.getvalue()
    assert "0/3" in shown and "s each" not in shown


def test_a_bar_that_is_interrupted_gives_the_terminal_back_and_can_begin_again(clock):
    console = terminal()
    progress = Progress(console)
    with pytest.raises(KeyboardInterrupt), progress:
        for _ in progress.over(range(3), 3, "x"):
            raise KeyboardInterrupt
    hides, shows = "\x1b[?25l", "\x1b[?25h"  # the cursor
    assert console.file.getvalue().count(hides) == console.file.getvalue().count(shows) == 1
    go(progress, clock, [1.0])
    assert console.file.getvalue().count(shows) == 2


def test_a_training_without_a_terminal_says_where_it_is(pictures, tmp_path, capsys):
    trainer = toy_trainer(pictures, tmp_path, epochs=2)
    trainer.progress = Progress(interval=0)
    trainer.train()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path}: 8 samples, 2 epochs of 2 mini-batches, on cpu with ")
    assert [line.partition(":")[0] for line in lines[1:7]] == [
        "epoch 1/2, mini-batch 1 of 2",
        "epoch 1/2, mini-batch 2 of 2",
        "evaluation, mini-batch 1 of 2",
        "evaluation, mini-batch 2 of 2",
        "epoch 1/2",
        "epoch 2/2, mini-batch 1 of 2",
    ]
    assert "accuracy(rgb+ir)" in lines[-1]
