import numpy as np
import pytest
import reference
import torch
from pictures import letterboxed, load_pairs, pictures

from mwam_det import frequency_ratio_metric
from mwam_det.core.dct import block_dct_corners, corner_basis
from mwam_det.core.frequency import LAYOUTS, RULES, frequency_contributions, joint_flat_patches, modality_preference


def test_the_basis_is_orthonormal_and_pairs_each_low_with_the_opposite_high_coefficient():
    basis = corner_basis(8, 2).flatten(1)
    assert torch.allclose(basis @ basis.T, torch.eye(8, dtype=torch.float64), atol=1e-12)
    image = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    spectrum = np.zeros((8, 8))
    spectrum[7, 6] = 1  # the partner of the low coefficient (0, 1)
    image[0, 0] = torch.from_numpy(reference.dctn(spectrum, type=3, norm="ortho"))
    _, high = block_dct_corners(image, 8, 2)
    assert torch.allclose(high.flatten(), torch.tensor([0.0, 1, 0, 0]), atol=1e-6)


@pytest.mark.parametrize(("patch", "band"), [(8, 2), (8, 4), (8, 1), (4, 2), (16, 3)])
def test_it_equals_the_float64_restatement_for_any_patch_and_band(patch, band):
    images = pictures(0)
    measured = frequency_ratio_metric(torch.from_numpy(images), patch=patch, band=band)
    assert measured.item() == pytest.approx(reference.frm(images, patch, band), rel=1e-5)


@pytest.mark.parametrize("height,width", [(40, 56), (47, 63), (8, 8)])
def test_rows_and_columns_that_fill_no_patch_are_left_out(height, width):
    images = pictures(1, height=height, width=width)
    measured = frequency_ratio_metric(torch.from_numpy(images))
    cropped = images[:, :, : height // 8 * 8, : width // 8 * 8]
    assert measured.item() == pytest.approx(reference.frm(cropped), rel=1e-5)


def test_few_patches_are_as_exact_as_many():
    for seed in range(100):
        images = pictures(seed, batch=1, channels=1, height=8, width=16)
        measured = frequency_ratio_metric(torch.from_numpy(images))
        assert measured.item() == pytest.approx(reference.frm(images), rel=1e-5)


def test_many_patches_are_exact_though_most_are_read_in_single_precision():
    images = pictures(28, height=256, width=320)
    for align, expected in (("patch", reference.frm(images)), ("map", reference.frm_of_the_map(images))):
        measured = frequency_ratio_metric(torch.from_numpy(images), align=align)
        assert measured.item() == pytest.approx(expected, rel=1e-5)


def test_patches_that_vary_in_one_direction_only_are_exact_though_their_high_coefficients_are_zero():
    stripes = np.tile(np.arange(64, dtype=np.uint8) * 3, (1, 3, 64, 1))
    assert frequency_ratio_metric(torch.from_numpy(stripes)).item() == pytest.approx(reference.frm(stripes), rel=1e-5)


def test_channels_and_images_are_averaged_so_that_one_channel_compares_with_three():
    grey = torch.from_numpy(pictures(2, channels=1))
    value = frequency_ratio_metric(grey).item()
    assert frequency_ratio_metric(grey.repeat(1, 3, 1, 1)).item() == pytest.approx(value, rel=1e-6)
    assert frequency_ratio_metric(grey.repeat(5, 1, 1, 1)).item() == pytest.approx(value, rel=1e-6)


def test_a_slice_of_a_stacked_image_and_other_memory_formats_give_the_same_value():
    stack = torch.from_numpy(pictures(3, channels=6))
    expected = frequency_ratio_metric(stack[:, 3:].clone()).item()
    assert frequency_ratio_metric(stack[:, 3:]).item() == expected
    nhwc = stack.contiguous(memory_format=torch.channels_last)[:, 3:]
    assert frequency_ratio_metric(nhwc).item() == pytest.approx(expected, rel=1e-6)


def test_float_input_is_read_as_it_is():
    images = pictures(4).astype(np.float32) / 255
    measured = frequency_ratio_metric(torch.from_numpy(images))
    assert measured.item() == pytest.approx(reference.frm(images), rel=1e-5)
    assert measured.dtype == torch.float32


def test_autocast_does_not_change_the_value():
    images = torch.from_numpy(pictures(5))
    expected = frequency_ratio_metric(images).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert frequency_ratio_metric(images).item() == expected


def test_no_gradient_is_recorded():
    assert not frequency_ratio_metric(torch.rand(1, 3, 16, 16, requires_grad=True)).requires_grad


def test_an_all_zero_modality_measures_zero():
    assert frequency_ratio_metric(torch.zeros(2, 3, 16, 16)).item() == 0


@pytest.mark.parametrize("convert", [lambda x: x, lambda x: x.float() / 255, lambda x: (x.float() / 255).bfloat16()])
def test_only_patches_that_are_flat_in_every_channel_of_every_modality_are_marked(convert):
    rgb, ir = (torch.full((1, 3, 16, 24), 114, dtype=torch.uint8) for _ in range(2))
    rgb[0, 1, 3, 3] = 120  # patch (0, 0): one channel of one modality is not flat
    ir[0, :, 9, 9] = 120  # patch (1, 1): flat in rgb alone
    marked = joint_flat_patches([convert(rgb), convert(ir)])
    assert marked.tolist() == [[[False, True, True], [True, False, True]]]


def test_no_patch_is_joint_when_sizes_differ():
    assert joint_flat_patches([torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 24)]) is None


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (torch.zeros(3, 16, 16), ValueError, r"\(B, C, H, W\)"),
        (torch.zeros(0, 3, 16, 16), ValueError, "non-empty"),
        (torch.zeros(1, 3, 7, 16), ValueError, "no 8×8 patch fits into an image of 7×16"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.int64), TypeError, "int64"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_shape_or_type(images, error, words):
    with pytest.raises(error, match=words):
        frequency_ratio_metric(images)


