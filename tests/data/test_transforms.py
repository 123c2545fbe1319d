import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import Albumentations, Compose, Format, LetterBox, RandomFlip, RandomHSV, v8_transforms
from ultralytics.utils.instance import Instances

from mwam_det.data.errors import DatasetError
from mwam_det.data.modality import Modality
from mwam_det.data.transforms import (
    LetterBoxedFormat,
    OnModality,
    StackedFormat,
    colour_on_visible,
    copy_channels,
    fuse_letterbox,
)

RGB = Modality("rgb", 3, 0, visible=True)
IR = Modality("ir", 3, 3)
SIZE = (12, 16)
GAINS = {"hgain": 0.5, "sgain": 0.7, "vgain": 0.4}


def image(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 256, (*SIZE, channels), np.uint8)


def labels_of(img: np.ndarray) -> dict:
    boxes = np.float32([[0.5, 0.5, 0.2, 0.4]])
    instances = Instances(boxes, np.zeros((0, 1000, 2), np.float32), None, bbox_format="xywh", normalized=True)
    return {"img": img.copy(order="K"), "cls": np.float32([[1]]), "instances": instances}


def formatted(img: np.ndarray, *modalities: Modality, **arguments) -> np.ndarray:
    """Format an image and return the result as (H, W, C)."""
    tensor = StackedFormat(modalities, **arguments)(labels_of(img))["img"]
    assert tensor.dtype == torch.uint8
    assert tensor.is_contiguous()
    return tensor.numpy().transpose(1, 2, 0)


def albumentations(spatial: bool) -> Albumentations:
    """What Ultralytics builds where the package albumentations is installed."""
    transform = Albumentations.__new__(Albumentations)
    transform.p, transform.contains_spatial = 1.0, spatial
    transform.transform = lambda image: {"image": 255 - image}
    return transform


# Format --------------------------------------------------------------------------------------------------------------


def test_every_colour_modality_is_turned_from_bgr_to_rgb():
    img = image(6)
    assert np.array_equal(formatted(img, RGB, IR), img[..., [2, 1, 0, 5, 4, 3]])


def test_a_modality_of_one_channel_is_left_alone():
    img = image(7)
    modalities = RGB, Modality("depth", 1, 3), Modality("ir", 3, 4)
    assert np.array_equal(formatted(img, *modalities), img[..., [2, 1, 0, 3, 6, 5, 4]])


def test_three_modalities_of_one_channel_are_no_colour_image():
    img = image(3)
    modalities = [Modality(name, 1, start) for start, name in enumerate("abc")]
    assert np.array_equal(formatted(img, *modalities), img)


def test_a_single_colour_modality_is_turned_as_ultralytics_does():
    img = image(3)
    stock = Format()(labels_of(img))["img"]
    assert np.array_equal(formatted(img, RGB), img[..., ::-1])
    assert np.array_equal(formatted(img, RGB), stock.numpy().transpose(1, 2, 0))


def test_bgr_keeps_the_visible_modality_alone_in_bgr():
    img = image(6)
    assert np.array_equal(formatted(img, RGB, IR, bgr=1), img[..., [0, 1, 2, 5, 4, 3]])


def test_bgr_has_no_effect_where_no_modality_is_visible():
    img = image(6)
    assert np.array_equal(formatted(img, Modality("a", 3, 0), IR, bgr=1), img[..., [2, 1, 0, 5, 4, 3]])


def test_bgr_of_a_half_turns_about_every_other_image_as_ultralytics_would():
    img = image(3)
    ours, stock = StackedFormat([RGB], bgr=0.5), Format(bgr=0.5)
    turned = []
    for seed in range(20):
        random.seed(seed)
        tensor = ours(labels_of(img))["img"]
        random.seed(seed)
        assert torch.equal(tensor, stock(labels_of(img))["img"])
        turned.append(np.array_equal(tensor.numpy()[0], img[..., 2]))
    assert 0 < sum(turned) < 20


@pytest.mark.parametrize("number", [0, 1, 50])
@pytest.mark.parametrize(
    "changes",
    [{}, {"normalize": False}, {"batch_idx": False}, {"bbox_format": "xyxy"}, {"return_obb": True}],
    ids=lambda changes: "+".join(changes) or "as in training",
)
def test_boxes_and_classes_are_formatted_as_ultralytics_does_bit_for_bit(number, changes):
    arguments = {"bbox_format": "xywh", "normalize": True, "batch_idx": True, **changes}
    draw, samples = np.random.default_rng(number), []
    boxes, outlines = draw.random((number, 4), np.float32), draw.random((number, 100, 2), np.float32)
    for transform in (StackedFormat([RGB, IR], **arguments), Format(**arguments)):
        instances = Instances(boxes.copy(), outlines.copy(), None, bbox_format="xywh", normalized=True)
        samples.append(transform({"img": image(6), "cls": np.ones((number, 1), np.float32), "instances": instances}))
    ours, stock = samples
    assert ours.keys() == stock.keys()
    for key in stock.keys() - {"img"}:
        assert torch.equal(ours[key], stock[key])
        assert ours[key].dtype == stock[key].dtype


