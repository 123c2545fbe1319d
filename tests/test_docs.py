"""README and docs: commands are understood, blocks of code compile, and links, figures and sentences are there."""

import ast
import dataclasses
import importlib.util
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from importlib.metadata import metadata, requires

import pytest
import yaml
from pages import DOCS, PAGES, README, ROOT, as_command, blocks, check_recipe, command_parser, commands, name_of, parse

from mwam_det import MultimodalYOLO, MWAMConfig
from mwam_det.cli import compare, export, predict, spectrum, val
from mwam_det.core.balancing.balancer import BalancingConfig
from mwam_det.core.balancing.methods import METHODS
from mwam_det.core.config import refuse_unknown_keys
from mwam_det.data.formats import FORMATS
from mwam_det.data.modality import modalities_of
from mwam_det.data.section import SECTION_KEYS, resolve_dataset
from mwam_det.experiments import load
from mwam_det.recipe import KEYS, REPORT_KEYS, read_arguments
from mwam_det.study.built_in import BUILT_IN
from mwam_det.training.incomplete import IncompleteConfig

RESULTS = ROOT / "benchmarks" / "RESULTS.md"
LARGEST_PICTURE = 300_000
"""No picture has more bytes."""

SHORTEST = 8
"""Shorter parts of a sentence are not looked for in the code."""

OWN_OVERRIDES = {
    "compare": compare.KEYS,
    "inspect": ("sample",),
    "spectrum": spectrum.KEYS,
    "crops": ("margin", "smallest"),
    "robustness": REPORT_KEYS,
    "val": val.KEYS,
}
"""Overrides of a command that are not of the recipe."""

EVERY_COMMAND = [(page, words) for page in PAGES for words in commands(page)]
OUR_COMMANDS = [(page, as_command(words)) for page, words in EVERY_COMMAND if as_command(words)]


def named(pairs):
    """Give tests of a page and something in it readable names."""
    return [pytest.param(page, what, id=f"{name_of(page)}: {' '.join(what)}") for page, what in pairs]


def in_blocks(language, keep=lambda block: True):
    """The blocks of a language in all pages, as parameters of a test."""
    return [
        pytest.param(page, block, id=f"{name_of(page)}-{place}")
        for page in PAGES
        for place, block in enumerate(blocks(page, language))
        if keep(block)
    ]


# Commands -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "words"), named(EVERY_COMMAND))
def test_every_file_that_a_command_names_is_in_the_repository_or_comes_of_a_command(page, words):
    files = [word for word in words if re.search(r"\.(py|yaml|pt|onnx|json|csv)$", word) and "=" not in word]
    for file in files:
        made = file.startswith("runs/") or file == "my_pairs.yaml"
        assert made or (ROOT / file).is_file(), file
    programs = ("pip", "python", "pytest", "ruff", "torchrun", "mwam-det", "mkdocs", "eval")
    assert words[0] in programs


@pytest.mark.parametrize(("page", "words"), named(OUR_COMMANDS))
def test_the_command_line_understands_every_command(page, words):
    options, overrides = parse(words)
    if words[0] == "predict":
        read_arguments([word for word in options.source if word.partition("=")[0] not in ("rgb", "ir")], predict.KEYS)
        read_arguments(overrides, predict.KEYS)
    elif words[0] == "export":
        read_arguments(overrides, export.KEYS)
    elif (recipe := getattr(options, "recipe", None) or "").startswith("cfg/"):
        own = OWN_OVERRIDES.get(words[0], ())
        check_recipe(recipe, [o for o in overrides if o.partition("=")[0] not in own], getattr(options, "arms", None))