def test_corners_that_would_overlap_are_refused():
    with pytest.raises(ValueError, match=r"band=5 must lie in 1..4"):
        frequency_ratio_metric(torch.zeros(1, 3, 16, 16), band=5)


OTHER_RULES = [rule for rule in RULES if rule != "frequency_ratio"]


@pytest.mark.parametrize("rule", OTHER_RULES)
@pytest.mark.parametrize(("patch", "band"), [(8, 2), (4, 2), (16, 3)])
def test_every_other_rule_equals_its_restatement(rule, patch, band):
    images = pictures(7)
    measured = modality_preference(torch.from_numpy(images), rule=rule, patch=patch, band=band)
    assert measured.item() == pytest.approx(reference.by_rule(images, rule, patch, band), rel=1e-5)


def test_the_rule_of_the_paper_is_the_default():
    images = torch.from_numpy(pictures(8))
    assert modality_preference(images).item() == frequency_ratio_metric(images).item()


@pytest.mark.parametrize(("patch", "band"), [(8, 2), (4, 2)])
def test_aligned_on_the_map_each_patch_is_divided_by_the_opposite_one(patch, band):
    images = pictures(9, height=40, width=48)
    measured = frequency_ratio_metric(torch.from_numpy(images), patch=patch, band=band, align="map")
    assert measured.item() == pytest.approx(reference.frm_of_the_map(images, patch, band), rel=1e-5)
    assert measured.item() != pytest.approx(reference.frm(images, patch, band), rel=1e-2)


@pytest.mark.parametrize("rule", RULES)
def test_patches_that_are_left_out_do_not_count_in_any_rule(rule):
    content = pictures(10, height=40, width=48)
    padded = torch.from_numpy(letterboxed(content, 16, 16))
    marked = joint_flat_patches([padded, padded])
    measured = modality_preference(padded, rule=rule, ignore=marked)
    assert measured.item() == pytest.approx(modality_preference(torch.from_numpy(content), rule=rule).item(), rel=1e-5)


def test_aligned_on_the_map_a_pair_is_left_out_if_either_patch_is():
    content = pictures(11, height=40, width=48)
    lopsided = torch.from_numpy(letterboxed(content, 0, 16))  # the upper two rows of patches meet padding
    measured = frequency_ratio_metric(lopsided, ignore=joint_flat_patches([lopsided, lopsided]), align="map")
    inner = content[:, :, 16:]
    assert measured.item() == pytest.approx(reference.frm_of_the_map(inner), rel=1e-5)


