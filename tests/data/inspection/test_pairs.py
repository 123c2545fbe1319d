import cv2
import numpy as np
import pytest
from inspections import files, finding_with, look_at, rewrite


def test_swapped_folders_are_named(demo_section):
    inspection = look_at({**demo_section, "modalities": {"rgb": "infrared", "ir": "visible"}})
    assert "rgb and ir seem swapped" in inspection.findings[0]
    assert "12 of 12 sampled pairs" in inspection.findings[0]


def test_some_swapped_pairs_are_named_as_a_guess(section):
    for rgb, ir in zip(files(section, "rgb")[:2], files(section, "ir")[:2], strict=True):
        pixels = cv2.imread(str(rgb)), cv2.imread(str(ir), cv2.IMREAD_GRAYSCALE)
        rewrite(rgb, pixels[1])
        rewrite(ir, pixels[0])
    finding = finding_with(look_at(section), "swapped")
    assert "perhaps swapped" in finding
    assert "2 of 12" in finding
    assert str(files(section, "rgb")[0]) in finding or str(files(section, "rgb")[1]) in finding


def test_a_set_of_pseudo_colour_beside_colour_is_not_called_swapped(section):
    for split in ("train", "val"):
        for file in files(section, "ir", split):
            rewrite(file, cv2.applyColorMap(cv2.imread(str(file)), cv2.COLORMAP_INFERNO))
    inspection = look_at(section)
    assert not [sentence for sentence in inspection.findings if "swapped" in sentence]
    assert "perhaps thermal in pseudo-colour" in finding_with(inspection, "ir has colour")


def test_pseudo_colour_beside_a_grey_camera_is_called_swapped_only_perhaps(section):
    for split in ("train", "val"):
        for file in files(section, "rgb", split):
            rewrite(file, cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
        for file in files(section, "ir", split):
            rewrite(file, cv2.applyColorMap(cv2.imread(str(file)), cv2.COLORMAP_JET))
    assert "perhaps swapped" in finding_with(look_at(section), "swapped")


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY),
        lambda pixels: pixels[..., 1] // 2 + 60,
        lambda pixels: cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])[1], 1),
        lambda pixels: cv2.resize(pixels, None, fx=2, fy=2),
    ],
    ids=["grey", "green channel, darker", "compressed", "enlarged"],
)
def test_an_infrared_image_that_is_made_of_the_colour_image_is_named(section, change):
    for split in ("train", "val"):
        for rgb, ir in zip(files(section, "rgb", split), files(section, "ir", split), strict=True):
            rewrite(ir, change(cv2.imread(str(rgb))), ".png")
    finding = look_at(section).findings[0]
    assert "ir shows the same picture as rgb" in finding
    assert "12 of 12 sampled pairs" in finding


@pytest.mark.slow
def test_a_16_bit_modality_that_would_be_nearly_black_is_named_with_its_remedy(section):
    for split in ("train", "val"):
        for file in files(section, "ir", split):
            rewrite(file, cv2.imread(str(file), cv2.IMREAD_GRAYSCALE).astype(np.uint16) * 8, ".png")
    inspection = look_at(section)
    assert inspection.modalities["ir"].formats == {"16 bit, 1 channel": 12}
    assert "range: {ir: percentile}" in finding_with(inspection, "single value")
    mended = look_at({**section, "range": {"ir": "percentile"}})
    assert not [sentence for sentence in mended.findings if "single value" in sentence]
    wrong = look_at({**section, "range": {"ir": [0, 60000]}})
    assert "do not fit 'range: {ir: [0" in finding_with(wrong, "single value")


def test_an_empty_image_is_named(section):
    file = files(section, "ir")[0]
    rewrite(file, np.zeros((96, 128), np.uint8))
    assert "1 of 12 sampled pairs" in finding_with(look_at(section), "a single value")


def test_partners_of_another_size_or_shape_are_told_apart(section):
    for file in files(section, "ir"):
        rewrite(file, cv2.resize(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), (64, 48)))
    for file in files(section, "ir", "val"):
        rewrite(file, cv2.resize(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), (64, 64)))
    inspection = look_at(section)
    assert inspection.modalities["ir"].sizes == {"64×48": 8, "64×64": 4}
    assert (inspection.modalities["ir"].other_size, inspection.modalities["ir"].other_shape) == (12, 4)
    assert "distorted" in finding_with(inspection, "4 of 12 pairs")
