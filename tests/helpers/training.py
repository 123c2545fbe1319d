"""Short trainings for tests."""

from pathlib import Path

from ultralytics.models.yolo.detect import DetectionTrainer

from mwam_det import MWAMTrainer
from mwam_det.data.layout import resolve_dataset, save_dataset_yaml

SHORT = {
    "model": "yolov8n.yaml",
    "epochs": 2,
    "imgsz": 64,
    "batch": 4,
    "optimizer": "SGD",
    "plots": False,
    "workers": 0,
    "device": "cpu",
}


class StockTrainer(DetectionTrainer):
    """Ultralytics' own trainer, given the paired dataset and the two-stream model and nothing else of ours."""

    def get_dataset(self):
        data = resolve_dataset(self.args.data)
        self.args.data = save_dataset_yaml(data, self.save_dir)
        return data

    def get_model(self, cfg=None, weights=None, verbose=True):
        from mwam_det.models.two_stream import build_two_stream, two_stream_cfg

        return self.set_model_names_for_load(build_two_stream(two_stream_cfg(cfg), self.data["nc"]))

    build_dataset = MWAMTrainer.build_dataset


def run(trainer_class, section: dict, folder: Path, **overrides):
    """Train for a moment and return the trainer, with the loss of each mini-batch as `losses`."""
    arguments = {**SHORT, "data": section, "project": str(folder), "name": "run", **overrides}
    trainer = trainer_class(overrides=arguments)
    trainer.losses = []
    trainer.add_callback("on_train_batch_end", lambda t: t.losses.append(t.loss.item()))
    trainer.train()
    return trainer
