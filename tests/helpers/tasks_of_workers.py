"""What processes of a grid do in tests: modules, so that a spawned process finds them."""

import os
import signal
import time
from pathlib import Path


def note(place):
    """Write down where a task runs, or end as its name says."""
    print(f"{place.task} prints")
    folder = place.log.parent
    (folder / f"{place.task}.begun").touch()
    if place.task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if place.task == "exits":
        raise SystemExit(3)
    if place.task.startswith("meets"):  # both are there at a time, or this never ends
        while len(list(folder.glob("meets*.begun"))) < 2:
            time.sleep(0.01)
    if place.task == "waits":
        try:
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            (folder / "interrupted").touch()
            raise
    Path(folder, f"{place.task}.device").write_text(f"{place.device} {place.threads}")


def die(place):
    """End as a process does that says why by its exit status alone."""
    raise SystemExit(7)
