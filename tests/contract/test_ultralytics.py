"""What this package assumes of stock Ultralytics. A failure here tells which file of ours to look at, and why."""

import ast
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from overrides import (
    COMMAND,
    PACKAGE,
    our_classes,
    overrides,
    overrides_of,
    parameters,
    recorded,
    recorded_version,
    stock_classes,
)
from torch import nn
from ultralytics import __version__
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import Albumentations, Format, RandomHSV
from ultralytics.data.base import BaseDataset
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_image, verify_image_label
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
from ultralytics.nn import modules, tasks
from ultralytics.utils import DEFAULT_CFG_DICT, checks, plotting
from ultralytics.utils.patches import image_open, imread
from ultralytics.utils.torch_utils import strip_optimizer

from mwam_det.engine.arguments import NOT_FOR_RECIPES, OF_OTHER_COMMANDS, OPTIMIZERS, OWN_ARGUMENTS
from mwam_det.engine.plots import DRAWN_FROM

RENEW = f"renew the snapshot: {COMMAND} (it was made with Ultralytics {recorded_version()}; {__version__} is installed)"

# Attributes that our classes add to instances of stock ones.
OWN_ATTRIBUTES = {
    "PairedDataset": ["modalities", "folders", "partners", "sizes"],
    "StackedFormat": ["modalities"],
    "LetterBoxedFormat": ["letterbox"],
    "CachedStacks": ["planar"],
    "PairTrainer": [
        "modalities",
        "mwam",
        "config",
        "run",
        "heads",
        "shares",
        "_attached",
        "_ready",
        "waiting",
        "_ahead",
        "_record",
        "_resumed",
    ],
    "PairValidator": ["modalities", "missing"],
    "MultimodalExporter": ["inputs"],
    "MultimodalYOLO": ["_wanted"],
    "PairLoader": ["modalities", "missing", "imgsz", "entries", "_open"],
    "PairPredictor": ["modalities", "missing", "_warned_of", "_shown"],
    "PairResults": ["images"],
}


def file_of(cls: type) -> str:
    return Path(inspect.getfile(cls)).relative_to(PACKAGE.parent).as_posix()


def source_of(thing) -> str:
    """Source with all white space as single blanks."""
    return " ".join(inspect.getsource(thing).split())


# Names ---------------------------------------------------------------------------------------------------------------


def test_the_optimizers_are_those_that_we_know():
    (found,) = re.findall(r"optimizers = (\{[^}]*\})", source_of(BaseTrainer.build_optimizer))
    assert ast.literal_eval(found) == set(OPTIMIZERS), "bring OPTIMIZERS in mwam_det/engine/arguments.py up to date"


# Overrides -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", recorded())
def test_the_method_that_we_override_has_the_parameters_that_we_know(row):
    ours, method = row.split(".")
    stock, before = re.fullmatch(r"(\w+)\.\w+\((.*)\)", recorded()[row]).groups()
    cls = our_classes().get(ours)
    assert cls is not None, f"{ours} is gone from mwam_det: {RENEW}"
    look = f"look at {row} in {file_of(cls)}, then {RENEW}"
    holder = overrides_of(cls).get(method)
    assert holder is not None, f"{row} no longer overrides anything of Ultralytics ({stock} had it): {look}"
    assert holder.__name__ == stock, f"{row} overrode {stock}.{method}, now it is {holder.__name__}'s: {look}"
    now = parameters(vars(holder)[method])
    assert now == before, f"the parameters of {stock}.{method} were ({before}), now they are ({now}): {look}"


def test_every_override_is_recorded():
    for row, stock in overrides().items():
        assert row in recorded(), (
            f"{row} in {file_of(our_classes()[row.split('.')[0]])} overrides {stock} of Ultralytics (perhaps a new "
            f"method of its last release): if that is meant, {RENEW}"
        )


@pytest.mark.parametrize("ours", sorted(OWN_ATTRIBUTES))
def test_names_of_our_attributes_are_free_in_ultralytics(ours):
    cls = our_classes()[ours]
    for name in OWN_ATTRIBUTES[ours]:
        for stock in stock_classes(cls):
            assert not re.search(rf"\bself\.{name}\b", inspect.getsource(stock)), (
                f"{stock.__name__} of Ultralytics now has an attribute '{name}' of its own: rename that of {ours} in "
                f"{file_of(cls)}"
            )


# Images of more than three channels ----------------------------------------------------------------------------------


