import json

import pytest
import torch
from torch import nn

from mwam_det import MWAMConfig
from mwam_det.training.incomplete import IncompleteConfig
from mwam_det.training.run import ModalityRun
from mwam_det.training.selection import Selection

NAMES = ["rgb", "ir"]
SCORES = {("rgb",): 0.1, ("ir",): 0.7, ("rgb", "ir"): 0.8}


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(0, 256, (2, 3, 32, 32), generator=generator, dtype=torch.uint8) for name in NAMES}


def present(run, count=32):
    return torch.stack(list(run.incomplete(count).present.values()))


def test_a_run_of_nothing_observes_nothing_and_sees_samples_once():
    run = ModalityRun(NAMES)
    assert run.observe(images()) == {} and run.incomplete(4) is None and run.take_in(SCORES) is None
    assert not run.validates_combinations and not run.due(0) and run.history is None


def test_epochs_draw_for_other_samples_ranks_too_and_the_same_epoch_the_same_again():
    def of(epoch, rank=0, seed=0):
        run = ModalityRun(NAMES, incomplete=IncompleteConfig(views=2), rank=rank, seed=seed)
        run.begin_epoch(epoch, 9)
        return present(run)

    assert torch.equal(of(3), of(3))
    assert not any(torch.equal(of(3), other) for other in (of(4), of(3, rank=1), of(3, seed=1)))
    assert torch.equal(of(0, rank=-1), of(0, rank=0))  # Ultralytics' number of a process that is alone


def test_views_begin_at_their_share_of_the_training_and_following_warms_up_from_there():
    run = ModalityRun(NAMES, incomplete=IncompleteConfig(start=0.5, distill=2.0))
    seen = []
    for epoch in range(20):
        run.begin_epoch(epoch, 20)
        views = run.incomplete(1)
        seen.append(None if views is None else round(views.distill, 6))
    assert seen == [None] * 10 + [0.0, 1.0] + [2.0] * 8


@pytest.mark.parametrize(("start", "epochs"), [(0.5, 1), (0.7, 3), (0.99, 10)])
def test_views_begin_in_the_last_epoch_at_the_latest(start, epochs):
    run = ModalityRun(NAMES, incomplete=IncompleteConfig(start=start))
    seen = []
    for epoch in range(epochs):
        run.begin_epoch(epoch, epochs)
        seen.append(run.incomplete(1) is not None)
    assert seen == [False] * (epochs - 1) + [True]


def test_views_that_have_begun_go_on_where_the_number_of_epochs_changes_and_after_a_resume():
    run = ModalityRun(NAMES, incomplete=IncompleteConfig(start=0.5), selection=Selection("mean", every=9))
    run.take_in(SCORES)
    seen = []
    for epoch, epochs in ((1, 6), (2, 6), (3, 6), (4, 9), (5, 9)):  # as a run of a given time estimates them
        run.begin_epoch(epoch, epochs)
        seen.append((run.incomplete(1) is not None, run.begins_views, run.due(epoch)))
    assert seen == [(False,) * 3, (False,) * 3, (True,) * 3, (True, False, False), (True, False, False)]
    resumed = ModalityRun(NAMES, incomplete=IncompleteConfig(start=0.5))
    resumed.load_state_dict(json.loads(json.dumps(run.state_dict())), epoch=5)
    resumed.begin_epoch(5, 12)
    assert resumed.views_since == 3 and resumed.incomplete(1) is not None and not resumed.begins_views


def test_weights_of_mwam_reach_the_views():
    run = ModalityRun(NAMES, mwam=MWAMConfig(), incomplete=IncompleteConfig(weights="mwam"))
    run.mwam.weights = {"rgb": torch.tensor(1.5), "ir": torch.tensor(0.5)}
    assert run.incomplete(1).weights == pytest.approx([1 / 3, 1.5 / 3, 0.5 / 3])


def test_what_does_not_fit_is_refused_when_built():
    with pytest.raises(ValueError, match="incomplete.weights=mwam"):
        ModalityRun(NAMES, incomplete=IncompleteConfig(weights="mwam"))


def test_combinations_are_due_every_so_often_at_the_end_and_until_they_are_known():
    run = ModalityRun(NAMES, selection=Selection("mean", every=3))
    assert run.due(1)  # nothing is known yet
    run.take_in(SCORES)
    assert [run.due(epoch, epoch == 7) for epoch in range(8)] == [True, False, False, True, False, False, True, True]
    assert run.fitness(SCORES) == pytest.approx(1.6 / 3)
    assert run.fitness({("rgb", "ir"): 0.8}) is None  # not to be decided in an epoch without the others
    run.take_in({("rgb", "ir"): 0.9})
    assert run.scores == {**SCORES, ("rgb", "ir"): 0.9}
    resumed = ModalityRun(NAMES, selection=Selection("mean", every=3))
    resumed.load_state_dict(run.state_dict(), epoch=4)
    assert not resumed.due(4)


