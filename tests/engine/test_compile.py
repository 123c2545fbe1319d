"""Steps of a compiled model, and of one whose channels come last in memory, beside those of the plain one."""

import pytest
import torch
from training import at_start, batch_of_bytes, step
from ultralytics.utils.torch_utils import unwrap_model

MODES = {
    "gradient": {"mwam": {"mode": "gradient"}},
    "update": {"mwam": {"mode": "update"}},
    "mslr": {"mwam": False, "balancing": {"method": "mslr", "window": 1, "rates": {"ir": 0.5}}},
}
VIEWS = {
    **MODES,
    "views all": {"mwam": {"mode": "gradient"}, "incomplete": {"views": "all"}},
    "views 2, distill": {"mwam": False, "incomplete": {"views": 2, "distill": 0.5}},
    "agm": {"mwam": False, "balancing": {"method": "agm"}},
    "mmpareto": {"mwam": False, "balancing": {"method": "mmpareto"}},
}


def weights(trainer):
    return torch.cat([own.detach().flatten() for own in trainer.model.parameters()])


def compiled_step(trainer, batch):
    """Do what Ultralytics' loop does with `compile`, which takes the loss outside of what is compiled."""
    batch = trainer.preprocess_batch(dict(batch))
    loss, _ = unwrap_model(trainer.model).loss(batch, trainer.model(batch["img"]))
    loss.sum().backward()
    trainer.optimizer_step()
    return loss.sum().item()


@pytest.fixture(scope="module")
def traced():
    """Let models be traced forwards and backwards, without machine code, which takes minutes to build."""
    compiled, whole = [], torch.compile

    def trace(model, **_):
        compiled.append(model)
        return whole(model, backend="aot_eager")

    torch.compiler.reset()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", trace)
        patch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "none is needed")
        yield compiled
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODES)
def test_a_compiled_step_is_the_plain_one(demo_section, tmp_path, traced, name):
    plain = at_start(demo_section, tmp_path, **MODES[name])
    before = len(traced)
    trainer = at_start(demo_section, tmp_path, compile=True, **MODES[name])
    assert len(traced) == before + 1
    expected = [step(plain, batch_of_bytes()) for _ in range(2)]
    assert [compiled_step(trainer, batch_of_bytes()) for _ in range(2)] == pytest.approx(expected, rel=1e-4)
    assert torch.allclose(weights(trainer), weights(plain), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", VIEWS)
def test_a_step_with_channels_last_is_the_plain_one(demo_section, tmp_path, name):
    plain, trainer = (at_start(demo_section, tmp_path, **VIEWS[name]) for _ in range(2))
    trainer.model.to(memory_format=torch.channels_last)  # as Ultralytics does on a GPU, of itself
    expected = [step(plain, batch_of_bytes()) for _ in range(2)]
    assert [step(trainer, batch_of_bytes()) for _ in range(2)] == pytest.approx(expected, rel=1e-3)
    assert torch.allclose(weights(trainer), weights(plain), rtol=1e-2, atol=1e-4)
