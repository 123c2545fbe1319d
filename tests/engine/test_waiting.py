"""How often a training step makes the host wait for its device, beyond what Ultralytics does itself."""

import traceback
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from training import at_start, batch_of_bytes, step

import mwam_det

PACKAGE = str(Path(mwam_det.__file__).parent)
WAITING = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "unique_dim"}
"""Operators that cannot return before the device has come as far as their input, whatever the device."""

ON_THE_CPU = {
    ("incomplete.py", "draw_views"),
    ("incomplete.py", "combinations"),
    ("incomplete.py", "mix"),
    ("views.py", "_begin"),
    ("mwam.py", "_allocate"),
}
"""Functions that read lists of what is on the CPU anyway: the plan of the views, and MWAM's shares and weights."""

OF_MWAM = {"frequency.py": 2, "mwam.py": 1}
"""The places of patches that need double precision, looked up in each modality, and the measurement, one list."""

STEPS = {
    "off": ({"mwam": False}, {}),
    "views 1": ({"mwam": False, "incomplete": {"views": 1}}, {}),
    "views 2": ({"mwam": False, "incomplete": {"views": 2}}, {}),
    "views all": ({"mwam": False, "incomplete": True}, {}),
    "views all, input": ({"mwam": False, "incomplete": {"level": "input"}}, {}),
    "checkpoint": ({"mwam": False, "incomplete": {"views": 2, "checkpoint": True}}, {}),
    "distill": ({"mwam": False, "incomplete": {"views": 2, "distill": 0.5}}, {}),
    **{
        f"MWAM {mode}, views {views}": ({"mwam": {"mode": mode}, "incomplete": {"views": views}}, OF_MWAM)
        for mode, views in (("gradient", 2), ("gradient", "all"), ("update", 2), ("loss", 2), ("hybrid", "all"))
    },
    "MWAM's draws": ({"mwam": {"mode": "gradient"}, "incomplete": {"views": 2, "weights": "mwam"}}, OF_MWAM),
    "MWAM's weights of views": ({"mwam": {"mode": "update"}, "incomplete": {"weights": "mwam"}}, OF_MWAM),
    **{
        f"{method}{', views all' if views else ''}": (
            {"mwam": False, "balancing": {"method": method, **settings}, "incomplete": views},
            waits,
        )
        for method, settings, waits, both in (
            ("ogm_ge", {}, {"evidence.py": 1}, True),
            ("agm", {}, {"evidence.py": 1}, True),
            ("mslr", {}, {}, True),
            ("mses", {"patience": 0}, {}, True),
            ("mmpareto", {}, {"mmpareto.py": 1}, False),
            ("torchjd", {"aggregator": "Mean"}, {"jacobian_descent.py": 1}, True),
        )
        for views in ((False, True) if both else (False,))
    },
}
"""By step, its arguments, and which files of this package wait in it, and how often."""


class Waits(TorchDispatchMode):
    """Count such operators, lists read and values sent by the file of this package that calls them directly."""

    def __init__(self):
        super().__init__()
        self.found = Counter()
        self._calls = Calls(self)

    def __enter__(self):
        self._calls.__enter__()
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self._calls.__exit__(*exception)

    def note(self):
        frames = traceback.extract_stack()
        ours = [frame for frame in frames if "/torch/" not in frame.filename and frame.filename != __file__]
        last = [frame for frame in ours if not frame.name.startswith("<")][-1]  # no comprehensions
        name = Path(last.filename).name
        if last.filename.startswith(PACKAGE) and (name, last.name) not in ON_THE_CPU:
            self.found[name] += 1

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in WAITING:
            self.note()
        return function(*args, **(kwargs or {}))


class Calls(TorchFunctionMode):
    """Notice what no operator shows on a CPU: a list read from a tensor, and a new tensor sent to a device."""

    def __init__(self, waits):
        super().__init__()
        self._waits = waits

    def __torch_function__(self, function, types, args=(), kwargs=None):
        sent = function in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor) and (
            "device" in (kwargs or {}) or function is torch.Tensor.new_tensor
        )
        if sent or function in (torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy):
            self._waits.note()
        return function(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.filterwarnings("ignore:balancing.patience")
def test_a_step_waits_for_the_device_only_where_something_is_read_from_it(demo_section, tmp_path, name):
    arguments, expected = STEPS[name]
    if "torchjd" in name:
        pytest.importorskip("torchjd", reason="TorchJD is an extra: pip install '.[balancing]'")
    trainer = at_start(demo_section, tmp_path, **arguments)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # its scale is on the device too
    batch = batch_of_bytes()
    step(trainer, batch)
    with Waits() as waits:
        step(trainer, batch)
    assert waits.found == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: there torch itself finds what waits")
@pytest.mark.parametrize("name", ["views 1", "views 2", "views all", "distill"])
def test_views_add_no_wait_on_a_gpu(demo_section, tmp_path, name):
    def waits(arguments):
        trainer = at_start(demo_section, tmp_path, **{**arguments, "device": 0, "amp": False})
        batch = batch_of_bytes()
        step(trainer, batch)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with pytest.warns(UserWarning) as caught:
                step(trainer, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return Counter(warning.filename for warning in caught if warning.filename.startswith(PACKAGE))

    assert waits(STEPS[name][0]) == waits(STEPS["off"][0])
