from collections import Counter

import pytest
import torch

from mwam_det import MWAMConfig
from mwam_det.training.incomplete import (
    IncompleteConfig,
    Views,
    check_incomplete,
    confident_divergence,
    draw_views,
    incomplete_config,
)

ABC = ["a", "b", "c"]


def drawn(count, modalities=ABC, measured=None, seed=0, **config):
    generator = torch.Generator().manual_seed(seed)
    return draw_views(count, modalities, IncompleteConfig(**config), measured, generator)


def patterns(views, view):
    """How often each combination of present modalities comes in a view."""
    rows = torch.stack([present[view] for present in views.present.values()], 1).tolist()
    return Counter("".join(name for name, there in zip(views.present, row, strict=True) if there) for row in rows)


def test_all_views_are_every_combination_once_with_the_complete_one_first():
    views = drawn(2)
    assert [dict(patterns(views, view)) for view in range(7)] == [
        {combination: 2} for combination in ("abc", "a", "b", "c", "ab", "ac", "bc")
    ]
    assert views.weights == pytest.approx([1 / 7] * 7)


def test_two_views_are_the_complete_one_and_any_other_as_often_as_each():
    views = drawn(60_000, views=2)
    assert patterns(views, 0) == {"abc": 60_000}
    found = patterns(views, 1)
    assert set(found) == {"a", "b", "c", "ab", "ac", "bc"}
    assert all(count / 60_000 == pytest.approx(1 / 6, abs=0.006) for count in found.values())
    assert views.weights == pytest.approx([1 / 7, 6 / 7])  # the drawn one stands for all six


def test_several_drawn_views_of_a_sample_differ():
    views = drawn(500, list("abcd"), views=6)
    rows = torch.stack(list(views.present.values()), -1).long()  # (V, B, M)
    codes = (rows * torch.tensor([1, 2, 4, 8])).sum(-1)
    assert all(len(set(column)) == 6 for column in codes.T.tolist())
    assert codes[0].eq(15).all() and codes[1:].gt(0).all() and codes[1:].lt(15).all()
    often = torch.bincount(codes[1:].flatten(), minlength=15)[1:15] / codes[1:].numel()
    assert often.sub(1 / 14).abs().max() < 0.015


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_one_view_is_incomplete_as_often_as_p_says(p):
    found = patterns(drawn(20_000, views=1, p=p), 0)
    assert found["abc"] / 20_000 == pytest.approx(1 - p, abs=0.01)
    assert found[""] == 0
    assert drawn(4, views=1).weights == (1.0,)


def test_weights_of_mwam_are_mean_weights_of_what_a_view_keeps():
    views = drawn(3, ["a", "b"], {"a": 1.5, "b": 0.5}, weights="mwam")
    assert views.weights == pytest.approx([1.0 / 3, 1.5 / 3, 0.5 / 3])


def test_weights_of_mwam_are_asked_for_where_they_are_needed():
    with pytest.raises(ValueError, match="weights=mwam needs MWAM's weight of every modality"):
        drawn(4, weights="mwam")


@pytest.mark.parametrize("views", [1, 2])
def test_with_drawn_views_weights_of_mwam_say_how_often_a_combination_comes(views):
    p = {"p": 1} if views == 1 else {}
    found = drawn(40_000, ["a", "b"], {"a": 1.5, "b": 0.5}, weights="mwam", views=views, **p)
    counts = patterns(found, views - 1)
    assert counts["a"] / 40_000 == pytest.approx(0.75, abs=0.01) and counts["b"] + counts["a"] == 40_000
    if views == 2:
        assert found.weights == pytest.approx([1 / 3, 2 / 3])


def test_a_weight_of_zero_still_draws_and_divides():
    assert sum(drawn(3, ["a", "b"], {"a": 0.0, "b": 0.0}, weights="mwam").weights) == pytest.approx(1)
    assert patterns(drawn(50, ["a", "b"], {"a": 0.0, "b": 1.0}, weights="mwam", views=2), 1)["b"] > 45


def test_listed_weights_are_shares():
    assert drawn(3, ["a", "b"], weights=[2, 1, 1]).weights == (0.5, 0.25, 0.25)
    assert drawn(3, ["a", "b"], weights=[1, 3], views=2).weights == (0.25, 0.75)


