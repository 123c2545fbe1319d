import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hosts import rooms_section, section
from PIL import Image

from mwam_det.data.filtering import WindowFilter, apply_filter
from mwam_det.hosts.data.layout import find_samples
from mwam_det.hosts.data.samples import (
    Augmentation,
    HostModality,
    HostSample,
    ImageView,
    MultimodalDataset,
    Normalise,
    check_files,
    count_labels,
    frame_at,
    read_labels,
    read_pixels,
)


def dataset(root, augmentation=None, seed=0):
    data = find_samples(section(root), segmentation=False)
    return MultimodalDataset(data.splits["train"], data.modalities, (16, 16), augmentation, seed)


def write(file, pixels):
    cv2.imwrite(str(file), pixels)
    return file


def test_a_sample_is_its_images_as_bytes_its_class_and_its_number(pictures):
    images, target, index = dataset(pictures)[5]
    assert {name: (own.shape, own.dtype) for name, own in images.items()} == {
        name: (torch.Size([3, 16, 16]), torch.uint8) for name in ("rgb", "ir")
    }
    assert (target.item(), target.dtype, index) == (1, torch.int64, 5)


def test_a_filtered_modality_is_filtered_before_it_is_resized_and_the_others_stay(pictures):
    plain, target, _ = dataset(pictures)[5]
    found = find_samples(section(pictures, filter={"ir": {"high": 3}}), segmentation=False)
    filtered = MultimodalDataset(found.splits["train"], found.modalities, (16, 16))
    images, _, _ = filtered[5]
    expected = apply_filter(plain["ir"].numpy().transpose(1, 2, 0), WindowFilter("high", 3))
    assert np.array_equal(images["ir"].numpy().transpose(1, 2, 0), expected)
    assert torch.equal(images["rgb"], plain["rgb"])
    mean = filtered.statistics()["ir"][0]
    assert np.allclose(mean, 128 / 255, atol=0.01)  # what normalisation takes away, so that nothing is 0
    off = find_samples(section(pictures, filter=False), segmentation=False)
    assert off == find_samples(section(pictures), segmentation=False)


def test_colour_is_red_first(tmp_path):
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 2] = 200  # OpenCV's order
    pixels = read_pixels(write(tmp_path / "red.png", red), HostModality("rgb"))
    assert pixels[0, 0].tolist() == [200, 0, 0]


def test_a_name_in_no_encoding_is_read(tmp_path):
    red = np.zeros((4, 4, 3), np.uint8)
    file = tmp_path / os.fsdecode(b"caf\xe9.png")
    write(tmp_path / "red.png", red).rename(file)
    assert read_pixels(file, HostModality("rgb")).shape == (4, 4, 3)


def test_grey_and_colour_files_become_as_many_channels_as_the_modality_has(tmp_path):
    grey, colour = np.full((4, 4), 9, np.uint8), np.full((4, 4, 3), 9, np.uint8)
    for pixels in (grey, colour):
        file = write(tmp_path / "x.png", pixels)
        assert [read_pixels(file, HostModality("m", channels)).shape for channels in (1, 3)] == [(4, 4, 1), (4, 4, 3)]


def test_a_range_says_which_values_of_16_bits_become_bytes(tmp_path):
    file = write(tmp_path / "depth.png", np.array([[0, 500, 1000, 1500, 3000]], np.uint16))
    assert read_pixels(file, HostModality("depth", 1, (500, 1500))).ravel().tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(("value_range", "levels"), [((0, 100), [0, 128, 255, 0, 0]), ("minmax", [0, 85, 255, 0, 0])])
def test_what_is_no_finite_number_becomes_0_as_in_a_detector(tmp_path, value_range, levels):
    file = write(tmp_path / "heat.tiff", np.array([[0, 50, 150, np.inf, np.nan]], np.float32))
    assert read_pixels(file, HostModality("heat", 1, value_range)).ravel().tolist() == levels


