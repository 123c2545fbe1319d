import pytest
import torch
from torch import multiprocessing as mp
from two_ranks import observe_a_share, whole_batch

from mwam_det import MWAM
from mwam_det.core.distributed import mean_over_ranks


def test_without_torch_distributed_values_are_returned_as_they_are():
    values = torch.tensor([1.0, 2.0])
    assert mean_over_ranks(values, torch.tensor([3.0, 0.0])) is values


def test_two_ranks_with_unequal_parts_agree_on_the_weights_of_the_whole_batch(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(observe_a_share, (str(tmp_path / "store"), results), nprocs=2)
        first, second = results[0], results[1]
    assert first == second
    whole = whole_batch()
    mwam = MWAM(["rgb", "ir"])
    mwam.observe({"rgb": whole["rgb"], "ir": whole["ir"]})
    assert first.frm["rgb"] == pytest.approx(mwam.last.frm["rgb"], rel=1e-6)
    seen = MWAM(["ir"])  # a rank on which a modality is absent says nothing about it
    seen.observe({"ir": whole["ir"][2:]})
    assert first.frm["ir"] == pytest.approx(seen.last.frm["ir"], rel=1e-6)
