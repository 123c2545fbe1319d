"""What all tests share: no network, no traces outside temporary folders, small paired datasets."""

import atexit
import logging
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

# Read by Ultralytics when it is imported: no look for updates, no installing, settings of its own.
# Scans of datasets go to the cache folder, which is read when the package is imported, here and in subprocesses; what
# torch compiles goes to one of its own.
os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false")
for variable in ("YOLO_CONFIG_DIR", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR"):
    os.environ[variable] = folder = tempfile.mkdtemp(prefix="mwam_det_tests_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

# Several processes run tests side by side; threads of all of them on every core would wait for each other.
processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // processes, 1)))

import pytest

pytest.register_assert_rewrite("training")  # its checks are to tell the values

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Fail a test that looks up a host: nothing here may download."""

    def refuse(host, *args, **kwargs):
        if host in (None, "localhost", "127.0.0.1", socket.gethostname()):
            return lookup(host, *args, **kwargs)
        attempts.append(host)
        raise socket.gaierror(f"a test looked for the host {host}")

    attempts, lookup = [], socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not attempts, f"the code under test tried to reach {attempts}"


@pytest.fixture(scope="session", autouse=True)
def pairs_inspected_once():
    """Inspect the same files, read in the same way, once: most trainings here are of the same pairs."""
    trainer = sys.modules.get("mwam_det.engine.trainer")
    if trainer is None:  # no test of this session trains
        yield
        return
    from mwam_det.data.inspection.looking import files_of

    look, found = trainer.look_before_training, {}

    def look_once(datasets, imgsz, views=True):
        names = [modality.name for modality in datasets[0].modalities]
        files = [file for name in names for file in files_of(datasets, name)]
        states = [(file, os.stat(file).st_mtime_ns, os.stat(file).st_size) for file in files]
        key = repr((states, datasets[0].modalities, imgsz, views))
        if key not in found:
            found[key] = look(datasets, imgsz, views)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "look_before_training", look_once)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pairs, which are not part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real pairs are not beside this checkout (research use only, never copied into the repository)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def demo_section(tmp_path_factory) -> dict:
    """The data section of a generated set: 8 pairs for training, 4 for validation."""
    from mwam_det.data.synthetic import CLASS_NAMES, write_demo

    folder = write_demo(tmp_path_factory.mktemp("demo") / "set", train=8, val=4, size=(96, 128))
    return {
        "path": str(folder),
        "modalities": {"rgb": "visible", "ir": "infrared"},
        "labels": "labels",
        "train": "train",
        "val": "val",
        "names": dict(CLASS_NAMES),
    }


@pytest.fixture
def log():
    """What Ultralytics' logger says, as (level, text)."""
    from ultralytics.utils import LOGGER

    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append((record.levelname, record.getMessage()))
    LOGGER.addHandler(handler)
    yield said
    LOGGER.removeHandler(handler)