@pytest.mark.parametrize("rule", OTHER_RULES)
def test_brightness_alone_moves_every_rule_but_the_one_without_dc(rule):
    images = torch.from_numpy(pictures(12) // 2)
    brighter = images + 100
    change = modality_preference(brighter, rule=rule) / modality_preference(images, rule=rule)
    assert change.item() == pytest.approx(1, rel=1e-3) if rule == "ac_ratio" else change > 1.2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rule": "median"}, "rule='median' must be one of frequency_ratio, low_l1"),
        ({"align": "image"}, "align='image' must be one of patch, map"),
        ({"rule": "low_l1", "align": "map"}, "pairs no coefficients"),
        ({"rule": "ac_ratio", "band": 1}, "band of at least 2"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        modality_preference(torch.zeros(1, 3, 16, 16), **arguments)


@pytest.mark.parametrize(("rule", "share"), [("frequency_ratio", 0.33), ("ratio_of_sums", 0.38), ("ac_ratio", 0.54)])
def test_the_rules_give_the_recorded_shares_on_real_pairs(shared_data, rule, share):
    rgb, ir = (modality_preference(torch.from_numpy(x), rule=rule) for x in load_pairs(shared_data / "dronevehicle6"))
    assert (2 * rgb / (rgb + ir)).item() == pytest.approx(share, abs=0.005)


def test_real_pairs_agree_with_the_restatement_with_and_without_letterbox(shared_data):
    rgb, ir = load_pairs(shared_data / "dronevehicle6")
    content = []
    for pair in ((rgb, ir), (letterboxed(rgb, 64, 64), letterboxed(ir, 64, 64))):
        leave_out = reference.flat_in_all(pair, 8)
        marked = joint_flat_patches([torch.from_numpy(images) for images in pair])
        assert (marked.numpy() == leave_out).all()
        for images in pair:
            measured = frequency_ratio_metric(torch.from_numpy(images), ignore=marked).item()
            assert measured == pytest.approx(reference.frm(images, leave_out=leave_out), rel=1e-5)
            content.append(measured)
    assert content[:2] == pytest.approx(content[2:], rel=1e-5), "padding that is flat in all modalities must not count"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_with_tf32_switched_on_gives_the_value_of_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    images = torch.from_numpy(pictures(6))
    with torch.autocast("cuda", dtype=torch.float16):
        measured = frequency_ratio_metric(images.cuda())
    assert measured.device.type == "cuda"
    assert measured.item() == pytest.approx(reference.frm(images.numpy()), rel=1e-5)


def volumes(seed, batch=2, channels=2, depth=17, height=25, width=32):
    """Smooth uint8 volumes with a little noise, their first layer of 8 slices constant in the upper rows."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(0, 3, side) for side in (depth, height, width)), indexing="ij")
    smooth = np.sin(np.tensordot(rng.uniform(0.5, 3, (batch * channels, 3)), np.stack(axes), 1))
    noisy = 127 + 90 * smooth + rng.normal(0, 3, smooth.shape)
    made = noisy.clip(0, 255).astype(np.uint8).reshape(batch, channels, depth, height, width)
    made[:, :, :8, :8] = 114
    return made


@pytest.mark.parametrize("align", ["patch", "map"])
@pytest.mark.parametrize(("patch", "band"), [(8, 2), (4, 2), (8, 1)])
def test_volumes_equal_the_float64_restatement(patch, band, align):
    made = volumes(20)
    measured = frequency_ratio_metric(torch.from_numpy(made), patch=patch, band=band, layout="volume", align=align)
    expected = reference.frm_of_volumes(made, patch, band, on_the_map=align == "map")
    assert measured.item() == pytest.approx(expected, rel=1e-5)


def test_cubes_of_a_volume_that_are_flat_in_all_modalities_are_marked_and_left_out():
    made = volumes(21)
    images = torch.from_numpy(made)
    marked = joint_flat_patches([images, images[:, :1]], layout="volume")
    expected = np.zeros((2, 2, 3, 4), dtype=bool)
    expected[:, 0, 0] = True
    assert (marked.numpy() == expected).all()
    measured = frequency_ratio_metric(images, layout="volume", ignore=marked)
    assert measured.item() == pytest.approx(reference.frm_of_volumes(made, leave_out=expected), rel=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layout", ["slices", "video"])
def test_slices_and_frames_are_images(layout, rule):
    made = torch.from_numpy(volumes(22))
    images = made.transpose(1, 2).flatten(0, 1)
    made = made if layout == "slices" else made.transpose(1, 2)
    marked = joint_flat_patches([made, made], layout=layout)
    assert torch.equal(marked, joint_flat_patches([images, images]))
    assert marked.any()
    for ignore in (None, marked):
        measured = modality_preference(made, rule=rule, layout=layout, ignore=ignore)
        expected = modality_preference(images, rule=rule, ignore=ignore)
        assert measured.item() == pytest.approx(expected.item(), rel=1e-6)
    mapped = frequency_ratio_metric(made, layout=layout, align="map").item()
    assert mapped == pytest.approx(frequency_ratio_metric(images, align="map").item(), rel=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_one_item_of_any_channel_count_is_measured(layout, channels):
    made = volumes(23, batch=1, channels=channels)
    made = torch.from_numpy(made[:, :, 8] if layout == "image" else made)
    measured = frequency_ratio_metric(made, layout=layout, ignore=joint_flat_patches([made, made], layout=layout))
    assert measured.shape == ()
    assert measured.isfinite()
    assert measured > 0


@pytest.mark.parametrize(
    ("shape", "layout", "words"),
    [
        ((1, 3, 16, 16), "volume", r"shape \(B, C, D, H, W\) for layout='volume', got \(1, 3, 16, 16\)"),
        ((1, 3, 16, 16), "slices", r"shape \(B, C, D, H, W\) for layout='slices'"),
        ((1, 3, 16, 16), "video", r"shape \(B, T, C, H, W\) for layout='video'"),
        ((1, 3, 16, 16, 16), "image", r"shape \(B, C, H, W\) for layout='image'"),
        ((1, 3, 7, 16, 16), "volume", "no 8×8×8 patch fits into a volume of 7×16×16"),
        ((1, 3, 16, 16), "film", "layout='film' must be one of image, volume, slices, video"),
    ],
)
def test_a_shape_that_is_not_of_the_layout_is_refused(shape, layout, words):
    for measure in (
        frequency_ratio_metric,
        modality_preference,
        lambda x, layout: joint_flat_patches([x], layout=layout),
    ):
        with pytest.raises(ValueError, match=words):
            measure(torch.zeros(shape), layout=layout)


def test_marks_of_another_grid_are_refused_with_the_grid_that_is_expected():
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3\) for layout='image', got \(1, 2, 2\)"):
        frequency_ratio_metric(torch.zeros(1, 3, 16, 24), ignore=torch.zeros(1, 2, 2, dtype=torch.bool))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type_is_measured_as_exactly_as_its_own_rounding_allows(dtype):
    images = (torch.from_numpy(pictures(24)).double() / 255).to(dtype)
    measured = frequency_ratio_metric(images)
    assert measured.item() == pytest.approx(reference.frm(images.double().numpy()), rel=1e-5)


def test_global_tf32_flags_do_not_change_the_value(monkeypatch):
    images = torch.from_numpy(pictures(25))
    expected = frequency_ratio_metric(images).item()
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert frequency_ratio_metric(images).item() == expected
    finally:
        torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize(("dtype", "batch"), [(torch.float32, 4), (torch.uint8, 16)])
def test_a_slice_of_a_stack_is_measured_with_little_memory_and_without_a_copy_of_it(dtype, batch):
    stack = torch.from_numpy(pictures(26, batch=1, channels=6, height=640, width=640)).to(dtype).repeat(batch, 1, 1, 1)
    images = stack[:, 3:]
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        frequency_ratio_metric(images)
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0 < peak < 0.15 * images.numel() * images.element_size()


@pytest.mark.slow
def test_compiled_as_one_graph_the_metric_and_the_marks_are_the_same(machine_code):
    images = torch.from_numpy(letterboxed(pictures(27, height=40, width=48), 16, 16))
    marked = joint_flat_patches([images, images])
    compiled = torch.compile(joint_flat_patches, fullgraph=True)
    assert torch.equal(compiled([images, images]), marked)
    measured = torch.compile(frequency_ratio_metric, fullgraph=True)(images, ignore=marked)
    assert measured.item() == pytest.approx(frequency_ratio_metric(images, ignore=marked).item(), rel=1e-5)


@pytest.mark.parametrize("align", ["patch", "map"])
@pytest.mark.parametrize("band", [1, 2, 4])
def test_what_coefficients_contribute_sums_up_to_the_metric_of_every_smaller_band(align, band):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (3, 2, 32, 41), dtype=torch.uint8)
    images[:, :, :8, :8] = 7
    ignore = joint_flat_patches([images])
    parts = frequency_contributions(images, band=band, ignore=ignore, align=align)
    assert parts.shape == (band, band)
    for q in range(1, band + 1):
        whole = frequency_ratio_metric(images, band=q, ignore=ignore, align=align)
        assert parts[:q, :q].sum().item() == pytest.approx(whole.item(), rel=1e-5)


def test_brightness_adds_to_the_first_coefficient_alone():
    torch.manual_seed(0)
    images = torch.randint(50, 100, (2, 1, 16, 16), dtype=torch.uint8)
    dark, bright = (frequency_contributions(x) for x in (images, images + 100))
    assert bright[0, 0] > 1.5 * dark[0, 0]
    assert torch.allclose(bright.flatten()[1:], dark.flatten()[1:])