def planar(img: np.ndarray) -> np.ndarray:
    """The same image with its planes one after the other in memory."""
    return np.ascontiguousarray(img.transpose(2, 0, 1)).transpose(1, 2, 0)


@pytest.mark.parametrize("modalities", [(RGB, IR), (RGB, Modality("ir", 1, 3)), (Modality("ir", 1, 0),)])
def test_the_order_in_memory_does_not_matter(modalities):
    img = image(modalities[-1].slice.stop)
    assert np.array_equal(formatted(planar(img), *modalities), formatted(img, *modalities))
    turned = np.ascontiguousarray(img[::-1, ::-1])[::-1, ::-1]
    assert np.array_equal(formatted(turned, *modalities), formatted(img, *modalities))


# Letterbox -----------------------------------------------------------------------------------------------------------


STACKS = {1: (1,), 3: (3,), 4: (3, 1), 6: (3, 3), 9: (3, 3, 3)}
"""Channels of the modalities by channels of the stack."""


def stacked(channels: int) -> list[Modality]:
    counts = STACKS[channels]
    return [Modality(f"m{i}", count, sum(counts[:i]), visible=i == 0) for i, count in enumerate(counts)]


@pytest.mark.parametrize("channels", STACKS)
@pytest.mark.parametrize("shape", [(16, 16), (12, 20), (20, 16), (17, 23), (8, 8), (12, 16)])
@pytest.mark.parametrize("in_memory", [np.ascontiguousarray, planar], ids=["pixel by pixel", "plane by plane"])
def test_letterbox_and_formatting_in_one_give_what_they_give_one_after_the_other(channels, shape, in_memory):
    box = LetterBox(new_shape=shape, scaleup=False, padding_value=7)
    formatting = StackedFormat(stacked(channels), normalize=True, bgr=0.5)
    (ours,) = fuse_letterbox(Compose([box, formatting])).tolist()
    assert type(ours) is LetterBoxedFormat
    for seed in range(4):
        a, b = labels_of(in_memory(image(channels))), labels_of(image(channels))
        a["ratio_pad"] = b["ratio_pad"] = (1.0, 1.0)
        random.seed(seed)
        a, after = ours(a), random.random()
        random.seed(seed)
        b = formatting(box(b))
        assert after == random.random()
        assert a.keys() == b.keys()
        for key in ("img", "bboxes", "cls", "batch_idx"):
            assert torch.equal(a[key], b[key])
        assert all(a[key] == b[key] for key in ("resized_shape", "ratio_pad"))


def test_an_image_that_is_resized_is_not_arranged_and_stays_as_it_was():
    fused = LetterBoxedFormat(LetterBox(new_shape=8), StackedFormat([RGB, IR]))
    labels = {**labels_of(image(4)), "rect_shape": np.array([8, 8])}
    before = set(labels)
    assert fused.arrange(labels) is None
    assert set(labels) == before


def test_a_letterbox_is_fused_with_formatting_where_nothing_else_is_there():
    box, formatting = LetterBox(), StackedFormat([RGB, IR])
    (fused,) = fuse_letterbox(Compose([box, formatting])).tolist()
    assert (type(fused), fused.letterbox, fused.modalities) == (LetterBoxedFormat, box, (RGB, IR))
    flip = RandomFlip(p=0.5)
    for unlike in ([flip, box, formatting], [formatting], [box, flip, formatting], [box]):
        assert fuse_letterbox(Compose(unlike)).tolist() == unlike


def test_channels_are_copied_to_the_planes_that_are_named():
    img, planes = image(6), np.zeros((2, 20, 30), np.uint8)
    copy_channels(img, [(5, planes[0, 4:16, 8:24]), (1, planes[1, :12, :16])])
    assert np.array_equal(planes[0, 4:16, 8:24], img[..., 5])
    assert np.array_equal(planes[1, :12, :16], img[..., 1])
    assert planes.sum() == img[..., [5, 1]].sum()


# Colour --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1])
def test_hsv_changes_the_visible_channels_alone_and_as_ultralytics_does_bit_for_bit(place):
    visible = Modality("rgb", 3, 3 * place, visible=True)
    for seed in range(5):
        img = image(6)
        np.random.seed(seed)
        ours = OnModality(RandomHSV(**GAINS), visible)(labels_of(img))["img"]
        np.random.seed(seed)
        stock = RandomHSV(**GAINS)({"img": img[..., visible.slice].copy()})["img"]
        others = np.delete(np.arange(6), visible.slice)
        assert np.array_equal(ours[..., visible.slice], stock)
        assert not np.array_equal(stock, img[..., visible.slice])
        assert np.array_equal(ours[..., others], img[..., others])