def test_a_measured_preference_follows_the_validation():
    run = ModalityRun(NAMES, mwam=MWAMConfig(preference="measured"))
    assert run.validates_combinations
    run.take_in(SCORES)
    assert run.mwam.weights["rgb"] > run.mwam.weights["ir"]


def test_a_lasting_contradiction_is_told_once_also_across_a_resume():
    def contradicted():
        run = ModalityRun(NAMES, mwam=MWAMConfig(mode="observe"), selection=Selection("mean"))
        run.observe({"rgb": images()["rgb"] // 64 + 100, "ir": images()["ir"]})
        return run

    run = contradicted()
    preferred = max(run.mwam.last.share, key=run.mwam.last.share.get)
    scores = {("rgb", "ir"): 0.8, ("rgb",): 0.1, ("ir",): 0.1}
    scores[next(name for name in NAMES if name != preferred),] = 0.7
    assert [run.take_in(scores) for _ in range(2)] == [None, None]
    resumed = contradicted()
    resumed.load_state_dict(json.loads(json.dumps(run.state_dict())), epoch=2)
    assert "3 validations in a row" in resumed.take_in(scores)
    assert resumed.take_in(scores) is None and resumed.scores == scores


def test_the_record_holds_the_epochs_before_a_resume_and_those_after(tmp_path):
    def trained(run, epochs):
        for epoch in epochs:
            run.begin_epoch(epoch, 4)
            for seed in range(2):
                run.observe(images(10 * epoch + seed))
            run.history.flush()

    whole, first = (ModalityRun(NAMES, mwam=MWAMConfig(), file=tmp_path / f"{n}.csv") for n in ("whole", "parts"))
    trained(whole, range(4))
    trained(first, range(2))
    state = first.state_dict()
    trained(first, [2])  # lost: the process dies before its checkpoint
    second = ModalityRun(NAMES, mwam=MWAMConfig(), file=tmp_path / "parts.csv")
    second.load_state_dict(state, epoch=2)
    trained(second, range(2, 4))
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert second.mwam.state_dict() == whole.mwam.state_dict()


def test_an_epoch_that_is_begun_again_is_recorded_once(tmp_path):
    run = ModalityRun(NAMES, mwam=MWAMConfig(), file=tmp_path / "mwam.csv")
    for _ in range(2):
        run.begin_epoch(0, 1)
        run.observe(images())
    run.history.flush()
    assert len((tmp_path / "mwam.csv").read_text().splitlines()) == 2


def test_the_state_of_a_run_with_mwam_is_refused_by_one_without():
    with pytest.raises(ValueError, match="the state is of a run with MWAM"):
        ModalityRun(NAMES).load_state_dict(ModalityRun(NAMES, mwam=MWAMConfig()).state_dict(), 1)


def test_a_strangers_loop_learns_to_do_without_a_modality():
    """The loop of the class's docstring, on a task whose answer both modalities hold."""
    torch.manual_seed(0)
    streams = nn.ModuleDict({name: nn.Sequential(nn.Linear(4, 8), nn.Tanh()) for name in NAMES})
    head = nn.Linear(16, 1)

    def train(incomplete):
        torch.manual_seed(1)
        for module in (*streams.modules(), head):
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        optimizer = torch.optim.SGD([*streams.parameters(), *head.parameters()], 0.2)
        run = ModalityRun(NAMES, incomplete=incomplete)
        for epoch in range(4):
            run.begin_epoch(epoch, 4)
            for _ in range(60):
                target = torch.randint(0, 2, (16, 1)).float()
                sides = {"rgb": 0.2, "ir": 1.0}
                features = {n: streams[n](target * sides[n] * 2 - sides[n] + torch.randn(16, 4) / 4) for n in NAMES}
                losses = nn.functional.binary_cross_entropy_with_logits
                if views := run.incomplete(16):
                    mixed = torch.cat([views.mix(name, own) for name, own in features.items()], 1)
                    loss = views.average(losses(part, target) for part in views.split(head(mixed)))
                else:
                    loss = losses(head(torch.cat(list(features.values()), 1)), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        target = torch.randint(0, 2, (4000, 1)).float()
        weak = streams["rgb"](target * 0.4 - 0.2 + torch.randn(4000, 4) / 4)
        said = head(torch.cat([weak, torch.zeros(4000, 8)], 1))
        return ((said > 0) == (target > 0.5)).float().mean().item()

    assert train(None) + 0.04 < train(IncompleteConfig())
