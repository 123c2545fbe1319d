import copy

import pytest
import torch
from labels import labelled_batch
from torch import nn
from ultralytics.cfg import get_cfg
from untrained import TINY, awake

from mwam_det.core.missing import drop_modalities
from mwam_det.models.replay import FeatureTap, run_stream_on_zeros
from mwam_det.models.two_stream import FUSIONS, build_two_stream, streams_of, task_of, two_stream_cfg
from mwam_det.models.views import VIEWS, IncompleteViews, loss_multiple
from mwam_det.training.incomplete import IncompleteConfig, Views, confident_divergence, draw_views, views_alone

TWO, THREE = {"rgb": 3, "ir": 2}, {"rgb": 3, "ir": 2, "depth": 1}
HEADS = [
    "yolov8n.yaml", "yolov10n.yaml", "yolo26n.yaml", "yolov8n-obb.yaml", "yolo26n-obb.yaml", "yolov8n-seg.yaml",
    "yolo26n-seg.yaml", "yolov8n-pose.yaml", "yolo26n-pose.yaml", "yolo26n-sem.yaml", "yolov8n-cls.yaml",
    "yolov8-rtdetr.yaml",
]  # fmt: skip


def built(name=TINY, modalities=None, fusion="concat", share=False):
    """A model in training whose batch norms answer as in evaluation, so that samples do not see each other."""
    torch.manual_seed(0)
    modalities = modalities or TWO
    model = build_two_stream(two_stream_cfg(name, modalities, fusion, share), nc=2)
    model.args, model.nc = get_cfg(), 2
    for norm in norms(awake(model, sum(modalities.values()))):
        norm.bias.data.uniform_(-0.5, 0.5)  # so that a stream makes something of zeros
    model.train()
    for norm in norms(model):
        norm.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    head = model.model[-1]
    if hasattr(head, "num_denoising"):
        head.num_denoising = 0  # its noise is drawn anew in every call
    return model


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def seen(batch, count, modalities, **config):
    views = draw_views(count, list(modalities), IncompleteConfig(**config), generator=torch.Generator().manual_seed(3))
    return {**batch, VIEWS: views}


def batch_of(model):
    return labelled_batch(task_of(model.yaml), sum(model.yaml["modalities"].values()))


def slices(modalities):
    ends = torch.tensor(list(modalities.values())).cumsum(0).tolist()
    return {name: slice(end - width, end) for (name, width), end in zip(modalities.items(), ends, strict=True)}


