import pytest
from ultralytics.cfg import get_cfg
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT

from mwam_det.engine.arguments import (
    OWN_ARGUMENTS,
    check_batch,
    check_precision,
    check_train_arguments,
    freeze_with,
    with_own_arguments,
    without_own_arguments,
)


def test_ultralytics_accepts_our_arguments_once_they_are_in_its_base():
    args = get_cfg(with_own_arguments(DEFAULT_CFG), {"mwam": {"gamma": 1.0}, "epochs": 3})
    assert args.mwam == {"gamma": 1.0} and args.epochs == 3 and args.fusion == "concat"


def test_none_of_our_names_is_one_of_ultralytics():
    assert not set(OWN_ARGUMENTS) & set(DEFAULT_CFG_DICT)


def test_what_goes_to_ultralytics_own_classes_is_theirs_alone():
    args = get_cfg(with_own_arguments(DEFAULT_CFG), {"mwam": False})
    assert get_cfg(overrides=without_own_arguments(args)).epochs == DEFAULT_CFG.epochs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": "many"}, "epochs=many"),
        ({"data": "coco8.yaml"}, "'data' does not belong in the train section"),
        ({"distill_model": "teacher.pt"}, "hides its streams"),
        ({"freeze": "abc"}, "freeze='abc' must be a number"),
        ({"seed": 2**32}, "seed=4294967296 must be a whole number from 0 to 4294901760"),
        ({"seed": -1}, "seed=-1 must be"),
        ({"optimizer": "SDG"}, "optimizer='SDG' must be one of auto, SGD"),
        ({"workers": -3}, "workers=-3 must be at least 0"),
        ({"classes": "car"}, "classes='car' must be the number of a class"),
        ({"classes": [0, -1]}, r"classes=\[0, -1\] must be"),
        ({"imgsz": [64, 64, 64]}, r"imgsz=\[64, 64, 64\] must be a number of pixels"),
        ({"project": __file__}, "project=.*test_arguments.py is a file: name a folder"),
    ],
)
def test_wrong_train_arguments_are_refused_with_key_and_value(arguments, words):
    with pytest.raises(ValueError, match=words):
        check_train_arguments(arguments)


@pytest.mark.parametrize("batch", [0, -1, 0.5, True, "all"])
def test_only_training_finds_a_batch_by_itself(batch):
    check_train_arguments({"optimizer": "adamw", "classes": [0, 2], "batch": 0.5})
    with pytest.raises(ValueError, match=f"batch={batch!r} must be a whole number, at least 1"):
        check_batch({"batch": batch})


@pytest.mark.parametrize(
    ("freeze", "expected"), [(None, [0]), (3, [0, 1, 2]), ([5, "23.cv2"], [0, 5, "23.cv2"]), ([0, 4], [0, 4])]
)
def test_the_split_is_added_to_whatever_is_frozen(freeze, expected):
    assert freeze_with(0, freeze) == expected


@pytest.mark.parametrize("device", ["cpu", None, ""])
def test_bfloat16_is_refused_on_a_cpu(device, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="amp=bf16 needs a GPU"):
        check_precision("bf16", device)


@pytest.mark.parametrize(("amp", "device"), [("bf16", "0"), ("bf16", [0, 1]), (True, "cpu"), (None, None)])
def test_other_precisions_are_left_to_ultralytics(amp, device):
    check_precision(amp, device)
