"""Progress of a long loop: a bar in a terminal, otherwise a line now and then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from time import monotonic
from typing import Any, TypeVar

from rich import progress as bars
from rich.console import Console
from rich.text import Text

from mwam_det.files.terminal import tolerate_encodings

Item = TypeVar("Item")

INTERVAL = 30.0
"""Seconds between two lines without a terminal."""


class Progress:
    """Show the progress of loops, one after another.

    In a terminal that is a bar, from `with` until its end, and leaves no trace. A log or a pipe cannot show one: there
    a line is printed at the first step that ends `interval` seconds or more after the last line.

    Args:
        console: The console; standard output if left out.
        interval: Seconds of silence between two lines.
    """

    def __init__(self, console: Console | None = None, interval: float = INTERVAL):
        tolerate_encodings()
        self._console = console or Console()
        self._interval = interval
        self._last = monotonic()
        self._bar: bars.Progress | None = None
        if self._console.is_jupyter or (self._console.is_terminal and not self._console.is_dumb_terminal):
            columns = (
                bars.TextColumn("{task.description}"),
                bars.BarColumn(),
                bars.MofNCompleteColumn(),
                bars.TimeRemainingColumn(),
            )
            self._bar = bars.Progress(*columns, console=self._console, transient=True)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
            for task in self._bar.task_ids:
                self._bar.remove_task(task)

    def say(self, text: str | Text) -> None:
        """Print a line; without a terminal it is not broken at the width of one."""
        self._console.print(text, markup=False, soft_wrap=True)
        self._last = monotonic()

    def over(self, items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
        """Yield items and show progress.

        Args:
            items: The items.
            total: Their number.
            what: What one step is, such as "epoch 3/30, mini-batch".

        Yields:
            The items; each is done when the next is asked for.
        """
        start = monotonic()
        bar = self._bar
        task = None if bar is None else bar.add_task(what, total=total)
        for done, item in enumerate(items, 1):
            yield item
            if bar is not None and task is not None:
                bar.advance(task)
            elif (now := monotonic()) - self._last >= self._interval:
                each = (now - start) / done
                left = timedelta(seconds=round(each * (total - done)))
                self.say(f"{what} {done} of {total}: {each:.3g} s each, {left} left")
        if bar is not None and task is not None:
            bar.remove_task(task)
