"""How often a training step makes the host wait for its device, beyond what Ultralytics does itself."""

import traceback
from collections import Counter
from pathlib import Path

import pytest
import torch
from labels import labelled_batch
from torch.utils._python_dispatch import TorchDispatchMode
from training import SHORT

import mwam_det
from mwam_det import MWAMTrainer

PACKAGE = str(Path(mwam_det.__file__).parent)
WAITING = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "unique_dim"}
"""Operators that cannot return before the device has come as far as their input, whatever the device."""

STEPS = {
    "off": {"mwam": False},
    "views 1": {"mwam": False, "incomplete": {"views": 1}},
    "views 2": {"mwam": False, "incomplete": {"views": 2}},
    "views all": {"mwam": False, "incomplete": True},
    "checkpoint": {"mwam": False, "incomplete": {"views": 2, "checkpoint": True}},
    "distill": {"mwam": False, "incomplete": {"views": 2, "distill": 0.5}},
    "MWAM": {"mwam": {"mode": "gradient"}, "incomplete": {"views": 2}},
    "MWAM's draws": {"mwam": {"mode": "gradient"}, "incomplete": {"views": 2, "weights": "mwam"}},
}

OF_MWAM = {
    "MWAM": {"frequency.py": 2},  # patches that may be flat are looked up by their places, once a modality
    "MWAM's draws": {"frequency.py": 2, "run.py": 2},  # and a weight is read for each
}
"""By step, which files of this package wait, and how often. Beside that, MWAM reads its measurement once, as a list."""


class Waits(TorchDispatchMode):
    """Count such operators by the file of this package that calls them directly."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in WAITING:
            callers = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
            last = callers[-2]  # the last one is this method
            if last.filename.startswith(PACKAGE):
                self.found[Path(last.filename).name] += 1
        return function(*args, **(kwargs or {}))


def at_start(section, folder, **arguments):
    trainer = MWAMTrainer(overrides={**SHORT, "data": section, "project": str(folder), **arguments})
    trainer._setup_train()
    trainer.epoch = 0
    trainer._model_train()
    return trainer


def step(trainer, batch):
    loss, _ = trainer.model(trainer.preprocess_batch(dict(batch)))
    trainer.scaler.scale(loss.sum()).backward()
    trainer.optimizer_step()


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_a_step_waits_for_the_device_only_where_mwam_looks_up_patches(demo_section, tmp_path, name):
    trainer = at_start(demo_section, tmp_path, **STEPS[name])
    batch = labelled_batch("detect", 6)
    batch["img"] = (batch["img"] * 255).byte()
    step(trainer, batch)
    with Waits() as waits:
        step(trainer, batch)
    assert waits.found == OF_MWAM.get(name, {})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: there torch itself finds what waits")
@pytest.mark.parametrize("name", ["views 1", "views 2", "views all", "distill"])
def test_views_add_no_wait_on_a_gpu(demo_section, tmp_path, name):
    def waits(arguments):
        trainer = at_start(demo_section, tmp_path, **{**arguments, "device": 0, "amp": False})
        batch = labelled_batch("detect", 6)
        batch["img"] = (batch["img"] * 255).byte()
        step(trainer, batch)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with pytest.warns(UserWarning) as caught:
                step(trainer, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return Counter(own.filename for own in caught if own.filename.startswith(PACKAGE))

    assert waits(STEPS[name]) == waits(STEPS["off"])
