import json
import random
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from inspections import files, finding_with, look_at, render

from mwam_det import MWAMTrainer
from mwam_det.core.config import MWAMConfig
from mwam_det.core.frequency import frequency_ratio_metric
from mwam_det.data.inspection.findings import findings_of
from mwam_det.data.inspection.minibatches import training_batches, training_dataset
from mwam_det.data.inspection.preference import PreferenceMeter, flat_share
from mwam_det.data.modality import Modality
from mwam_det.data.section import resolve_dataset

STILL = dict.fromkeys(("mosaic", "scale", "translate", "fliplr", "hsv_h", "hsv_s", "hsv_v"), 0.0)
PAIR = (Modality("rgb", 3, 0), Modality("ir", 1, 3))


def test_shares_and_weights_are_those_of_the_core(demo_section):
    figures = look_at(demo_section, batch=8, sample=8, arguments=STILL).preference
    values = {}
    for name in ("rgb", "ir"):
        images = [cv2.imread(str(file)) for file in files(demo_section, name)]
        values[name] = frequency_ratio_metric(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)).item()
    assert figures.batches == 1
    assert figures.frm == pytest.approx(values, rel=1e-4)  # the images fill the training size, but for padding
    mean = sum(values.values()) / 2
    assert figures.share == pytest.approx({name: value / mean for name, value in values.items()}, rel=1e-4)
    for name, share in figures.share.items():
        assert figures.weight[name] == pytest.approx(1.5 - 1 / (1 + np.exp(-6 * (share - 0.7))), rel=1e-4)
        assert sum(map(sum, figures.contributions[name])) == pytest.approx(figures.frm[name], rel=1e-4)


def test_the_table_says_which_part_of_frm_is_brightness_and_other_rules_have_no_such_part(demo_section):
    inspection = look_at(demo_section, batch=8, sample=8, arguments=STILL)
    parts = inspection.preference.contributions["ir"]
    assert f"{parts[0][0] / sum(map(sum, parts)):.0%}" in render(inspection)
    assert "from brightness" in render(inspection)
    other = look_at(demo_section, batch=8, sample=8, arguments=STILL, config=MWAMConfig(rule="low_l1"))
    assert other.preference.contributions == {} and "from brightness" not in render(other)


def test_mini_batches_are_those_of_training(demo_section, tmp_path):
    changes = {"imgsz": 64, "mosaic": 1.0, "degrees": 20.0, "mixup": 0.5}
    overrides = {"data": demo_section, "model": "yolov8n.yaml", "device": "cpu", "workers": 0, "plots": False}
    trainer = MWAMTrainer(overrides={**overrides, **changes, "batch": 4, "project": str(tmp_path)})
    trainer._setup_train()
    preview = training_dataset(resolve_dataset(demo_section), "detect", 4, changes)
    samples = []
    for dataset in (trainer.train_loader.dataset, preview):
        random.seed(5)
        np.random.seed(5)
        samples.append([dataset[i]["img"] for i in (0, 3, 5)])
    for mine, theirs in zip(*samples, strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(samples[0][0], training_dataset(resolve_dataset(demo_section), "detect", 4, STILL)[0]["img"])


def test_mini_batches_are_drawn_alike_each_time_and_leave_the_generators_alone(demo_section):
    datasets = [training_dataset(resolve_dataset(demo_section), "detect", 3, {"imgsz": 64}) for _ in range(2)]
    before = random.getstate(), np.random.get_state()[1].tolist()
    first, second = (list(training_batches(dataset, 3, 5)) for dataset in datasets)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert [tuple(images.shape) for images in first] == [(3, 6, 64, 64)] * 5  # two epochs and a half of 8 pairs
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[2])


def test_mini_batches_are_averaged(demo_section):
    figures = look_at(demo_section, batch=3, sample=14).preference
    assert (figures.batch, figures.batches, figures.pairs) == (3, 4, 12)
    for name in ("rgb", "ir"):
        assert figures.share_range[name][0] <= figures.share[name] <= figures.share_range[name][1]


def test_the_rule_of_the_recipe_is_measured(demo_section):
    figures = look_at(demo_section, config=MWAMConfig(rule="ac_ratio", preference="measured")).preference
    assert figures.rule == "ac_ratio"
    assert sum(figures.share.values()) == pytest.approx(2, rel=1e-4)


def test_images_smaller_than_a_patch_are_told_and_do_not_stop_the_inspection(demo_section):
    inspection = look_at(demo_section, config=MWAMConfig(patch=256, band=2))
    assert inspection.preference.flat_patches is None
    assert "smaller than a patch" in finding_with(inspection, "no evidence in")
    assert json.dumps(inspection.to_dict(), allow_nan=False)


def test_a_modality_that_is_dead_in_some_mini_batches_is_averaged_over_the_others():
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(0, 256, (2, 4, 32, 32), generator=generator, dtype=torch.uint8) for _ in range(4)]
    alive = PreferenceMeter(PAIR, MWAMConfig())
    for images in batches[:3]:
        alive.observe(images)
    partly = PreferenceMeter(PAIR, MWAMConfig())
    batches[3][:, 3] = 0
    for images in batches:
        partly.observe(images)
    expected, figures = alive.figures(None), partly.figures(None)
    assert figures.dead == {"rgb": 0, "ir": 1}
    for what in ("frm", "share", "weight", "share_range", "weight_range"):
        assert getattr(figures, what)["ir"] == getattr(expected, what)["ir"]
    assert figures.batches == 4


def test_a_modality_that_is_dead_throughout_has_no_share(demo_inspection):
    images = torch.randint(0, 256, (2, 4, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[:, 3] = 0
    meter = PreferenceMeter(PAIR, MWAMConfig())
    meter.observe(images)
    figures = meter.figures(None)
    assert figures.share["rgb"] == pytest.approx(1)
    assert np.isnan(figures.share["ir"])
    inspection = replace(demo_inspection, preference=figures)
    assert inspection.to_dict()["preference"]["share"]["ir"] is None
    assert "not measured" in render(inspection)
    assert "ir is 0 throughout in 1 of 1 mini-batches" in " ".join(findings_of(inspection))


def test_patches_that_are_flat_in_all_modalities_are_counted():
    stack = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    stack[:8] = 7
    assert flat_share(stack, PAIR, patch=8) == pytest.approx(0.25)
    stack[..., 3] = 9  # one modality alone
    assert flat_share(stack, PAIR, patch=8) == pytest.approx(0.25)
    assert flat_share(stack, PAIR, patch=64) is None