def stacked(channels: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 16, channels), np.uint8)


def test_hsv_leaves_stacked_images_as_they_are():
    np.random.seed(0)
    labels = RandomHSV(0.5, 0.9, 0.9)({"img": stacked()})
    assert np.array_equal(labels["img"], stacked()), (
        "RandomHSV now changes images of 6 channels: it would colour infrared, and OnModality in "
        "mwam_det/data/transforms.py would be needless or wrong"
    )


def test_albumentations_leaves_stacked_images_as_they_are():
    transform = Albumentations.__new__(Albumentations)
    transform.p, transform.contains_spatial = 1.0, False
    transform.transform = lambda image: {"image": 255 - image}
    assert np.array_equal(transform({"img": stacked(3)})["img"], 255 - stacked(3)), "this test's stand-in is not used"
    assert np.array_equal(transform({"img": stacked()})["img"], stacked()), (
        "Albumentations now changes images of 6 channels: see OnModality in mwam_det/data/transforms.py"
    )


def test_albumentations_says_by_contains_spatial_whether_it_moves_pixels():
    assert "self.contains_spatial =" in source_of(Albumentations.__init__), (
        "Albumentations lost its attribute contains_spatial, by which colour_on_visible in mwam_det/data/transforms.py "
        "refuses transforms that would shift one modality against the others"
    )


def test_format_does_not_turn_stacked_images_to_rgb():
    image = Format(bgr=0.0)._format_img(stacked()).numpy().transpose(1, 2, 0)
    assert np.array_equal(image, stacked()), (
        "Format now reorders images of 6 channels: StackedFormat in mwam_det/data/transforms.py does that itself"
    )


def test_format_asks_apply_image_for_the_image():
    assert "self._format_img(img)" in source_of(Format.apply_image), (
        "Format.apply_image does something new: StackedFormat in mwam_det/data/transforms.py replaces it"
    )


def test_imread_gives_three_8_bit_channels_with_the_high_byte(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((12, 12), 0xA1B2, np.uint16))
    image = imread(str(tmp_path / "deep.png"), flags=cv2.IMREAD_COLOR)
    assert (image.shape, image.dtype, image.max()) == ((12, 12, 3), np.uint8, 0xA1), (
        "Ultralytics' imread reads 16-bit images differently: PairedDataset.load_image and the warning about dark "
        "images in mwam_det/data/dataset.py count on 3 channels of the high byte"
    )


def test_the_letterbox_pads_by_the_parameters_that_we_read():
    from ultralytics.data.augment import LetterBox

    source = source_of(LetterBox.apply_image)
    for name in ("new_unpad", "top", "bottom", "left", "right", "new_shape"):
        assert f'params["{name}"]' in source, (
            f"LetterBox.apply_image no longer reads '{name}': see LetterBoxedFormat in mwam_det/data/transforms.py"
        )


def test_the_letterbox_does_to_a_sample_what_we_do():
    from ultralytics.data.augment import LetterBox

    steps = re.findall(r"self\.(\w+)\(", source_of(LetterBox.__call__))
    assert steps == ["get_params", "apply_image", "apply_instances", "apply_semantic"], (
        "LetterBox does something new: LetterBoxedFormat in mwam_det/data/transforms.py takes these steps in its place"
    )


def test_images_in_ram_are_kept_by_the_class_that_we_replace():
    source = source_of(BaseDataset.cache_images)
    assert "self.ims = self._ImageCache(self.ims)" in source or not hasattr(BaseDataset, "_ImageCache"), (
        "Ultralytics keeps images in RAM in another way: see CachedStacks in mwam_det/data/dataset.py"
    )


def test_a_dataset_only_warns_where_training_is_to_be_deterministic():
    text = source_of(BaseDataset)
    assert text.count("hyp.deterministic") == 1 and "if hyp.deterministic: LOGGER.warning(" in text, (
        "we switch it off for the dataset alone"
    )


def test_a_scan_holds_five_counts_and_is_named_only_where_it_was_known():
    text = source_of(YOLODataset.get_labels)
    assert 'nf, nm, ne, nc, n = cache.pop("results")' in text, "we say them of a scan that is known"
    assert "if exists and LOCAL_RANK in {-1, 0}:" in text, "we say that the scan is new, so that it names no file"


def test_predictions_of_a_batch_are_drawn_from_the_confidence_that_we_know():
    (default,) = re.findall(r"def plot_images\(.*?conf_thres: float = ([\d.]+)", source_of(plotting))
    assert float(default) == DRAWN_FROM


