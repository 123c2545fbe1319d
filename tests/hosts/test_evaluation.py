import pytest
import torch
from hosts import section, toy_trainer
from torch import nn
from torch.utils.data import DataLoader

from mwam_det.hosts.data.layout import find_samples
from mwam_det.hosts.data.samples import MultimodalDataset, Normalise
from mwam_det.hosts.evaluation import evaluate, without
from mwam_det.hosts.tasks import VOID, Classification, Segmentation

ALONE_AND_BOTH = [("rgb",), ("ir",), ("rgb", "ir")]


class Left(nn.Module):
    """Says the second class where RGB is brighter on its left; without RGB, always the first."""

    def forward(self, inputs):
        images = inputs["rgb"].mean(1)
        score = images[..., :8].mean((1, 2)) - images[..., 8:].mean((1, 2))
        return torch.stack([torch.full_like(score, 0.2), score], 1)


def run(pictures, groups=None):
    data = find_samples(section(pictures), segmentation=False)
    dataset = MultimodalDataset(data.splits["val"], data.modalities, (16, 16))
    loader = DataLoader(dataset, 3)
    normalise = Normalise(dataset.statistics())
    device = torch.device("cpu")
    return evaluate(Left().train(), Classification(2), loader, normalise, ALONE_AND_BOTH, device, groups)


def test_a_missing_modality_is_zeros_and_the_others_stay():
    inputs = {"rgb": torch.ones(1, 3, 2, 2), "ir": torch.ones(1, 3, 2, 2)}
    found = without(inputs, ["ir"])
    assert found["rgb"] is inputs["rgb"] and found["ir"].count_nonzero() == 0
    assert inputs["ir"].count_nonzero() == 12


def test_it_is_an_error_if_nothing_is_left():
    with pytest.raises(ValueError, match="nothing is left"):
        without({"rgb": torch.ones(1, 3, 2, 2)}, ["rgb"])


def test_every_combination_gets_the_score_of_what_the_host_says_with_it(pictures):
    found = run(pictures)
    assert found.scores == {("rgb",): 1.0, ("ir",): 0.5, ("rgb", "ir"): 1.0}
    assert found.samples == 8 and found.groups == {}


def test_groups_are_measured_apart(pictures):
    classes = [["first"]] * 4 + [["second", "last"]] * 4  # samples are sorted by class
    groups = run(pictures, classes).groups
    assert {name: (count, scores["ir",]) for name, (count, scores) in groups.items()} == {
        "first": (4, 1.0),
        "second": (4, 0.0),
        "last": (4, 0.0),
    }


def test_an_evaluation_leaves_the_hosts_mode_and_weights_as_they_are(pictures, tmp_path):
    trainer = toy_trainer(pictures, tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.model.train()
    found = trainer.evaluate(ALONE_AND_BOTH)
    assert trainer.model.training
    samples = [trainer.host.val_set[index] for index in range(found.samples)]
    images = {name: torch.stack([own[name] for own, _, _ in samples]) for name in ("rgb", "ir")}
    with torch.no_grad():
        logits = trainer.model.eval()(trainer.normalise(images))
    target = torch.stack([torch.as_tensor(label) for _, label, _ in samples])
    assert found.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, target).item(), rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_a_group_without_a_labelled_pixel_is_left_out():
    class Rooms:
        """Four samples of one class, the last two void."""

        def __iter__(self):
            labels = torch.tensor([0, 0, VOID, VOID])[:, None, None].expand(4, 16, 16)
            yield {"rgb": torch.zeros(4, 3, 16, 16, dtype=torch.uint8)}, labels, torch.arange(4)

    class First(nn.Module):
        def forward(self, inputs):
            return torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(4, 2, 16, 16)

    groups = [["day"], ["day"], ["night"], ["night"]]
    normalise = Normalise({"rgb": ([0.0] * 3, [1.0] * 3)})
    found = evaluate(First(), Segmentation(2), Rooms(), normalise, [("rgb",)], torch.device("cpu"), groups)
    assert found.groups == {"day": (2, {("rgb",): 1.0})} and found.scores == {("rgb",): 1.0}
