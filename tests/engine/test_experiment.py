"""A recipe of a model of Ultralytics, from its check to its report."""

from collections import Counter

import pytest
from training import SHORT

from mwam_det.data import section as sections
from mwam_det.data.paired_data import PairedData
from mwam_det.engine import experiment as experiments
from mwam_det.engine.experiment import UltralyticsExperiment
from mwam_det.recipe import RecipeError
from mwam_det.training import config


@pytest.mark.slow
def test_a_training_with_its_report_resolves_the_data_and_parses_mwam_once(demo_section, tmp_path, monkeypatch):
    calls = Counter()

    def counted(place, name):
        function = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *args: calls.update([name]) or function(*args))

    counted(sections, "_resolve_section")
    counted(PairedData, "from_dict")  # of what was resolved before and saved
    arguments = {key: value for key, value in SHORT.items() if key not in ("model", "epochs")}
    recipe = {
        "model": SHORT["model"],
        "data": demo_section,
        "report": True,
        "train": {**arguments, "epochs": 1, "project": str(tmp_path)},
    }
    experiment = UltralyticsExperiment.from_dict("run", recipe)
    counted(config, "mwam_config")
    experiment.check()
    _, folder = experiment.train()
    assert (folder / "robustness.json").is_file()
    assert calls == {"_resolve_section": 1, "mwam_config": 1}


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"batch": -1}, "train.batch=-1 only works on one device: give the total batch of all 2"),
        ({"exist_ok": True}, "train.exist_ok=true: on several devices Ultralytics would first delete"),
    ],
)
def test_what_several_devices_cannot_do_is_refused_in_a_sentence(train, words, demo_section, tmp_path, monkeypatch):
    weights = tmp_path / "run/weights/last.pt"
    weights.parent.mkdir(parents=True)
    weights.touch()
    monkeypatch.setattr(experiments, "check_device", lambda *arguments: None)  # this machine has not so many
    recipe = {
        "model": SHORT["model"],
        "data": demo_section,
        "train": {"device": "0,1", "project": str(tmp_path), **train},
    }
    with pytest.raises(RecipeError) as caught:
        UltralyticsExperiment.from_dict("run", recipe).train()
    assert words in str(caught.value) and weights.is_file()