def test_a_transform_sees_its_modality_as_an_image_of_its_own_with_the_labels():
    seen = {}

    def look(labels):
        seen.update(labels)
        return labels

    labels = labels_of(image(6))
    returned = OnModality(look, IR)(labels)
    assert np.array_equal(seen["img"], image(6)[..., 3:])
    assert seen["img"].flags["C_CONTIGUOUS"]
    assert seen["instances"] is labels["instances"]
    assert returned is labels
    assert labels["img"].shape == (*SIZE, 6)


def test_a_transform_that_returns_a_new_image_is_taken_over():
    labels = OnModality(albumentations(spatial=False), RGB)(labels_of(image(6)))
    assert np.array_equal(labels["img"][..., :3], 255 - image(6)[..., :3])
    assert np.array_equal(labels["img"][..., 3:], image(6)[..., 3:])


def test_colour_transforms_are_put_on_the_visible_modality_and_others_stay_as_they_are():
    flip, box = RandomFlip(p=0.5), LetterBox()
    hsv, photometric = RandomHSV(**GAINS), albumentations(spatial=False)
    transforms = colour_on_visible(Compose([flip, photometric, hsv, box]), [IR, RGB]).tolist()
    assert transforms[0] is flip
    assert transforms[3] is box
    for wrapped, own in zip(transforms[1:3], (photometric, hsv), strict=True):
        assert isinstance(wrapped, OnModality)
        assert wrapped.transform is own
        assert wrapped.modality is RGB


def test_without_a_visible_modality_colour_transforms_are_taken_out():
    flip = RandomFlip(p=0.5)
    transforms = [albumentations(spatial=False), RandomHSV(**GAINS), flip]
    assert colour_on_visible(Compose(transforms), [Modality("a", 3, 0), IR]).tolist() == [flip]


def test_the_transforms_that_were_given_are_not_changed():
    given = Compose([RandomHSV(**GAINS), RandomFlip(p=0.5)])
    before = given.tolist().copy()
    colour_on_visible(given, [RGB, IR])
    assert given.tolist() == before


@pytest.mark.parametrize("modalities", [(RGB, IR), (Modality("a", 3, 0), IR)])
def test_an_albumentations_transform_that_moves_pixels_is_refused_with_what_to_use_instead(modalities):
    with pytest.raises(DatasetError) as caught:
        colour_on_visible(Compose([albumentations(spatial=True)]), modalities)
    message = str(caught.value)
    assert "augmentations" in message
    assert "moves pixels" in message
    assert all(name in message for name in ("degrees", "translate", "scale", "fliplr"))


def test_albumentations_without_its_package_is_no_mistake():
    bare = Albumentations.__new__(Albumentations)
    bare.p, bare.transform = 1.0, None
    (transform,) = colour_on_visible(Compose([bare]), [RGB, IR]).tolist()
    assert transform is bare  # nothing is copied for what does nothing
    assert np.array_equal(transform(labels_of(image(6)))["img"], image(6))


def test_no_colour_transform_hides_deeper_in_ultralytics_list():
    dataset = SimpleNamespace(data={}, cache=None, use_obb=False)
    transforms = v8_transforms(dataset, 64, get_cfg(overrides={"hsv_h": 0.5, "mixup": 1.0, "cutmix": 1.0}))

    def all_of(transform) -> list:
        nested = [getattr(transform, "pre_transform", None), *getattr(transform, "transforms", [])]
        return [transform, *(leaf for child in nested if child is not None for leaf in all_of(child))]

    colour = [t for t in all_of(transforms) if isinstance(t, RandomHSV | Albumentations)]
    assert len(colour) == 2
    assert all(any(t is top for top in transforms.tolist()) for t in colour)


def test_hsv_without_gains_is_not_wrapped_and_changes_nothing():
    none = RandomHSV(0, 0, 0)
    (transform,) = colour_on_visible(Compose([none]), [RGB, IR]).tolist()
    assert transform is none
    for channels in (3, 6):
        assert np.array_equal(transform(labels_of(image(channels)))["img"], image(channels))


def test_hsv_changes_nothing_of_a_visible_modality_of_one_channel():
    grey = Modality("rgb", 1, 0, visible=True)
    (transform,) = colour_on_visible(Compose([RandomHSV(**GAINS)]), [grey, Modality("ir", 3, 1)]).tolist()
    assert np.array_equal(transform(labels_of(image(4)))["img"], image(4))


def test_transforms_can_be_sent_to_workers():
    transform = pickle.loads(pickle.dumps(OnModality(RandomHSV(**GAINS), RGB)))
    assert transform.modality == RGB
    assert pickle.loads(pickle.dumps(StackedFormat([RGB, IR], bgr=0.5))).modalities == (RGB, IR)
