"""What the README shows is what there is."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from mwam_det import MWAM, GradientModulator, MultimodalYOLO, MWAMConfig
from mwam_det.cli import main as cli
from mwam_det.core.config import refuse_unknown_keys
from mwam_det.data.layout import SECTION_KEYS, DatasetError, modalities_of, resolve_dataset
from mwam_det.engine.experiment import REPORT_KEYS
from mwam_det.experiments import load

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def commands():
    """The commands of all shell blocks as lists of words, `a && b` being two."""
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    found = []
    for words in lines:
        while "&&" in words:
            found.append(words[: words.index("&&")])
            words = words[words.index("&&") + 1 :]
        found.append(words)
    return [words for words in found if words]


def test_every_kind_of_block_that_is_tested_here_is_there():
    assert all(blocks(language) for language in ("sh", "yaml", "python", "diff"))
    assert len(re.findall("^```", TEXT, re.MULTILINE)) % 2 == 0


# Commands -------------------------------------------------------------------------------------------------------------


def test_both_start_commands_are_there_each_on_one_line():
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert "pip install -e . && python tools/train.py cfg/demo.yaml" in lines
    assert 'pip install -e ".[test]" && pytest -n auto' in lines


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_file_that_a_command_names_is_in_the_repository_or_a_result(words):
    files = [word for word in words if re.search(r"\.(py|yaml|pt|onnx|json|csv)$", word) and "=" not in word]
    for file in files:
        assert file.startswith("runs/") or (ROOT / file).is_file(), file
    assert (
        files or words[0] in ("pip", "pytest", "ruff") or words[:2] in (["mwam-det", "convert"], ["mwam-det", "init"])
    )


@pytest.mark.parametrize("words", [words for words in commands() if words[0] == "mwam-det"], ids=" ".join)
def test_the_command_line_understands_what_is_shown(words, monkeypatch):
    called = []
    for name in (
        "_train",
        "_robustness",
        "_predict",
        "_export",
        "_inspect",
        "_convert",
        "_init",
        "_crops",
        "run_compare",
    ):
        monkeypatch.setattr(cli, name, lambda *args, name=name, **kwargs: called.append(name) or 0)
    monkeypatch.chdir(ROOT)
    assert cli.main(words[1:]) == 0
    assert called == [{"compare": "run_compare"}.get(words[1], f"_{words[1]}")]


@pytest.mark.parametrize("words", [words for words in commands() if "tools/train.py" in words], ids=" ".join)
def test_every_training_command_names_a_recipe_and_changes_that_are_accepted(words):
    recipe, *changes = words[words.index("tools/train.py") + 1 :]
    load(ROOT / recipe, changes)


@pytest.mark.parametrize("words", [words for words in commands() if "tools/evaluate.py" in words], ids=" ".join)
def test_every_evaluation_command_names_weights_a_recipe_and_changes_that_are_accepted(words):
    _, _, weights, recipe, *changes = words
    assert weights.endswith(".pt")
    load(ROOT / recipe, [f"report.{c}" if c.partition("=")[0] in REPORT_KEYS else c for c in changes])


def test_every_extra_that_is_installed_is_one_of_the_package():
    extras = {extra for group in re.findall(r'"\.\[([\w,-]+)\]"', TEXT) for extra in group.split(",")}
    assert "test" in extras
    assert extras <= set(metadata("mwam-det").get_all("Provides-Extra"))


def test_every_linked_file_is_in_the_repository():
    links = [link for link in re.findall(r"\]\(([^)#]+)", TEXT) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_continuous_integration_takes_exactly_the_test_command_from_the_readme():
    if shutil.which("sed") is None:
        pytest.skip("there is no sed")
    (expression,) = re.findall(r"^command=\$\((sed .*)\)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.M)
    taken = subprocess.run(shlex.split(expression), cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert taken.stdout == 'pip install -e ".[test]" && pytest -n auto\n'


# Recipes --------------------------------------------------------------------------------------------------------------


def make_folders(section, root):
    """The folders that a data section describes."""
    for split in ("train", "val", "test"):
        for template in (*section["modalities"].values(), section["labels"]):
            folder = template.replace("{split}", split) if "{split}" in template else f"{template}/{split}"
            (root / folder).mkdir(parents=True)


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "data:" in block])
def test_every_recipe_loads_and_its_data_section_describes_a_dataset(block, tmp_path):
    section = yaml.safe_load(block)["data"]
    refuse_unknown_keys(section, SECTION_KEYS)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(block, encoding="utf-8")
    assert load(recipe).recipe.data == section
    make_folders(section, tmp_path / "set")
    resolved = resolve_dataset({**section, "path": str(tmp_path / "set")})
    assert [modality.name for modality in modalities_of(resolved)] == list(section["modalities"])


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "data:" not in block])
def test_sections_of_a_recipe_are_accepted(block, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    section = yaml.safe_load(block)
    recipe.write_text(yaml.safe_dump({**yaml.safe_load((ROOT / "cfg" / "llvip.yaml").read_text()), **section}))
    assert {key: getattr(load(recipe).recipe, key) for key in section} == section


def test_the_values_of_the_data_keys_that_the_text_shows_are_accepted():
    shown = re.findall(r"^\| `(suffix|channels|range|align)` \| `([^`]+)`", TEXT, re.MULTILINE)
    assert [key for key, _ in shown] == ["suffix", "channels", "range", "align"]
    data = load(ROOT / "cfg" / "llvip.yaml").recipe.data
    for key, value in shown:
        value = yaml.safe_load(value)
        section = {**data, "path": str(ROOT), "modalities": {"rgb": "cfg", "ir": "docs", "depth": "tools"}, key: value}
        with pytest.raises(DatasetError, match="the folder of rgb .train. is missing"):  # past the check of the keys
            resolve_dataset(section)


def test_every_setting_of_the_method_that_the_text_shows_is_accepted():
    shown = [yaml.safe_load(setting)["mwam"] for setting in re.findall(r"`(mwam: [^`]+)`", TEXT)]
    assert any(shown) and not all(shown)  # values, and the switch
    for values in shown:
        if isinstance(values, dict):
            MWAMConfig.from_dict(values)
        else:
            assert isinstance(values, bool)


# Python ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("python"))
def test_every_python_block_compiles_imports_what_exists_and_calls_methods_that_exist(block):
    of_extras = {re.match(r"[\w-]+", one)[0] for one in requires("mwam-det") if "extra ==" in one}
    tree = ast.parse(block)
    compile(tree, "README.md", "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name not in of_extras or importlib.util.find_spec(alias.name):
                    importlib.import_module(alias.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "model":
            assert callable(getattr(MultimodalYOLO, node.attr, None)), node.attr


class TwoStreams(nn.Module):
    def __init__(self):
        super().__init__()
        self.rgb, self.depth, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3), nn.Linear(8, 2)

    def forward(self, rgb, depth):
        features = [self.rgb(rgb).tanh().mean((2, 3)), self.depth(depth).tanh().mean((2, 3))]
        return self.head(torch.cat(features, 1))


def mini_batches(count):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        smooth = nn.functional.interpolate(torch.rand(4, 1, 3, 3, generator=generator), (24, 24), mode="bilinear")
        yield torch.rand(4, 3, 24, 24, generator=generator), smooth, torch.rand(4, 2, generator=generator)


def train(code, steps):
    """Run a training loop on a toy model; return how far each parameter came, and the names that it left behind."""
    torch.manual_seed(0)
    model = TwoStreams()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    scope = {
        "MWAM": MWAM,
        "GradientModulator": GradientModulator,
        "model": model,
        "loader": list(mini_batches(steps)),
        "criterion": nn.MSELoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    exec(compile(code, "README.md", "exec"), scope)
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}, scope


def loops():
    """The training loop of the first diff block, without and with its added lines."""
    block = blocks("diff")[0]
    assert all(line[:1] in ("+", " ") for line in block.splitlines())
    plain = "\n".join(line[1:] for line in block.splitlines() if line.startswith(" "))
    return plain, "\n".join(line[1:] for line in block.splitlines())


@pytest.mark.parametrize("block", blocks("diff"))
def test_a_training_loop_takes_at_most_five_lines_more(block):
    assert 1 <= sum(line.startswith("+") for line in block.splitlines()) <= 5


def test_the_shown_training_loop_runs_and_scales_the_steps_of_the_streams_alone():
    plain, ours = loops()
    (expected, _), (found, scope) = train(plain, 1), train(ours, 1)
    weights = scope["mwam"].weights
    assert weights["rgb"] > 1 > weights["depth"]  # noise beside a smooth picture
    for name, move in expected.items():
        factor = weights.get(name.split(".")[0], torch.tensor(1.0))
        assert torch.allclose(found[name], move * factor, rtol=1e-3, atol=1e-7), name


def test_the_shown_training_loop_ends_at_another_model_after_some_steps():
    plain, ours = loops()
    (expected, _), (found, _) = train(plain, 5), train(ours, 5)
    assert not any(torch.allclose(found[name], move, rtol=1e-3) for name, move in expected.items())


def test_the_shown_lines_change_nothing_where_the_weights_are_one():
    plain, ours = loops()
    (expected, _), (found, _) = train(plain, 5), train(ours.replace("mwam.observe", "dict"), 5)
    assert all(torch.equal(found[name], move) for name, move in expected.items())