def test_the_lines_that_we_leave_out_of_the_log_are_still_logged_so():
    text = " ".join(map(source_of, (BaseTrainer, tasks, strip_optimizer, checks.print_args)))
    for words in (
        "Freezing layer '",
        "Overriding model.yaml nc=",
        "Optimizer stripped from ",
        "LOGGER.info(colorstr(s)",
    ):
        assert words in text, f"engine.compat.CHATTER names lines with '{words}' for nothing"


def test_the_disk_cache_is_prepared_before_it_is_filled_and_measured_by_npy_files():
    why = "check_cache_disk of PairedDataset in mwam_det/data/dataset.py moves the files out of the user's folders"
    prepared = source_of(BaseDataset.__init__)
    assert prepared.find("self.npy_files =") < prepared.find("self.check_cache_disk()"), f"the order changed: {why}"
    assert "self.npy_files[i].stat()" in source_of(BaseDataset.cache_images), f"npy_files is not read there: {why}"


# Datasets ------------------------------------------------------------------------------------------------------------


def test_rectangular_batches_reorder_the_list_of_images():
    shapes = [(30, 60), (60, 30), (40, 40)]
    dataset = SimpleNamespace(
        ni=3,
        batch_size=2,
        labels=[{"shape": shape} for shape in shapes],
        im_files=["wide", "tall", "square"],
        imgsz=64,
        stride=32,
        pad=0.5,
    )
    BaseDataset.set_rectangle(dataset)
    assert dataset.im_files == ["wide", "square", "tall"], (
        "set_rectangle no longer sorts im_files by aspect ratio: partners in mwam_det/data/dataset.py are found by "
        "path because of it"
    )


def test_bad_images_leave_the_list_of_images():
    assert 'self.im_files = [lb["im_file"] for lb in labels]' in source_of(YOLODataset.get_labels), (
        "get_labels no longer shortens im_files to the usable images: PairedDataset in mwam_det/data/dataset.py leaves "
        "bad pairs out through it"
    )


def test_the_check_of_an_image_rewrites_a_jpeg_that_does_not_end_as_it_should(tmp_path):
    file = tmp_path / "padded.jpg"
    content = cv2.imencode(".jpg", stacked(3))[1].tobytes() + b"notes of the camera"
    file.write_bytes(content)
    message, shape = check_image(str(file))
    assert shape == (16, 16)
    assert file.read_bytes() != content, (
        "check_image no longer rewrites files of the user: image_size in mwam_det/data/pairing.py replaces it for that "
        f"reason alone and could go (it said '{message}')"
    )


def test_the_check_of_labels_takes_and_returns_what_we_know(tmp_path):
    unpacked = "im_file, lb_file, prefix, keypoint, num_cls, nkpt, ndim, single_cls = args"
    assert unpacked in source_of(verify_image_label), (
        "verify_image_label takes other arguments: see verify_pair in mwam_det/data/pairing.py"
    )
    image, labels = tmp_path / "1.png", tmp_path / "1.txt"
    cv2.imwrite(str(image), stacked(3))
    labels.write_text("0 0.5 0.5 0.2 0.2\n")
    result = verify_image_label((str(image), str(labels), "", False, 1, 0, 0, False))
    labels.write_text("5 0.5 0.5 0.2 0.2\n")
    refused = verify_image_label((str(image), str(labels), "", False, 1, 0, 0, False))
    assert len(result) == len(refused) == 10, "verify_image_label returns something new: see mwam_det/data/pairing.py"
    assert refused[0] is None
    assert "image/label: " in refused[-1], (
        "verify_image_label words its refusal differently: verify_pair in mwam_det/data/pairing.py cuts the reason out"
    )


def test_pillow_installs_a_codec_for_bytes_that_it_does_not_know():
    assert "check_requirements" in source_of(image_open), (
        "Ultralytics' Image.open no longer installs packages: image_size in mwam_det/data/pairing.py need not guard "
        "against it"
    )


@pytest.mark.parametrize("words", ["No labels found", "No valid images found"])
def test_a_dataset_without_labels_or_images_is_refused_in_the_words_that_we_look_for(words):
    assert words in source_of(YOLODataset), (
        f"YOLODataset no longer says '{words}': PairedDataset.get_labels in mwam_det/data/dataset.py tells its errors "
        "apart by that"
    )


# Arguments -----------------------------------------------------------------------------------------------------------