def test_16_bits_without_a_range_are_refused(tmp_path):
    file = write(tmp_path / "depth.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(ValueError, match=r"depth.png has values of type uint16: say in data.range .* \{depth: \["):
        read_pixels(file, HostModality("depth", 1))


def test_a_file_that_cannot_be_read_stops_before_training(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="broken.png cannot be read"):
        check_files([HostSample({"rgb": tmp_path / "broken.png"}, 0)], [HostModality("rgb")])


def test_images_and_labels_show_the_same_view():
    pixels = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    pixels = cv2.GaussianBlur((pixels > 2000).astype(np.float32) * 200, (0, 0), 1)
    labels = (pixels > 100).astype(np.uint8)
    view = ImageView(mirrored=True, scale=1.3, top=0.4, left=0.9)
    agree = (view.of(pixels, (64, 64)) > 100) == (view.of(labels, (64, 64), labels=True) == 1)
    assert agree.mean() > 0.97


def test_a_mirrored_view_is_mirrored_left_and_right():
    pixels = np.arange(16).reshape(4, 4)
    assert (ImageView(mirrored=True).of(pixels, (4, 4)) == pixels[:, ::-1]).all()


def test_a_rotated_view_is_rotated_about_its_middle_and_black_or_void_beyond():
    pixels = np.arange(1, 26, dtype=np.uint8).reshape(5, 5)
    assert (ImageView(degrees=90).of(pixels, (5, 5)) == np.rot90(pixels)).all()
    for labels in (False, True):
        turned = ImageView(degrees=45).of(np.full((41, 41), 9, np.uint8), (41, 41), labels)
        assert (turned[[0, 0, -1, -1], [0, -1, 0, -1]] == 0).all() and turned[20, 20] == 9
        if labels:
            assert set(np.unique(turned)) == {0, 9}


def test_images_and_labels_are_rotated_alike():
    pixels = np.zeros((64, 64), np.float32)
    pixels[8:30, 20:60] = 200
    labels = (pixels > 100).astype(np.uint8)
    view = ImageView(scale=1.2, top=0.3, left=0.7, degrees=-25)
    agree = (view.of(pixels, (64, 64)) > 100) == (view.of(labels, (64, 64), labels=True) == 1)
    assert agree.mean() > 0.97 and view.of(pixels, (64, 64)).max() > 100


def test_angles_reach_to_both_sides_and_leave_the_rest_as_it_was(pictures):
    plain, rotated = dataset(pictures, Augmentation(0.5, 1.5)), dataset(pictures, Augmentation(0.5, 1.5, 30))
    angles = []
    for rotated.epoch in range(40):
        plain.epoch = rotated.epoch
        view = rotated._view(3)
        angles.append(view.degrees)
        assert replace(view, degrees=0) == plain._view(3)
    assert -30 <= min(angles) < -15 and 15 < max(angles) <= 30


def test_how_a_sample_varies_follows_from_seed_epoch_and_number_alone(pictures):
    first, second = (dataset(pictures, Augmentation(0.5, 1.5)) for _ in range(2))
    first[0]
    assert torch.equal(first[3][0]["rgb"], second[3][0]["rgb"])
    second.epoch = 1
    assert not torch.equal(first[3][0]["rgb"], second[3][0]["rgb"])
    assert not torch.equal(first[3][0]["rgb"], dataset(pictures, Augmentation(0.5, 1.5), seed=1)[3][0]["rgb"])


def test_the_modalities_of_a_sample_vary_alike(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    files = {name: write(tmp_path / f"{name}.png", pixels) for name in ("rgb", "ir")}
    varied = MultimodalDataset(
        [HostSample(files, 0)], [HostModality("rgb"), HostModality("ir")], (16, 16), Augmentation(0.5, 2)
    )
    for varied.epoch in range(5):
        images = varied[0][0]
        assert torch.equal(images["rgb"], images["ir"])


def test_normalised_images_have_mean_0_and_deviation_1(pictures):
    plain = dataset(pictures)
    batch = {name: torch.stack([plain[i][0][name] for i in range(len(plain))]) for name in ("rgb", "ir")}
    for own in Normalise(plain.statistics())(batch).values():
        assert own.mean((0, 2, 3)).abs().max() < 1e-5
        assert own.std((0, 2, 3), correction=0) == pytest.approx(torch.ones(3), abs=1e-5)


def test_labels_count_from_1_and_void_is_none_of_the_classes(rooms):
    data = find_samples(rooms_section(rooms), segmentation=True)
    images, target, _ = MultimodalDataset(data.splits["train"], data.modalities, (64, 64))[0]
    assert images["depth"].shape == (1, 64, 64)
    assert (target[:2] == -1).all() and target[2:].min() == 0 and target[2:].max() == 2
    shown = images["depth"][0].float() / 255 * 10000 / 2000
    assert torch.equal(shown.round().long() - 1, target)


def test_pixels_are_counted_by_sample_and_label(rooms):
    samples = find_samples(rooms_section(rooms), segmentation=True).splits["train"]
    counts = count_labels(samples, 4)
    assert counts.shape == (len(samples), 5) and (counts.sum(1) == 64 * 64).all()
    assert (counts[:, 0] == 2 * 64).all() and (counts[:, 4] == 0).all()  # the void border; no such class
    labels = read_labels(samples[1].target)
    assert counts[1].tolist() == [(labels == label).sum() for label in range(5)]


def test_a_label_that_is_no_class_is_refused_with_its_file(rooms):
    samples = find_samples(rooms_section(rooms), segmentation=True).splits["train"]
    with pytest.raises(ValueError, match=r"labels_40.0000.png has the label 3, but there are 2 classes"):
        count_labels(samples, 2)


def test_labels_that_are_no_whole_numbers_are_refused_by_name(tmp_path):
    file = write(tmp_path / "labels.tiff", np.ones((4, 4), np.float32))
    with pytest.raises(ValueError, match=r"labels.tiff cannot be read as labels: .* one class number per pixel"):
        read_labels(file)


@pytest.mark.parametrize("read", [lambda file: read_pixels(file, HostModality("rgb")), read_labels])
def test_a_small_file_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, read):
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.tif", compression="group4")
    with pytest.raises(ValueError, match="bomb.tif: 30000×30000 pixels are more than"):
        read(tmp_path / "bomb.tif")


def test_a_file_that_is_no_image_or_gone_is_refused_by_name(tmp_path):
    (tmp_path / "text.png").write_text("text")
    for name in ("text.png", "gone.png"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as an image"):
            read_pixels(tmp_path / name, HostModality("rgb"))


def test_a_pipe_among_the_frames_of_a_video_is_none_of_them(tmp_path):
    os.mkfifo(tmp_path / "0.jpg")
    write(tmp_path / "1.jpg", np.zeros((4, 4), np.uint8))
    assert frame_at(tmp_path, 0.0) == tmp_path / "1.jpg"
