"""The keys that are shown are those that are accepted, with the defaults that they have."""

from dataclasses import MISSING, fields

import pytest
from ultralytics.utils import DEFAULT_CFG_DICT

from mwam_det.core.balancing.methods import METHODS
from mwam_det.core.config import MWAMConfig
from mwam_det.data.section import SECTION_KEYS
from mwam_det.engine.arguments import NOT_FOR_RECIPES, OF_OTHER_COMMANDS
from mwam_det.experiments import experiment_of
from mwam_det.files.values import parse_value
from mwam_det.hosts.data.layout import SECTION_KEYS as HOST_DATA_KEYS
from mwam_det.hosts.experiment import KEYS as HOST_KEYS
from mwam_det.hosts.settings import TrainSettings
from mwam_det.keys import full_names, recipe_keys
from mwam_det.recipe import HOST_TASKS, KEYS, REPORT_KEYS, Recipe, RecipeError
from mwam_det.training.incomplete import IncompleteConfig
from mwam_det.training.selection import Selection

TASKS = ("detect", *HOST_TASKS)
SELECT = {"by", "every"}


def names(settings):
    return {field.name for field in fields(settings)}


@pytest.mark.parametrize("task", TASKS)
def test_the_keys_are_those_that_recipes_take(task):
    host = task in HOST_TASKS
    assert {section: set(keys) for section, keys in recipe_keys(task).items()} == {
        "": set(HOST_KEYS if host else KEYS),
        "data": set(HOST_DATA_KEYS if host else SECTION_KEYS),
        "mwam": names(MWAMConfig),
        "incomplete": names(IncompleteConfig),
        "balancing": {"method"}.union(*(names(config) for config, _ in METHODS.values())),
        "train": names(TrainSettings) if host else DEFAULT_CFG_DICT.keys() - NOT_FOR_RECIPES - OF_OTHER_COMMANDS,
        "report": {"split"} if host else set(REPORT_KEYS),
        "select": SELECT,
    }


@pytest.mark.parametrize("task", TASKS)
def test_every_key_has_a_line_and_outside_of_data_a_type(task):
    for section, keys in recipe_keys(task).items():
        for name, key in keys.items():
            assert key.text and "\n" not in key.text and not key.text.endswith("(Eq."), name
            assert key.kind or section == "data", name


def test_the_line_of_a_balancing_setting_says_whose_it_is():
    keys = recipe_keys()["balancing"]
    assert set(keys["method"].text.removeprefix("One of ").rstrip(".").split(", ")) == set(METHODS)
    assert keys["noise"].text.startswith("Of ogm_ge: Whether noise is added") and keys["noise"].default == "true"


def test_the_defaults_are_those_that_hold():
    by_definition = {"mwam": MWAMConfig, "incomplete": IncompleteConfig, "": Recipe, "select": Selection}
    for section, settings in by_definition.items():
        for field in fields(settings):
            name = "by" if field.name == "select" and section else field.name
            if field.default is not MISSING and field.name != "name":
                assert parse_value(recipe_keys()[section][name].default) == field.default, name
    for name, key in recipe_keys()["train"].items():
        assert parse_value(key.default) == DEFAULT_CFG_DICT[name], name
    for field in fields(TrainSettings):
        assert parse_value(recipe_keys(HOST_TASKS[0])["train"][field.name].default) == field.default


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("epochs", ["train.epochs"]),
        ("epoch", ["train.epochs"]),
        ("batch", ["train.batch", "report.batch"]),
        ("gamma", ["mwam.gamma", "balancing.gamma"]),
        ("modell", []),  # a key of no section is nearer
        ("qqqq", []),
    ],
)
def test_a_key_without_its_section_is_found(key, meant):
    assert full_names(key) == meant


@pytest.mark.parametrize("task", TASKS)
def test_a_refused_key_is_named_in_full(task):
    with pytest.raises(RecipeError, match="^unknown key 'epochs': did you mean 'train.epochs'\\?$"):
        experiment_of("night", {"task": task, "epochs": 3})
