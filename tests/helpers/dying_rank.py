"""A training of several processes of which one dies in the middle.

Arguments, as a script: a YAML file with the trainer's arguments, and how rank 1 dies: "killed" or "raises".
"""

import os
import signal
import sys
from pathlib import Path

import torch
import yaml

from mwam_det import MWAMTrainer


def killed(trainer):
    """Die in the second epoch without a word; a callback."""
    if os.environ.get("RANK") == "1" and trainer.epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def raises(trainer):
    """Fail in the second epoch; a callback."""
    if os.environ.get("RANK") == "1" and trainer.epoch == 1:
        raise ValueError("the sample is broken")


def main(arguments: str, how: str) -> None:
    torch.set_num_threads(1)
    trainer = MWAMTrainer(overrides=yaml.safe_load(Path(arguments).read_text()))
    trainer.add_callback("on_train_batch_start", {"killed": killed, "raises": raises}[how])
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