def test_the_same_generator_draws_the_same_and_another_seed_something_else():
    first, again, other = (drawn(64, views=2, seed=seed).present["a"] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_mixing_puts_what_stands_in_where_a_sample_lacks_the_modality():
    views = Views({"a": torch.tensor([[True, True], [False, False], [True, False]])}, (0.5, 0.25, 0.25))
    features = torch.arange(4.0).reshape(2, 2).requires_grad_()
    mixed = views.mix("a", features, torch.tensor([[7.0, 8.0]]))
    assert mixed.tolist() == [[0, 1], [2, 3], [7, 8], [7, 8], [0, 1], [7, 8]]
    mixed.sum().backward()
    assert features.grad.tolist() == [[2, 2], [1, 1]]
    assert views.mix("a", features)[2:4].eq(0).all()
    assert views.lacking["a"].tolist() == [False, False, True, True, False, True]


@pytest.mark.parametrize("views", ["all", 2, 1])
def test_mixing_keeps_the_memory_format(views):
    torch.manual_seed(0)  # a single view in which every sample lacks a modality is one sample, repeated without a copy
    features, absent = torch.rand(4, 6, 5, 5), torch.rand(1, 6, 5, 5)
    drawn = draw_views(4, ["rgb", "ir"], IncompleteConfig(views=views))
    for name in ("rgb", "ir"):
        mixed = drawn.mix(name, features, absent)
        last = drawn.mix(name, *(own.to(memory_format=torch.channels_last) for own in (features, absent)))
        assert mixed.is_contiguous() and last.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(mixed, last)


def test_outputs_of_any_structure_are_taken_apart_without_a_copy():
    views = drawn(2, ["a", "b"])
    outputs = {"x": torch.arange(6), "more": [(torch.arange(12).reshape(6, 2), None)], "stride": 8}
    parts = views.split(outputs)
    assert [part["x"].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert parts[1]["more"][0][0].tolist() == [[4, 5], [6, 7]] and parts[1]["more"][0][1] is None
    assert parts[2]["stride"] == 8 and parts[2]["x"].data_ptr() == outputs["x"][4:].data_ptr()
    with pytest.raises(ValueError, match=r"shape \(5,\) must have 6 samples"):
        views.split(torch.zeros(5))


def test_the_average_is_weighted():
    views = drawn(1, ["a", "b"], weights=[2, 1, 1])
    assert views.average(torch.tensor([4.0, 8.0, 16.0])).item() == 8.0


def test_divergence_is_zero_for_equal_predictions_and_weighs_by_the_teachers_confidence():
    teacher = torch.tensor([[9.0, 0.0], [0.0, 0.0]], requires_grad=True)
    assert confident_divergence(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    sure, unsure = teacher.detach().clone(), teacher.detach().clone()
    sure[0, 1], unsure[1, 1] = 3.0, 3.0
    p = teacher.detach().softmax(1)
    kl = [(p * (p.log() - student.log_softmax(1))).sum(1) for student in (sure, unsure)]
    weights = p.amax(1) / p.amax(1).sum()
    for student, each in zip((sure, unsure), kl, strict=True):
        assert confident_divergence(student, teacher).item() == pytest.approx((each * weights).sum().item(), abs=1e-6)
    student = sure.clone().requires_grad_()
    confident_divergence(student, teacher).backward()
    assert student.grad is not None and teacher.grad is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"views": 0}, "views=0 must be all, or a number of views"),
        ({"views": "some"}, "views='some' must be all"),
        ({"views": True}, "views=True must be all"),
        ({"level": "neck"}, "level='neck' must be one of features, input"),
        ({"weights": "fair"}, "weights='fair' must be one of equal, mwam, or a list"),
        ({"weights": [1, -1]}, "must be numbers of at least 0"),
        ({"weights": [0, 0]}, "not all 0"),
        ({"views": 1, "p": 1.2}, r"p=1.2 must be a number in \[0, 1\]"),
        ({"p": 0.5}, "p=0.5 is for views: 1"),
        ({"start": 1}, r"start=1 must be a share of the training, in \[0, 1\)"),
        ({"checkpoint": 1}, "checkpoint=1 must be true or false"),
        ({"distill": -1}, "distill=-1 must be a number, at least 0"),
        ({"views": 1, "distill": 1}, "no complete view is there to follow"),
        ({"views": 1, "weights": [1]}, "use equal or mwam"),
        ({"view": 2}, "unknown key 'view': did you mean 'views'"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_the_choices(values, words):
    with pytest.raises(ValueError, match=words):
        IncompleteConfig.from_dict(values)


@pytest.mark.parametrize(
    ("values", "modalities", "mwam", "words"),
    [
        ({}, ["a"], None, "with a alone nothing can be missing"),
        ({"views": 4}, ["a", "b"], None, "a, b have 3 combinations; use all"),
        ({"weights": [1, 1]}, ["a", "b"], None, r"weights=\[1, 1\] must be 3 numbers"),
        ({"weights": "mwam"}, ["a", "b"], None, "mwam.mode=observe measures them"),
    ],
)
def test_views_that_a_run_cannot_have_are_refused(values, modalities, mwam, words):
    with pytest.raises(ValueError, match=words):
        check_incomplete(IncompleteConfig(**values), modalities, mwam)
    check_incomplete(None, modalities, mwam)
    check_incomplete(IncompleteConfig(weights="mwam"), ["a", "b"], MWAMConfig())


def test_the_argument_is_a_switch_or_a_mapping():
    assert incomplete_config(False) is None and incomplete_config(None) is None
    assert incomplete_config(True) == incomplete_config({}) == IncompleteConfig()
    assert incomplete_config({"views": 2}) == IncompleteConfig(views=2)
    with pytest.raises(ValueError, match="incomplete='yes' must be true, false or a mapping"):
        incomplete_config("yes")
