"""One of the processes of a training, as torchrun starts them: RANK and its kin are in the environment.

Arguments: a YAML file with the trainer's arguments, and a folder for what this rank saw.
"""

import os
import sys
from pathlib import Path

import torch
import yaml
from ultralytics.utils.torch_utils import unwrap_model

from mwam_det import MWAMTrainer
from mwam_det.models.views import VIEWS


class Watched(MWAMTrainer):
    """Keeps which samples lacked a modality."""

    def preprocess_batch(self, batch):
        batch = super().preprocess_batch(batch)
        self.__dict__.setdefault("lacking", []).append(torch.stack(list(batch[VIEWS].lacking.values())))
        return batch


def main(arguments: str, folder: str) -> None:
    torch.set_num_threads(1)
    trainer = Watched(overrides=yaml.safe_load(Path(arguments).read_text()))
    trainer.train()
    seen = {
        "parameters": dict(unwrap_model(trainer.model).named_parameters()),
        "mwam": trainer.mwam.state_dict(),
        "lacking": torch.stack(trainer.lacking),
        "save_dir": str(trainer.save_dir),
        "hooks": {len(p._backward_hooks or {}) for n, p in trainer.model.named_parameters() if p.requires_grad},
    }
    torch.save(seen, Path(folder) / f"{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
