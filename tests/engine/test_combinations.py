import pytest
import torch
from untrained import TINY, awake

from mwam_det import MultimodalYOLO
from mwam_det.data.section import resolve_dataset
from mwam_det.engine.combinations import Condition, OnePassValidator, missing_conditions
from mwam_det.engine.validator import MultimodalValidator


@pytest.fixture
def seen(monkeypatch):
    """The predictions that each validator was given, by validator."""
    seen = {}
    stock = MultimodalValidator.update_metrics

    def update_metrics(self, preds, batch):
        seen.setdefault(self, []).extend(torch.cat([p["bboxes"], p["conf"][:, None]], 1).clone() for p in preds)
        stock(self, preds, batch)

    monkeypatch.setattr(MultimodalValidator, "update_metrics", update_metrics)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolov10n.yaml", "yolo11n.yaml"])
def test_one_pass_predicts_what_separate_validations_predict(name, demo_section, tmp_path, seen):
    torch.manual_seed(0)
    model = awake(MultimodalYOLO(name).model, channels=6)
    args = {"data": resolve_dataset(demo_section), "imgsz": 64, "batch": 3, "plots": False, "device": "cpu"}
    conditions = missing_conditions(["rgb", "ir"])
    one_pass = OnePassValidator(None, tmp_path, {**args, "conditions": conditions})
    one_pass(model=model)
    for condition, validator in [(Condition(), one_pass), *zip(conditions, one_pass.others, strict=True)]:
        alone = MultimodalValidator(None, tmp_path, {**args, "missing": condition.missing})
        alone(model=model)
        assert len(seen[alone]) == 4 and sum(map(len, seen[alone])) > 0, "there is nothing to compare"
        for expected, found in zip(seen[alone], seen[validator], strict=True):
            # Rounding, which grows layer by layer, may turn round two boxes of nearly equal scores, or let NMS pick
            # another of two.
            apart = torch.cdist(found, expected, compute_mode="donot_use_mm_for_euclid_dist").min(1).values
            assert len(found) == len(expected) and (apart < 0.1).float().mean() > 0.99
        assert validator.metrics.box.map50 == pytest.approx(alone.metrics.box.map50, abs=1e-6)


def test_the_conditions_are_all_incomplete_combinations():
    missing = [condition.missing for condition in missing_conditions(["a", "b", "c"])]
    assert missing == [("b", "c"), ("a", "c"), ("a", "b"), ("c",), ("b",), ("a",)]
    assert missing_conditions(["rgb"]) == []


