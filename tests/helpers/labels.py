"""Mini-batches with labels, as the trainers of Ultralytics' tasks give them to a model."""

import torch


def labelled_batch(task="detect", channels=5, size=64):
    """Two images with an object each, and labels as a task has them."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.4, 0.6, 0.3, 0.5]])
    masks = torch.zeros(2, 16, 16)
    masks[:, 4:12, 4:12] = 1
    return {
        "img": torch.rand(2, channels, size, size, generator=generator),
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.tensor([0, 1]) if task == "classify" else torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.cat([boxes, torch.tensor([[0.3], [0.6]])], 1) if task == "obb" else boxes,
        "masks": masks,
        "sem_masks": masks,
        "keypoints": torch.cat([torch.rand(2, 17, 2, generator=generator), torch.full((2, 17, 1), 2.0)], 2),
        "semantic_mask": torch.randint(0, 2, (2, size, size), generator=generator),
    }