def separate_losses(model, batch, views):
    """The loss of each view as the model has it on images whose missing modalities are 0, as inference sees them."""
    losses = []
    for view in range(len(views.weights)):
        images = batch["img"].clone()
        for name, place in slices(model.yaml["modalities"]).items():
            images[~views.present[name][view], place] = 0
        losses.append(model({**batch, "img": images})[0].sum())
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_the_loss_of_every_head_is_the_weighted_sum_of_separate_losses(name):
    model = built(name)
    batch = batch_of(model)
    whole = seen(batch, 2, TWO, weights=[0.5, 0.2, 0.3])
    separate = separate_losses(model, batch, whole[VIEWS])
    expected = sum(w * loss for w, loss in zip((0.5, 0.2, 0.3), separate, strict=True)).item()
    assert len({round(loss.item(), 3) for loss in separate}) == 3, "the modalities make no difference"
    hooks = IncompleteViews(model)
    loss, items = model(whole)
    assert loss.sum().item() == pytest.approx(expected, rel=2e-5)
    loss.sum().backward()
    hooks.remove()
    assert all(torch.as_tensor(value).isfinite().all() for value in items.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov8n-seg.yaml", "yolo26n-pose.yaml", "yolov8-rtdetr.yaml"])
@pytest.mark.parametrize("images", [[0, 0], []], ids=["uneven", "none"])
def test_labels_may_be_of_some_images_or_of_none(name, images):
    model = built(name)
    if hasattr(model.model[-1], "num_denoising"):
        model.model[-1].num_denoising = 20
        model.model[-1].label_noise_ratio = model.model[-1].box_noise_scale = 0.0  # what is drawn has no effect then
    batch = batch_of(model)
    for key in ("cls", "bboxes", "keypoints"):
        batch[key] = batch[key][: len(images)]
    batch["batch_idx"] = torch.tensor(images, dtype=torch.float32)
    if not images:
        batch["masks"] = torch.zeros_like(batch["masks"])
    whole = seen(batch, 2, TWO, weights=[0.5, 0.2, 0.3])
    separate = separate_losses(model, batch, whole[VIEWS])
    IncompleteViews(model)
    expected = sum(w * loss.item() for w, loss in zip((0.5, 0.2, 0.3), separate, strict=True))
    assert model(whole)[0].sum().item() == pytest.approx(expected, rel=2e-5, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(("fusion", "share"), [*((fusion, False) for fusion in FUSIONS), ("concat", True)])
@pytest.mark.parametrize("level", ["features", "input"])
def test_every_fusion_sees_all_combinations_of_three_modalities_at_either_level(fusion, share, level):
    modalities = dict.fromkeys(THREE, 2) if share else THREE
    model = built(TINY, modalities, fusion, share)
    batch = batch_of(model)
    whole = seen(batch, 2, modalities, level=level)
    expected = sum(separate_losses(model, batch, whole[VIEWS])).item() / 7
    IncompleteViews(model)
    assert model(whole)[0].sum().item() == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("level", ["features", "input"])
@pytest.mark.parametrize("views", [1, 2, 4])
def test_drawn_views_differ_from_sample_to_sample(views, level):
    model = built(modalities=THREE)
    batch = batch_of(model)
    whole = seen(batch, 2, THREE, level=level, views=views, **({"p": 1.0} if views == 1 else {}))
    rows = torch.stack([present[-1] for present in whole[VIEWS].present.values()])
    assert not torch.equal(rows[:, 0], rows[:, 1])
    separate = separate_losses(model, batch, whole[VIEWS])
    expected = sum(w * own for w, own in zip(whole[VIEWS].weights, separate, strict=True)).item()
    IncompleteViews(model)
    assert model(whole)[0].sum().item() == pytest.approx(expected, rel=2e-5)


def test_gradients_of_neck_and_head_are_those_of_the_separate_losses_and_streams_learn_from_what_they_saw():
    model = built()
    twin, batch = copy.deepcopy(model), batch_of(model)
    whole = seen(batch, 2, TWO)
    (sum(separate_losses(twin, batch, whole[VIEWS])) / 3).backward()
    IncompleteViews(model)
    model(whole)[0].sum().backward()
    first = model.yaml["fusions"][0]
    for layer, other in zip(model.model[first:], twin.model[first:], strict=True):
        for own, expected in zip(layer.parameters(), other.parameters(), strict=True):
            if expected.grad is not None:
                assert (own.grad - expected.grad).norm() <= 1e-4 * expected.grad.norm()
    assert all(p.grad is not None for stream in streams_of(model).values() for p in stream.parameters())


@torch.no_grad()
def test_what_stands_in_for_a_modality_is_what_inference_sees_of_it():
    model = build_two_stream(two_stream_cfg("yolov8n.yaml", TWO), nc=2)
    awake(model, 5).double()
    images = torch.rand(2, 5, 64, 96).double()
    with FeatureTap(model) as tap:
        model(drop_modalities(images, slices(TWO), ["ir"]))
        expected = tap.take()["ir"]
    model.train()
    found = run_stream_on_zeros(model, "ir", images)
    assert all(module.training for module in model.modules())
    for own, level in zip(found, expected, strict=True):
        torch.testing.assert_close(own.expand_as(level), level, rtol=0, atol=1e-6)


def test_batch_norms_of_streams_see_complete_input_alone_and_those_behind_see_the_mixture():
    torch.manual_seed(0)
    model = build_two_stream(two_stream_cfg("yolov8n.yaml", TWO), nc=2)
    model.args = get_cfg()
    twin, batch = copy.deepcopy(model), labelled_batch(channels=5)
    IncompleteViews(model)
    model(seen(batch, 2, TWO))
    twin(batch)
    for name, stream in streams_of(model).items():
        for own, complete in zip(norms(stream), norms(streams_of(twin)[name]), strict=True):
            assert torch.equal(own.running_mean, complete.running_mean)
            assert torch.equal(own.running_var, complete.running_var)
            assert own.num_batches_tracked == 1
    behind = zip(norms(model.model[-1]), norms(twin.model[-1]), strict=True)
    assert not any(torch.equal(own.running_mean, other.running_mean) for own, other in behind)


def test_a_step_without_views_and_a_prediction_are_as_ever_and_no_hook_stays():
    model = built()
    batch = batch_of(model)
    expected, items = model(batch)
    hooks = IncompleteViews(model)
    loss, found = model(batch)
    assert torch.equal(loss, expected) and all(torch.equal(found[name], items[name]) for name in items)
    before = model.eval()(batch["img"])[0]
    hooks.remove()
    assert torch.equal(model(batch["img"])[0], before)
    assert not any(own._forward_hooks or own._forward_pre_hooks for own in model.modules())


def test_bfloat16_leaves_every_weight_its_gradient():
    model = build_two_stream(two_stream_cfg("yolov8n.yaml", TWO), nc=2)
    model.args = get_cfg()
    IncompleteViews(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(seen(labelled_batch(channels=5), 2, TWO))[0].sum()
    loss.backward()
    assert all(p.grad is not None for stream in streams_of(model).values() for p in stream.parameters())


@pytest.mark.slow
def test_the_decoder_of_rt_detr_cleans_noisy_labels_in_every_view():
    model = built("yolov8-rtdetr.yaml")
    model.model[-1].num_denoising = 20
    IncompleteViews(model)
    loss, items = model(seen(batch_of(model), 2, TWO))
    loss.sum().backward()
    assert loss.isfinite().all() and all(value.isfinite() for value in items.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["yolov8n.yaml", "yolo26n.yaml", "yolov8n-seg.yaml", "yolo26n-sem.yaml", "yolov8n-cls.yaml"]
)
def test_following_the_complete_view_adds_a_loss_that_is_zero_where_nothing_is_missing(name):
    model = built(name)
    batch = batch_of(model)
    complete = {name: torch.ones(3, 2, dtype=torch.bool) for name in TWO}
    some = draw_views(2, list(TWO), IncompleteConfig()).present
    IncompleteViews(model)

    def loss(present, distill):
        return model({**batch, VIEWS: Views(present, (0.4, 0.3, 0.3), distill=distill)})[0].sum()

    assert loss(complete, 1.0).item() == pytest.approx(loss(complete, 0.0).item(), rel=1e-6)
    added = [loss(some, distill).item() - loss(some, 0.0).item() for distill in (1.0, 2.0)]
    assert added[0] > 1e-4 and added[1] == pytest.approx(2 * added[0], rel=1e-4)
    loss(some, 1.0).backward()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo26n-sem.yaml", "yolov8n-cls.yaml"])
def test_following_weighs_the_same_beside_the_loss_whatever_the_batch(name):
    model = built(name)
    once = batch_of(model)
    twice = {key: torch.cat([value, value]) for key, value in once.items()}
    twice["batch_idx"] = torch.arange(4.0)
    IncompleteViews(model)

    def following(batch):
        """Its share of the loss, over what the loss is a multiple of its mean by."""
        present = draw_views(len(batch["img"]), list(TWO), IncompleteConfig()).present
        without, following = (
            model({**batch, VIEWS: Views(present, (0.4, 0.3, 0.3), distill=distill)})[0].sum().item()
            for distill in (0.0, 1.0)
        )
        return (following - without) / loss_multiple(model, batch)

    assert following(twice) == pytest.approx(following(once), rel=1e-3)


def test_a_model_of_one_class_follows_too():
    student, teacher = torch.tensor([[0.0]]), torch.tensor([[2.0]])
    two = [torch.cat([logits, torch.zeros(1, 1)], 1) for logits in (student, teacher)]
    assert confident_divergence(student, teacher).item() == pytest.approx(confident_divergence(*two).item())
    assert confident_divergence(student, teacher) > 0.1


# Views that only measure ----------------------------------------------------------------------------------------------


def heard(model, batch, modalities):
    """The loss of a step whose views only measure, and what balancing was told."""
    told = {}

    def balance(views, losses, **evidence):
        told.update(evidence, views=views, losses=losses)
        return views.average(losses)

    hooks = IncompleteViews(model, balance)
    loss = model({**batch, VIEWS: views_alone(2, list(modalities), measure_only=True)})[0]
    hooks.remove()
    return loss, told


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_what_is_measured_of_every_head_is_its_loss_on_one_modality(name):
    model = built(name)
    batch = batch_of(model)
    separate = separate_losses(model, batch, views_alone(2, list(TWO)))
    loss, told = heard(model, batch, TWO)
    found = [own.sum().item() for own in told["losses"]]
    assert found == pytest.approx([own.item() for own in separate], rel=2e-5)
    assert loss.sum().item() == pytest.approx(separate[0].item(), rel=1e-6)
    assert [own.requires_grad for own in told["losses"]] == [True, False, False]
    assert told.get("logits") is None or [len(own) for own in told["logits"]] == [2, 2, 2]
    assert ("logits" in told) == name.endswith(("-cls.yaml", "-sem.yaml"))


@pytest.mark.parametrize(("fusion", "share"), [*((fusion, False) for fusion in FUSIONS), ("concat", True)])
def test_every_fusion_measures_each_of_three_modalities_alone(fusion, share):
    modalities = dict.fromkeys(THREE, 2) if share else THREE
    model = built(TINY, modalities, fusion, share)
    batch = batch_of(model)
    separate = separate_losses(model, batch, views_alone(2, list(modalities)))
    _, told = heard(model, batch, modalities)
    assert [own.sum().item() for own in told["losses"]] == pytest.approx([own.item() for own in separate], rel=2e-5)


@pytest.mark.parametrize("name", [TINY, "yolov8n-cls.yaml"])
def test_measuring_leaves_gradients_batch_norms_and_random_numbers_bit_for_bit(name):
    torch.manual_seed(0)
    model = build_two_stream(two_stream_cfg(name, TWO), nc=2)
    model.args, model.nc = get_cfg(), 2
    awake(model, 5).train()
    twin, batch = copy.deepcopy(model), batch_of(model)
    torch.manual_seed(1)
    expected = twin(batch)[0].sum()
    expected.backward()
    drawn = torch.rand(3)
    torch.manual_seed(1)
    loss = heard(model, batch, TWO)[0].sum()
    loss.backward()
    assert torch.equal(torch.rand(3), drawn) and loss.item() == expected.item()
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert (own.grad is None) == (other.grad is None) and (own.grad is None or torch.equal(own.grad, other.grad))
    assert all(torch.equal(*pair) for pair in zip(model.buffers(), twin.buffers(), strict=True))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", [TINY, "yolov8n-cls.yaml", "yolo26n-sem.yaml"])
def test_a_loss_is_so_many_times_its_mean_over_the_samples(name):
    model = built(name)
    batch = batch_of(model)
    if name == TINY:  # boxes as large as those that the model finds: where none fits, Ultralytics' loss has a floor
        batch["bboxes"] = torch.tensor([[0.5, 0.5, 0.25, 0.25], [0.4, 0.6, 0.25, 0.25]])
        for boxes in model.model[-1].cv2:
            boxes[-1].bias.data.view(4, -1)[:, 1] += 5
    losses = []
    for count in (8, 16):
        several = {key: torch.cat([value] * count) for key, value in batch.items()}
        several["batch_idx"] = torch.arange(2.0 * count)
        losses.append(model(several)[0].sum().item() / loss_multiple(model, several))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_labels_of_pixels_are_taken_at_the_size_of_the_scores():
    model = built("yolo26n-sem.yaml")
    batch = batch_of(model)
    _, told = heard(model, batch, TWO)
    assert told["target"].shape == (2, *told["logits"][0].shape[2:]) != batch["semantic_mask"].shape
    assert set(told["target"].unique().tolist()) <= {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", [TINY, "yolo26n-seg.yaml", "yolov8n-cls.yaml", "yolov8-rtdetr.yaml"])
@pytest.mark.parametrize("level", ["features", "input"])
def test_layers_that_run_again_in_the_backward_pass_change_nothing(name, level):
    found = []
    for recompute in (False, True):
        model = built(name)
        for norm in norms(model):
            norm.train()
            norm.momentum = 0.5
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.3
        hooks = IncompleteViews(model, recompute=recompute)
        torch.manual_seed(1)
        loss, _ = model(seen(batch_of(model), 2, TWO, level=level))
        assert not any("forward" in vars(layer) for layer in model.model), "copies and checkpoints need none"
        loss.sum().backward()
        hooks.remove()
        gradients = {key: own.grad for key, own in model.named_parameters() if own.grad is not None}
        found.append({"loss": loss.detach(), **gradients, **dict(model.named_buffers())})
    plain, recomputed = found
    assert plain.keys() == recomputed.keys()
    for key, value in plain.items():
        assert torch.equal(value, recomputed[key]), key


@pytest.mark.slow
def test_layers_that_run_again_keep_less_for_the_backward_pass():
    kept = []
    for recompute in (False, True):
        model = built("yolov8n.yaml")
        IncompleteViews(model, recompute=recompute)
        batch = seen(batch_of(model), 2, TWO)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            loss = model(batch)[0].sum()
        kept.append(sum(event.self_cpu_memory_usage for event in profile.key_averages()))
        del loss
    assert 0 < kept[1] < 0.8 * kept[0]
