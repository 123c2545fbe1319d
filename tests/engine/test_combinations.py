import pytest
import torch
from untrained import awake

from mwam_det import MultimodalYOLO
from mwam_det.data.layout import resolve_dataset
from mwam_det.engine.combinations import Condition, OnePassValidator, missing_conditions
from mwam_det.engine.validator import MultimodalValidator


@pytest.fixture
def seen(monkeypatch):
    """The predictions that each validator was given, by validator."""
    seen = {}
    stock = MultimodalValidator.update_metrics

    def update_metrics(self, preds, batch):
        seen.setdefault(id(self), []).extend(torch.cat([p["bboxes"], p["conf"][:, None]], 1).clone() for p in preds)
        stock(self, preds, batch)

    monkeypatch.setattr(MultimodalValidator, "update_metrics", update_metrics)
    return seen


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
        assert len(seen[id(alone)]) == 4 and sum(map(len, seen[id(alone)])) > 0, "there is nothing to compare"
        for expected, found in zip(seen[id(alone)], seen[id(validator)], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=0.05)  # pixels; rounding grows layer by layer
        assert validator.metrics.box.map50 == pytest.approx(alone.metrics.box.map50, abs=1e-6)


def test_the_conditions_are_all_incomplete_combinations():
    missing = [condition.missing for condition in missing_conditions(["a", "b", "c"])]
    assert missing == [("b", "c"), ("a", "c"), ("a", "b"), ("c",), ("b",), ("a",)]
    assert missing_conditions(["rgb"]) == []


def test_no_hook_stays_on_the_model_even_after_an_error(demo_section, tmp_path, monkeypatch):
    model = MultimodalYOLO("yolov8n.yaml").model.eval()
    args = {"data": resolve_dataset(demo_section), "imgsz": 64, "plots": False, "device": "cpu"}
    monkeypatch.setattr(MultimodalValidator, "update_metrics", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        OnePassValidator(None, tmp_path, {**args, "conditions": missing_conditions(["rgb", "ir"])})(model=model)
    assert not any(module._forward_hooks for module in model.modules())


def test_test_time_augmentation_is_refused():
    with pytest.raises(ValueError, match="each combination alone"):
        OnePassValidator(args={"augment": True, "conditions": [Condition(("ir",))]})