def test_arguments_of_ours_are_unknown_to_ultralytics():
    taken = {*OWN_ARGUMENTS, "missing"} & DEFAULT_CFG_DICT.keys()
    assert not taken, f"Ultralytics has arguments {taken} now: rename ours in mwam_det/engine/arguments.py"


def test_arguments_that_recipes_may_not_set_are_known_to_ultralytics():
    gone = (NOT_FOR_RECIPES | OF_OTHER_COMMANDS) - DEFAULT_CFG_DICT.keys()
    assert not gone, (
        f"Ultralytics lost its arguments {gone}: see NOT_FOR_RECIPES and OF_OTHER_COMMANDS in "
        "mwam_det/engine/arguments.py"
    )


def test_arguments_that_a_training_does_not_read_are_read_by_no_trainer_and_no_dataset():
    root = Path(inspect.getfile(BaseTrainer)).parents[1]
    files = [root / "engine/trainer.py", *root.glob("models/**/train.py"), *root.glob("data/*.py")]
    read = {key for file in files for key in OF_OTHER_COMMANDS
            if re.search(rf"\bargs\.{key}\b", file.read_text(encoding="utf-8"))}  # fmt: skip
    assert not read, f"a training reads {read} now: take them out of OF_OTHER_COMMANDS in mwam_det/engine/arguments.py"


def test_an_argument_is_accepted_if_and_only_if_the_base_configuration_has_it():
    why = "with_own_arguments in mwam_det/engine/arguments.py puts ours into the base for that reason"
    base = {**DEFAULT_CFG_DICT, "mwam": True}
    assert get_cfg(base, {"mwam": False}).mwam is False, f"get_cfg drops or changes keys of the base: {why}"
    with pytest.raises(SyntaxError):
        get_cfg(DEFAULT_CFG_DICT, {"mwam": False})
        pytest.fail(f"get_cfg accepts any key now: {why}")


def test_a_validator_refuses_arguments_of_ours(tmp_path):
    with pytest.raises(SyntaxError):
        DetectionValidator(save_dir=tmp_path, args={"mwam": True})
        pytest.fail(
            "validators accept unknown arguments now: without_own_arguments in mwam_det/engine/arguments.py could go"
        )


def test_finished_checkpoints_hold_no_arguments_of_ours(tmp_path):
    file = tmp_path / "last.pt"
    arguments = {**DEFAULT_CFG_DICT, "epochs": 7, "mwam": True, "run_state": {"step": 3}}
    torch.save({"model": nn.Linear(2, 2), "ema": None, "train_args": arguments}, file)
    strip_optimizer(file)
    kept = torch.load(file, weights_only=False)["train_args"]
    assert kept["epochs"] == 7
    assert not kept.keys() & OWN_ARGUMENTS.keys(), (
        "strip_optimizer keeps arguments that stock Ultralytics does not know: a plain YOLO() would refuse a finished "
        "checkpoint of ours (see save_model in mwam_det/engine/trainer.py)"
    )


# Training ------------------------------------------------------------------------------------------------------------


def test_the_loop_steps_the_optimizer_by_its_own_count_which_begins_anew_in_a_resumed_run():
    source = source_of(BaseTrainer._do_train)
    why = "optimizer_step in mwam_det/engine/trainer.py puts that right for a resumed run"
    assert "last_opt_step = -1" in source and "if ni - last_opt_step >= self.accumulate:" in source, (
        f"the training loop counts mini-batches since a step in another way now: {why}"
    )
    order = [source.index(part) for part in ("self._model_train()", "self.train_loader.reset()", "preprocess_batch(")]
    assert order == sorted(order), (
        "the training loop no longer begins an epoch before it closes mosaic and takes the first mini-batch: "
        "mwam_det/engine/resuming.py restores random states at the first of these"
    )


def test_checkpoints_are_written_by_the_methods_that_make_them_whole():
    source = source_of(BaseTrainer.save_model)
    assert "self.last.write_bytes(" in source and "self.best.write_bytes(" in source, (
        "save_model writes checkpoints in another way now: CheckpointPath in mwam_det/engine/saving.py makes them whole"
    )
    assert source.index("self.last.write_bytes(") < source.index("self.best.write_bytes("), (
        "save_model writes best.pt first now: repair_best in mwam_det/engine/saving.py mends best.pt by last.pt"
    )


