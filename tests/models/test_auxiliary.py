import copy
from types import SimpleNamespace

import pytest
import torch
from ultralytics.cfg import get_cfg

from mwam_det import MWAM
from mwam_det.models.auxiliary import AuxiliaryHeads, AuxiliaryLoss
from mwam_det.models.replay import FeatureTap
from mwam_det.models.two_stream import build_two_stream, streams_of, two_stream_cfg
from mwam_det.models.views import VIEWS, IncompleteViews
from mwam_det.training.incomplete import IncompleteConfig, Views, draw_views


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build_two_stream(two_stream_cfg("yolov8n.yaml"), nc=2)
    model.args = get_cfg()
    return model


@pytest.fixture
def heads(model):
    heads = AuxiliaryHeads(model)
    heads.take_criteria(model)
    return heads


def one_view(**lacking):
    present = {name: ~torch.tensor([own]) for name, own in lacking.items()}
    return {VIEWS: Views(present, (1.0,), level="input")}


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "img": torch.rand(2, 6, 64, 64, generator=generator),
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.4, 0.6, 0.3, 0.5]]),
    }


def test_each_stream_has_a_head_on_the_levels_that_are_fused(model):
    heads = AuxiliaryHeads(model)
    assert list(heads.heads) == ["rgb", "ir"]
    for head in heads.heads.values():
        assert head.stride.tolist() == [8, 16, 32] and head.nc == 2
        assert [branch[0].conv.in_channels for branch in head.cv2] == [64, 128, 256]


def test_building_heads_leaves_the_model_as_it_was(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    AuxiliaryHeads(model)
    assert model.training and not model._forward_hooks
    assert all(not module._forward_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_loss_is_the_models_own_and_the_weighted_losses_of_the_heads(model, heads):
    mwam = MWAM(["rgb", "ir"])
    mwam.weights = {"rgb": torch.tensor(0.5), "ir": torch.tensor(1.25)}
    own, items = copy.deepcopy(model)(batch())
    with FeatureTap(twin := copy.deepcopy(model)) as tap:
        twin(batch())
        alone = heads.losses(tap.take(), batch())
    auxiliary = AuxiliaryLoss(model, heads, mwam)
    total, reported = model(batch())
    expected = own.sum() + 0.5 * alone["rgb"].sum() + 1.25 * alone["ir"].sum()
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert {k: v.item() for k, v in reported.items()} == pytest.approx({k: v.item() for k, v in items.items()})
    auxiliary.remove()
    assert all(not module._forward_hooks for module in model.modules())


def test_the_head_of_a_modality_sends_gradients_to_its_own_stream_alone(model, heads):
    with FeatureTap(model) as tap:
        model(batch())
        heads.losses(tap.take(), batch())["ir"].sum().backward()
    reached = {name: any(p.grad is not None for p in s.parameters()) for name, s in streams_of(model).items()}
    assert reached == {"rgb": False, "ir": True}


def test_a_prediction_is_passed_through(model):
    model.eval()
    expected = model(batch()["img"])[0]
    AuxiliaryLoss(model, AuxiliaryHeads(model), MWAM(["rgb", "ir"]))
    assert torch.equal(model(batch()["img"])[0], expected)


def test_class_weights_that_the_model_gets_after_its_heads_count_for_them_too(model):
    heads = AuxiliaryHeads(model)
    model.class_weights = torch.tensor([1.0, 3.0])
    AuxiliaryLoss(model, heads, MWAM(["rgb", "ir"]))
    assert heads._criteria["rgb"].class_weights.flatten().tolist() == [1.0, 3.0]
    assert isinstance(model.args, SimpleNamespace)


def test_samples_that_lack_a_modality_have_no_loss_of_its_head(model, heads):
    whole = batch()
    with FeatureTap(model) as tap:
        model(whole["img"])
        features = tap.take()
    views = one_view(rgb=[False, False], ir=[True, False])
    losses, part = heads.losses(features, whole), heads.losses(features, whole | views)
    second = {"batch_idx": torch.tensor([0.0]), **{key: whole[key][1:] for key in ("img", "cls", "bboxes")}}
    alone = heads.losses({name: [level[1:] for level in levels] for name, levels in features.items()}, second)
    assert torch.equal(part["rgb"], losses["rgb"])
    torch.testing.assert_close(part["ir"], alone["ir"])
    assert not torch.allclose(part["ir"], losses["ir"])


def test_where_all_samples_lack_a_modality_its_head_learns_nothing(model, heads):
    whole = batch()
    with FeatureTap(model) as tap:
        model(whole["img"])
        features = tap.take()
    loss = heads.losses(features, whole | one_view(rgb=[False, False], ir=[True, True]))["ir"]
    loss.backward()
    assert loss.item() == 0 and all(p.grad is None for p in heads.heads["ir"].parameters())


@pytest.mark.parametrize("level", ["features", "input"])
def test_with_views_of_every_combination_heads_learn_from_complete_input_once(model, heads, level):
    mwam, whole = MWAM(["rgb", "ir"]), batch()
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.eval()  # so that samples do not see each other
    with FeatureTap(model) as tap:
        model(whole["img"])
        alone = sum(loss.sum() for loss in heads.losses(tap.take(), whole).values()).item()
    views = {VIEWS: draw_views(2, ["rgb", "ir"], IncompleteConfig(level=level))}
    IncompleteViews(model)
    without = model(whole | views)[0].sum().item()
    AuxiliaryLoss(model, heads, mwam)
    assert model(whole | views)[0].sum().item() == pytest.approx(without + alone, rel=1e-5)


def test_heads_without_their_losses_are_refused_by_name(model):
    with pytest.raises(RuntimeError, match="call take_criteria first"):
        AuxiliaryHeads(model).losses({}, batch())