def test_every_command_and_every_format_has_its_line():
    recipes = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert set(command_parser()) <= set(re.findall(r"^\| `mwam-det ([\w-]+)", recipes, re.MULTILINE))
    datasets = (DOCS / "datasets.md").read_text(encoding="utf-8")
    assert set(FORMATS) == set(re.findall(r"^\| `(\w+)` \| [A-Z]", datasets, re.MULTILINE))
    options = {name: {f"--{o.replace('_', '-')}" for o in format_.options} for name, format_ in FORMATS.items()}
    shown = dict.fromkeys(FORMATS, frozenset())
    format_ = None
    for row in re.findall(r"^\| (?:`(\w+)`)? ?\| ((?:`--[\w-]+`(?:, )?)+) \|", datasets, re.MULTILINE):
        format_ = row[0] or format_
        shown[format_] |= set(re.findall(r"--[\w-]+", row[1]))
    for name, own in options.items():
        assert shown[name] == own, name


def test_every_extra_that_is_installed_is_one_of_the_package():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    named = (re.findall(r"(?:pip install -e |, )\W*\.\[([\w,-]+)\]", text) for text in texts)
    extras = {extra for groups in named for group in groups for extra in group.split(",")}
    assert {"test", "docs"} <= extras
    assert extras <= {*metadata("mwam-det").get_all("Provides-Extra"), *_extras_of_the_checkout()}