def test_the_trainer_makes_a_frozen_layer_trainable_unless_freeze_names_it():
    source = source_of(BaseTrainer._setup_train)
    why = "freeze_with in mwam_det/engine/arguments.py names the split, which must stay the identity"
    assert "setting 'requires_grad=True' for frozen layer" in source, f"the trainer respects frozen layers now: {why}"
    assert 'f"model.{x}." for x in freeze_list' in source, f"the trainer reads 'freeze' in another way: {why}"


def test_the_check_of_mixed_precision_still_downloads_a_model():
    source = source_of(checks.check_amp)
    assert "yolo26n.pt" in source or "WEIGHTS_DIR" in source, (
        "check_amp no longer loads a model of its own: _setup_train_in_half_precision in mwam_det/engine/trainer.py "
        "and half_precision_works in mwam_det/engine/compat.py replace it for that reason and could go"
    )


def test_the_check_of_mixed_precision_is_left_out_without_mixed_precision():
    assert 'self.amp = self.args.amp not in {False, "fp32"}' in source_of(BaseTrainer._setup_train), (
        "the trainer decides on mixed precision in another way: _setup_train_in_half_precision in "
        "mwam_det/engine/trainer.py passes amp=False to get round the check"
    )


def test_the_scaler_is_made_before_a_checkpoint_is_resumed():
    source = source_of(BaseTrainer._setup_train)
    assert 0 < source.find("self.scaler = ") < source.find("self.resume_training(ckpt)"), (
        "the trainer sets up scaler and checkpoint in another order: _setup_train_in_half_precision in "
        "mwam_det/engine/trainer.py restores the scaler's state afterwards"
    )


@pytest.mark.parametrize("method", ["resume_training", "_handle_nan_recovery"])
def test_resume_and_recovery_from_nan_load_the_checkpoints_state_in_one_place(method):
    assert "self._load_checkpoint_state(" in source_of(getattr(BaseTrainer, method)), (
        f"{method} no longer calls _load_checkpoint_state, in which mwam_det/engine/trainer.py restores MWAM's state"
    )


def test_checkpoints_hold_the_arguments_of_the_training():
    assert '"train_args": vars(self.args)' in source_of(BaseTrainer.save_model), (
        "save_model no longer stores vars(args): MWAM's state travels there (save_model in mwam_det/engine/trainer.py)"
    )


def test_batches_come_as_bytes_and_are_normalised_by_the_trainer():
    assert "/ 255" in source_of(DetectionTrainer.preprocess_batch), (
        "preprocess_batch no longer divides by 255: MWAM observes the bytes before it (mwam_det/engine/trainer.py)"
    )
    assert "/ 255" in source_of(DetectionValidator.preprocess), (
        "preprocess no longer divides by 255: a missing modality is 0 after it (mwam_det/engine/validator.py)"
    )


def test_one_batch_is_preprocessed_for_each_backward():
    source = source_of(BaseTrainer._do_train)
    first, second = source.find("self.preprocess_batch(batch)"), source.find(".backward()")
    assert 0 < first < second, "the training loop has another order: MWAM observes a batch before its backward pass"
    assert source.count("self.preprocess_batch(batch)") == 1, (
        "the training loop preprocesses batches twice: MWAM would observe each twice (mwam_det/engine/trainer.py)"
    )


# Layers --------------------------------------------------------------------------------------------------------------


def test_cblinear_splits_the_channels_by_a_convolution():
    why = "two_stream_cfg in mwam_det/models/two_stream.py splits the stacked image with it"
    assert hasattr(modules, "CBLinear"), f"CBLinear is gone: {why}"
    split = modules.CBLinear(6, [3, 2, 1])
    assert split.conv.weight.shape == (6, 6, 1, 1), f"CBLinear's convolution has another shape: {why}"
    with torch.no_grad():
        split.conv.weight.copy_(torch.eye(6)[..., None, None])
        split.conv.bias.zero_()
    images = torch.rand(2, 6, 8, 8)
    parts = split(images)
    assert [part.shape[1] for part in parts] == [3, 2, 1], f"CBLinear splits in another way: {why}"
    assert torch.equal(torch.cat(list(parts), 1), images), f"CBLinear with identity weights is not the identity: {why}"


def test_index_picks_one_of_several_tensors():
    why = "two_stream_cfg in mwam_det/models/two_stream.py picks a modality with it"
    assert hasattr(modules, "Index"), f"Index is gone: {why}"
    parts = torch.rand(2), torch.rand(2)
    assert modules.Index(1)(parts) is parts[1], f"Index no longer returns the item itself: {why}"


