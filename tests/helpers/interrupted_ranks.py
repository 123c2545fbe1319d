"""One of two processes that train, are interrupted and resume, and recover from a loss that is not finite.

Arguments: a YAML file with the trainer's arguments, and a folder for the runs and for what this rank saw.
"""

import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

import torch
import yaml
from torch import distributed as dist
from ultralytics.utils.torch_utils import unwrap_model

from mwam_det import MWAMTrainer

RANK = int(os.environ["RANK"])


class Killed(BaseException):
    """Nothing may catch it."""


class Dying(MWAMTrainer):
    """Dies on both ranks once the checkpoint of the second epoch is written."""

    def run_callbacks(self, event):
        super().run_callbacks(event)
        if event == "on_fit_epoch_end" and self.epoch == 1:
            raise Killed


class Struck(MWAMTrainer):
    """The last mini-batch of the second epoch is not finite on rank 1, once."""

    struck = False

    def preprocess_batch(self, batch):
        batch = super().preprocess_batch(batch)
        last = len(self.train_loader) * (self.epoch + 1) == self.count
        if RANK == 1 and self.epoch == 1 and last and not self.struck:
            Struck.struck = True
            batch["img"] = batch["img"] * float("nan")
        return batch

    def run_callbacks(self, event):
        if event == "on_train_start":
            self.count = 0
        if event == "on_train_batch_start":
            self.count += 1
        super().run_callbacks(event)

    def _handle_nan_recovery(self, epoch):
        recovered = super()._handle_nan_recovery(epoch)
        self.__dict__.setdefault("recovered", []).append(recovered)
        return recovered


def train(trainer_class, arguments, folder, port):
    """Train in a process group of its own and return what this rank has at the end."""
    os.environ["MASTER_PORT"] = port
    trainer = trainer_class(overrides={**arguments, "project": str(folder), "name": "run"})
    with suppress(Killed):
        trainer.train()
    averaged = {name: own for name, own in trainer.ema.ema.state_dict().items() if "running" not in name}
    seen = {
        "model": unwrap_model(trainer.model).state_dict(),
        "averaged": averaged if RANK else trainer.ema.ema.state_dict(),  # statistics are those of rank 0 that count
        "heads": dict(trainer.heads.named_parameters()),  # which are only ever in training mode
        "optimizer": trainer.optimizer.state_dict()["state"],
        "run": trainer.run.state_dict(),
        "recovered": getattr(trainer, "recovered", None),
        "save_dir": str(trainer.save_dir),
    }
    del trainer
    gc.collect()  # see `ranks.one_of_two`
    dist.destroy_process_group()
    return seen


def main(file: str, folder: str, *ports: str) -> None:
    torch.set_num_threads(1)
    arguments, folder = yaml.safe_load(Path(file).read_text()), Path(folder)
    whole = train(MWAMTrainer, arguments, folder / "whole", ports[0])
    interrupted = train(Dying, arguments, folder / "again", ports[1])
    last = Path(interrupted["save_dir"]) / "weights" / "last.pt"
    resumed = train(MWAMTrainer, {**arguments, "resume": str(last)}, folder / "again", ports[2])
    struck = train(Struck, arguments, folder / "struck", ports[3])
    seen = {"whole": whole, "interrupted": interrupted, "resumed": resumed, "struck": struck}
    torch.save(seen, folder / f"{RANK}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