def _extras_of_the_checkout():
    """The extras in pyproject.toml: the installed metadata may be of before the last change."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    return re.findall(r"^(\w+) = \[", text.partition("\n[")[0], re.MULTILINE)


# Recipes --------------------------------------------------------------------------------------------------------------


def make_folders(section, root):
    """Make the folders that a data section describes."""
    for split in ("train", "val", "test"):
        for template in (*section["modalities"].values(), section["labels"]):
            folder = template.replace("{split}", split) if "{split}" in template else f"{template}/{split}"
            (root / folder).mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(("page", "block"), in_blocks("yaml", lambda block: "data:" in block))
def test_every_recipe_loads_and_its_data_section_describes_a_dataset(page, block, tmp_path):
    content = yaml.safe_load(block)
    section = content["data"]
    refuse_unknown_keys(section, SECTION_KEYS)
    content.pop("pretrained", None)  # a file that is not in the repository
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert load(recipe).recipe.data == section
    make_folders(section, tmp_path / "set")
    resolved = resolve_dataset({**section, "path": str(tmp_path / "set")}).as_dict()
    assert [modality.name for modality in modalities_of(resolved)] == list(section["modalities"])


@pytest.mark.parametrize(
    ("page", "block"), in_blocks("yaml", lambda block: "data:" not in block and "arms:" not in block)
)
def test_sections_of_a_recipe_are_accepted(page, block, tmp_path):
    section = yaml.safe_load(block)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump({**yaml.safe_load((ROOT / "cfg" / "detect" / "llvip.yaml").read_text()), **section})
    )
    assert {key: getattr(load(recipe).recipe, key) for key in section} == section


@pytest.mark.parametrize(("page", "block"), in_blocks("yaml", lambda block: "arms:" in block))
def test_a_study_is_read_and_each_of_its_arms_is_a_recipe(page, block, tmp_path):
    (tmp_path / "study.yaml").write_text(block, encoding="utf-8")
    check_recipe("cfg/detect/llvip.yaml", arms=str(tmp_path / "study.yaml"))


def rows(page, heading):
    """The first cells of the tables below a heading, without their marks; of a cell that lists keys, each."""
    text = (DOCS / page).read_text(encoding="utf-8")
    part = re.split(r"^#+ ", text.partition(f"# {heading}\n")[2], flags=re.MULTILINE)[0]
    part = re.sub(r"^\|.*\n(?=\|[-| ]+$)", "", part, flags=re.MULTILINE)  # the header
    return [key for cell in re.findall(r"^\| ([^|]+) \|", part, re.MULTILINE) for key in re.findall(r"`([^`]+)`", cell)]


def test_the_page_on_data_has_every_key_of_a_data_section():
    assert set(SECTION_KEYS) == set(rows("own-data.md", "Every key"))


def test_the_page_on_recipes_has_every_section():
    shown = set(rows("recipes.md", "Recipes and commands"))
    assert set(KEYS) <= shown
    assert set(REPORT_KEYS) == set(rows("recipes.md", "Report"))


def test_the_pages_on_settings_have_every_key_of_them_or_none_that_is_not_one():
    incomplete = {field.name for field in dataclasses.fields(IncompleteConfig)} - {"p"}  # beside `views: 1`
    assert incomplete == set(rows("missing-sensors.md", "Every key"))
    assert set(rows("method.md", "The switches")) <= {field.name for field in dataclasses.fields(MWAMConfig)}
    assert set(BUILT_IN) <= set(rows("studies.md", "Built-in arms"))


def test_the_page_on_balancing_has_every_method_with_its_keys_and_defaults():
    table = re.findall(r"^\| `(\w+)` \| .* \| ([^|]*) \| [^|]+ \|$", (DOCS / "balancing.md").read_text("utf-8"), re.M)
    shown = {name: yaml.safe_load("{" + ", ".join(re.findall(r"`([^`]+)`", keys)) + "}") for name, keys in table[1:8]}
    shared = {field.name for field in dataclasses.fields(BalancingConfig)}
    for name, (settings, _) in METHODS.items():
        own = {f.name: f.default for f in dataclasses.fields(settings) if f.name not in shared}
        assert shown.pop(name) == own, name
    assert not shown


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_setting_that_the_text_shows_is_accepted(page):
    text = page.read_text(encoding="utf-8")
    for setting in re.findall(r"`(mwam: [^`]+)`", text):
        if isinstance(values := yaml.safe_load(setting)["mwam"], dict):
            MWAMConfig.from_dict(values)
    for setting in re.findall(r"`(incomplete: \{[^`…]+\})`", text):
        IncompleteConfig.from_dict(yaml.safe_load(setting)["incomplete"])
    settings = re.findall(r"`(train\.[\w.]+=[^`…\s]+)`", text)
    check_recipe("cfg/hosts/ucf101.yaml" if page.stem == "hosts" else "cfg/detect/llvip.yaml", settings)


# Python ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "block"), in_blocks("python"))
def test_every_python_block_compiles_imports_what_exists_and_calls_methods_that_exist(page, block):
    of_extras = {re.match(r"[\w-]+", one)[0] for one in requires("mwam-det") if "extra ==" in one}
    tree = ast.parse(block)
    compile(tree, str(page), "exec")
    facades = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name) and getattr(node.value.func, "id", "") == "MultimodalYOLO"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name not in of_extras or importlib.util.find_spec(alias.name):
                    importlib.import_module(alias.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in facades:
            assert node.attr == "trainer" or callable(getattr(MultimodalYOLO, node.attr, None)), node.attr


@pytest.mark.parametrize(
    ("page", "block"), in_blocks("python", lambda b: "MultimodalYOLO" not in b and "YOLO(" not in b and "onnx" not in b)
)
def test_blocks_that_need_no_files_run(page, block, capsys):
    exec(compile(block, str(page), "exec"), {"__name__": "block"})


@pytest.mark.slow
def test_the_python_of_the_readme_runs_from_its_first_line_to_its_last(tmp_path):
    (block,) = blocks(README, "python")
    tiny = {"epochs=14": "epochs=1", "imgsz=256": "imgsz=64", "save=True": "save=False"}
    for given, small in tiny.items():
        assert given in block
        block = block.replace(given, small)
    content = yaml.safe_load((ROOT / "cfg" / "demo.yaml").read_text(encoding="utf-8"))
    content["data"]["synthetic"] = {"train": 8, "val": 4, "size": [64, 96], "seed": 0}
    (tmp_path / "cfg").mkdir()
    (tmp_path / "cfg" / "demo.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    run_script(block + "\nassert best.predictor.missing == ('rgb',)\n", tmp_path)


@pytest.mark.slow
def test_the_commands_of_the_readme_lead_from_a_folder_of_pairs_to_predictions(tmp_path):
    from mwam_det.data.synthetic import write_demo

    write_demo(tmp_path / "my_pairs", train=12, val=4, size=(64, 96))
    (tmp_path / "my_pairs" / "classes.txt").write_text("car\ntruck\nbus\n", encoding="utf-8")
    (block,) = [block for block in blocks(README, "sh") if "mwam-det init" in block]
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [line[:2] for line in lines] == [["mwam-det", c] for c in ("init", "inspect", "train", "predict", "export")]
    small = {
        "train": ["train.epochs=1", "train.imgsz=64", "train.workers=0"],
        "predict": ["save=false", "save_txt=true"],
    }
    for _, command, *words in lines[:-1]:  # what export needs is an extra
        words = [word.replace("my_pairs/visible", "my_pairs/visible/val") for word in words]
        words = [word.replace("my_pairs/infrared", "my_pairs/infrared/val") for word in words]
        arguments = [command, *words, *small.get(command, [])]
        said = run_script(f"from mwam_det.cli import main\nraise SystemExit(main({arguments}))\n", tmp_path)
    assert "4 pairs" in said
    assert (tmp_path / "runs" / "my_pairs" / "report.html").is_file()


def run_script(code, folder):
    """Run code in a process of its own, in a folder of its own; return what it printed."""
    (folder / "script.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(folder), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return run.stdout


# Links, figures, sentences --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_linked_file_is_there(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2].partition("\nplugins:")[0]
    assert sorted(re.findall(r": ([\w/-]+\.md)$", text, re.MULTILINE)) == sorted(
        page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")
    )


@pytest.mark.parametrize("page", sorted(DOCS.glob("api/*.md")), ids=name_of)
def test_every_name_of_the_reference_is_there_and_described(page):
    names = re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    for name in names:
        assert pkgutil.resolve_name(name).__doc__, name
    assert names


def test_pictures_are_small_and_shown():
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in (DOCS / "assets").glob("*.png"):
        assert picture.stat().st_size < LARGEST_PICTURE, picture
        assert f"assets/{picture.name}" in texts, picture


def test_every_measured_figure_is_one_of_the_recorded_results():
    recorded = RESULTS.read_text(encoding="utf-8")
    figures = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        figures |= set(re.findall(r"\d+\.\d+ ± \d+\.\d+", text))
        figures |= set(re.findall(r"[+−]\d+\.\d+ \[[^\]]+\]", text))
        figures |= set(re.findall(r"\d\.\d{3} \(\d\.\d{3}–\d\.\d{3}\)", text))
        figures |= {figure for pair in re.findall(r"(\d+\.\d+) to (\d+\.\d{3}|\d+\.\d\b)", text) for figure in pair}
    assert len(figures) > 50
    assert not {figure for figure in figures if figure not in recorded}


def _sentences_of_the_code():
    """All text in the code, with … for what is filled in."""
    found = []
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_every_sentence_in_troubleshooting_is_one_that_the_code_says():
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    sentences = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(sentences) > 60
    said = _sentences_of_the_code()
    parts = {part.strip(" ,:;'()…") for sentence in sentences for part in re.split("…", sentence)}
    assert not [part for part in parts if len(part) >= SHORTEST and not _is_said(part, said)]


def _is_said(part, said):
    """Return whether the code says this, or it is two things that it says one behind the other."""
    ends = range(5, len(part) - 4)
    return any(part in text for text in said) or any(
        any(part[:end].rstrip(" ,:") in text for text in said) and any(part[end:].strip() in text for text in said)
        for end in ends
    )


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip('MkDocs is not installed: pip install -e ".[docs]"')
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr[-4000:]
    assert (tmp_path / "site" / "api" / "core" / "index.html").stat().st_size > 20_000