# Prediction and export -----------------------------------------------------------------------------------------------


def test_a_loader_of_ours_is_taken_as_a_source():
    from ultralytics.data.build import check_source

    from mwam_det.data.sources import PairLoader

    _, *flags = check_source(PairLoader.__new__(PairLoader))
    assert flags == [False, False, False, True, False], (
        "load_inference_source no longer takes a loader as it is: see PairPredictor.setup_source in "
        "mwam_det/engine/predictor.py"
    )


def test_the_predictor_hands_what_the_loader_gives_to_the_methods_that_we_override():
    from ultralytics.engine.predictor import BasePredictor

    stream = source_of(BasePredictor.stream_inference)
    for part in ("self.preprocess(im0s)", "self.postprocess(preds, im, im0s)", "n = len(im0s)"):
        assert part in stream, f"'{part}' is gone from stream_inference: see PairPredictor in engine/predictor.py"
    written = source_of(BasePredictor.write_results)
    assert written.find("self.plotted_img = result.plot(") < written.find("self.save_predicted_images("), (
        "pictures are saved differently: see PairPredictor.save_predicted_images in mwam_det/engine/predictor.py"
    )


def test_metadata_of_an_export_can_be_added_to_before_they_are_written():
    from ultralytics.engine.exporter import Exporter

    export = source_of(Exporter.__call__)
    places = [
        export.find(part) for part in ("self.metadata = {", 'self.run_callbacks("on_export_start")', "# Export if")
    ]
    assert -1 < places[0] < places[1] < places[2], (
        "the exporter gathers its metadata elsewhere: see MultimodalExporter in mwam_det/engine/exporter.py"
    )


def test_the_exporter_works_on_a_fused_copy_of_the_model():
    from ultralytics.engine.exporter import Exporter

    export = source_of(Exporter.__call__)
    parts = (
        "model = deepcopy(model",
        "model = model.fuse(",
        "self.model = model",
        'self.run_callbacks("on_export_start")',
    )
    places = [export.find(part) for part in parts]
    assert places[0] >= 0 and places == sorted(places), (
        "the exporter copies or fuses the model elsewhere: MultimodalExporter in mwam_det/engine/exporter.py changes it"
    )


def test_calibration_takes_the_loader_that_a_subclass_may_build():
    from ultralytics.engine.exporter import Exporter

    exporter = source_of(Exporter)
    for method in ("def export_onnx(", "def export_openvino("):
        own = exporter[exporter.find(method) :].split("@try_export")[0]
        assert "self.get_int8_calibration_dataloader(prefix)" in own, (
            "INT8 is calibrated on other images: see MultimodalExporter in mwam_det/engine/exporter.py"
        )
    assert 'data_item["img"]' in source_of(Exporter._transform_fn), (
        "calibration reads other parts of a batch: see MultimodalExporter in mwam_det/engine/exporter.py"
    )


# Classification -------------------------------------------------------------------------------------------------------


def test_the_dataset_of_a_validation_is_checked_by_the_task_right_before_the_loader_is_built():
    from ultralytics.engine.validator import BaseValidator

    call = source_of(BaseValidator.__call__)
    parts = (
        'if self.args.task == "classify": self.data = check_cls_dataset(',
        'elif str(self.args.data).rsplit(".", 1)[-1] in {"yaml", "yml"}',
        "self.get_dataloader(",
    )
    places = [call.find(part) for part in parts]
    assert places[0] >= 0 and places == sorted(places) and "self.args.task" not in call[places[2] :], (
        "datasets are checked differently: see StackedClassificationValidator.__call__ in engine/classification.py"
    )


def test_the_predictor_of_classes_normalises_nothing_without_a_transform_of_its_own():
    from ultralytics.models.yolo.classify import ClassificationPredictor

    assert "return img if is_tensor else self.device_transform(img)" in source_of(ClassificationPredictor.preprocess), (
        "tensors are changed by Ultralytics: see StackedClassificationPredictor in engine/classification.py"
    )


def test_classes_are_told_by_one_number_an_image():
    from ultralytics.utils.loss import v8ClassificationLoss

    loss, _ = v8ClassificationLoss()(torch.zeros(2, 3), {"cls": torch.tensor([0, 2])})
    assert float(loss) == pytest.approx(np.log(3)), "see CentreCropFormat in mwam_det/data/classes.py"
