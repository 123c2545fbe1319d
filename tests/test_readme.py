"""What the README shows is what there is; `test_docs.py` checks what it has in common with the other pages."""

import re
import shlex
import shutil
import subprocess

import pytest
import torch
from pages import DOCS, README, ROOT, blocks
from torch import nn

from mwam_det import MWAM, GradientModulator

TEXT = README.read_text(encoding="utf-8")
MOST_LINES = 150


def test_it_is_read_in_a_minute():
    assert len(TEXT.splitlines()) <= MOST_LINES
    assert TEXT.count("![") == 1


def test_every_kind_of_block_that_is_tested_here_is_there():
    assert all(blocks(README, language) for language in ("sh", "python", "diff"))
    assert len(re.findall("^```", TEXT, re.MULTILINE)) % 2 == 0


def test_both_start_commands_are_there_each_on_one_line():
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    assert "pip install -e . && python tools/train.py cfg/demo.yaml" in lines
    assert 'pip install -e ".[test]" && pytest -n auto' in lines


def test_continuous_integration_takes_exactly_the_test_command_from_the_readme():
    if shutil.which("sed") is None:
        pytest.skip("there is no sed")
    (expression,) = re.findall(r"^command=\$\((sed .*)\)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.M)
    taken = subprocess.run(shlex.split(expression), cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert taken.stdout == 'pip install -e ".[test]" && pytest -n auto\n'


def test_every_page_of_the_documentation_but_the_reference_is_linked_here_or_one_link_away():
    linked = set(re.findall(r"\]\(docs/([\w-]+)\.md\)", TEXT))
    start = set(re.findall(r"\]\(([\w-]+)\.md[#)]", (DOCS / "index.md").read_text(encoding="utf-8")))
    pages = {page.stem for page in DOCS.glob("*.md")} - {"index", "measurements"}
    assert pages <= linked | start | {"recipes"}


# Training loops -------------------------------------------------------------------------------------------------------


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
    """The training loop of the diff block, without and with its added lines."""
    (block,) = blocks(README, "diff")
    assert all(line[:1] in ("+", " ") for line in block.splitlines())
    plain = "\n".join(line[1:] for line in block.splitlines() if line.startswith(" "))
    return plain, "\n".join(line[1:] for line in block.splitlines())


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
