import json

import cv2
import numpy as np
import pytest
import torch
from inspections import files, finding_with, look_at

from mwam_det.core.config import MWAMConfig
from mwam_det.core.frequency import frequency_ratio_metric


def test_shares_and_weights_are_those_of_the_core(demo_section):
    figures = look_at(demo_section, batch=8).preference
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


def test_mini_batches_are_averaged_and_an_incomplete_one_is_left_out(demo_section):
    figures = look_at(demo_section, batch=3).preference
    assert (figures.batch, figures.batches, figures.pairs) == (3, 2, 6)
    for name in ("rgb", "ir"):
        assert figures.share_range[name][0] <= figures.share[name] <= figures.share_range[name][1]


def test_the_rule_of_the_recipe_is_measured(demo_section):
    figures = look_at(demo_section, config=MWAMConfig(rule="ac_ratio", preference="measured")).preference
    assert figures.rule == "ac_ratio"
    assert sum(figures.share.values()) == pytest.approx(2, rel=1e-4)


def test_images_smaller_than_a_patch_are_told_and_do_not_stop_the_inspection(demo_section):
    inspection = look_at(demo_section, config=MWAMConfig(patch=256, band=2))
    assert inspection.preference.flat_patches is None
    assert "smaller than a patch" in finding_with(inspection, "nothing to go by")
    assert json.dumps(inspection.to_dict(), allow_nan=False)
