import os
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch


def can_build() -> bool:
    """A C++ compiler and Python's headers are here."""
    compiler = next((c for c in (os.environ.get("CXX"), "g++", "clang++") if c and shutil.which(c)), None)
    return compiler is not None and (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()


@pytest.fixture
def fresh_compiler():
    """Graphs of no other test, and none left to one."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def machine_code(fresh_compiler):
    """What torch.compile needs to make machine code. It tries out no vector instructions, which takes half the time."""
    if not can_build():
        pytest.skip("there is no C++ compiler, or no headers of Python")
    from torch._inductor import config

    with config.patch({"cpp.vec_isa_ok": True}):
        yield