def test_no_hook_stays_on_the_model_even_after_an_error(demo_section, tmp_path, monkeypatch):
    model = MultimodalYOLO(TINY).model.eval()
    args = {"data": resolve_dataset(demo_section), "imgsz": 64, "plots": False, "device": "cpu"}
    monkeypatch.setattr(MultimodalValidator, "update_metrics", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        OnePassValidator(None, tmp_path, {**args, "conditions": missing_conditions(["rgb", "ir"])})(model=model)
    assert not any(module._forward_hooks for module in model.modules())


def test_test_time_augmentation_is_refused():
    with pytest.raises(ValueError, match="each combination alone"):
        OnePassValidator(args={"augment": True, "conditions": [Condition(("ir",))]})


def inputs_of(condition, section, folder, monkeypatch, batch=3):
    """The stacked images that an exported model would be given under a condition: complete and changed, per image."""
    given = []

    class Exported:
        format, names, end2end = "onnx", {0: "a"}, False

        def __call__(self, images):
            given.append(images.clone())
            return torch.zeros(len(images), 7, 1)

    model = MultimodalYOLO(TINY).model.eval()
    args = {"data": resolve_dataset(section), "imgsz": 64, "batch": batch, "plots": False, "device": "cpu"}
    validator = OnePassValidator(None, folder, {**args, "conditions": [condition]})
    complete = []
    monkeypatch.setattr(OnePassValidator, "_replay", lambda *call: None)
    stock = OnePassValidator.update_metrics

    def update_metrics(self, preds, batch):
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._model = [], Exported()
        complete.append(batch["img"].clone())
        stock(self, preds, batch)

    monkeypatch.setattr(OnePassValidator, "update_metrics", update_metrics)
    validator(model=model)
    monkeypatch.undo()
    split = [image for images in complete for image in images], [image for images in given for image in images]
    return *split, validator


def test_a_missing_modality_is_filled_and_the_other_left_alone(demo_section, tmp_path, monkeypatch):
    for fill in ("zero", "mean", "noise"):
        complete, given, _ = inputs_of(Condition(("ir",), fill), demo_section, tmp_path, monkeypatch)
        for before, after in zip(complete, given, strict=True):
            assert torch.equal(before[:3], after[:3])
            spread = after[3:].flatten(1).std(1)
            assert (spread > 0.2).all() if fill == "noise" else (spread < 1e-6).all()
    noise = given
    assert not torch.equal(noise[0], noise[1])


def test_the_mean_is_that_of_the_channels_of_the_split(demo_section, tmp_path, monkeypatch):
    complete, given, _ = inputs_of(Condition(("rgb",), "mean"), demo_section, tmp_path, monkeypatch)
    # 128×96 images fill 64×48 of each 64×64 letterbox or rectangle; the grey border is no part of the mean.
    pixels = torch.cat([image[:3].flatten(1) for image in complete], 1)
    content = pixels[:, (pixels - 114 / 255).abs().amax(0) > 1e-3]
    torch.testing.assert_close(given[0][:3, 0, 0], content.mean(1), rtol=0, atol=0.01)


def test_what_is_degraded_does_not_depend_on_the_batch(demo_section, tmp_path, monkeypatch):
    for name in ("noise", "frozen_frame", "thermal_saturation"):
        runs = [
            inputs_of(Condition(degraded=("ir", name, 5)), demo_section, tmp_path, monkeypatch, batch)
            for batch in (1, 3)
        ]
        for one, three in zip(runs[0][1], runs[1][1], strict=True):
            torch.testing.assert_close(one, three, msg=name)
        complete, given, _ = runs[0]
        assert all(torch.equal(before[:3], after[:3]) for before, after in zip(complete, given, strict=True))
        assert all((before[3:] - after[3:]).abs().max() > 0.01 for before, after in zip(complete, given, strict=True))


def test_a_frozen_sensor_shows_the_image_before(demo_section, tmp_path, monkeypatch):
    complete, given, _ = inputs_of(Condition(degraded=("ir", "frozen_frame", 5)), demo_section, tmp_path, monkeypatch)
    for before, after in zip([complete[-1], *complete], given, strict=False):
        inner = slice(12, -12)  # the borders of the letterbox stay
        torch.testing.assert_close(after[3:, inner, inner], before[3:, inner, inner])


def test_a_degraded_modality_is_run_through_its_stream_alone(demo_section, tmp_path, seen):
    torch.manual_seed(0)
    model = awake(MultimodalYOLO(TINY).model, channels=6)
    args = {"data": resolve_dataset(demo_section), "imgsz": 64, "batch": 3, "plots": False, "device": "cpu"}
    conditions = [Condition(degraded=("ir", "noise", 5)), Condition(("ir",), "noise")]
    one_pass = OnePassValidator(None, tmp_path, {**args, "conditions": conditions})
    one_pass(model=model)
    complete, degraded, filled = (torch.cat(seen[validator]) for validator in (one_pass, *one_pass.others))
    assert len({len(complete), len(degraded), len(filled)}) == 1
    assert not torch.equal(complete, degraded) and not torch.equal(degraded, filled)


def test_an_unknown_fill_or_modality_is_refused(demo_section, tmp_path):
    with pytest.raises(ValueError, match="fill='grey'"):
        Condition(("ir",), "grey")
    model = MultimodalYOLO(TINY).model.eval()
    args = {"data": resolve_dataset(demo_section), "imgsz": 64, "plots": False, "device": "cpu"}
    with pytest.raises(ValueError, match="unknown modality depth to degrade: choose from rgb, ir"):
        validator = OnePassValidator(
            None, tmp_path, {**args, "conditions": [Condition(degraded=("depth", "noise", 1))]}
        )
        validator(model=model)
