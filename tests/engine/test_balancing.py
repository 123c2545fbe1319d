"""Every balancing method in Ultralytics' training loop."""

import importlib.util

import pytest
import torch
from tables import read_csv
from training import run

from mwam_det import MWAMTrainer
from mwam_det.core.balancing.methods import METHODS
from mwam_det.experiments import load
from mwam_det.models.two_stream import streams_of
from mwam_det.recipe import RecipeError

NEEDS_TORCHJD = pytest.mark.skipif(
    importlib.util.find_spec("torchjd") is None, reason="TorchJD is an extra: pip install '.[balancing]'"
)
SHORT = {"mses": {"patience": 0}, "mslr": {"window": 1}}
OF_DETECTION = [
    pytest.param({"method": name, **SHORT.get(name, {})}, id=name, marks=[NEEDS_TORCHJD] if name == "torchjd" else [])
    for name in METHODS
    if name != "lfm"
]
MEASURING = [{"method": "ogm_ge", "alpha": 0, "noise": False}, {"method": "agm", "alpha": 0}]
"""Methods that only measure, with settings by which nothing follows."""


class Killed(BaseException):
    """Nothing of ours may catch it."""


class Dying(MWAMTrainer):
    """Dies once the checkpoint of the first epoch is written."""

    def save_model(self):
        saved = super().save_model()
        if self.epoch == 0:
            raise Killed
        return saved


def same(first, second):
    first, second = (own.state_dict() for own in (first, second))
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def train(section, folder, kind=MWAMTrainer, **arguments):
    return run(kind, section, folder, **{"mwam": False, "nbs": 8, "close_mosaic": 0, **arguments})


@pytest.fixture(scope="module")
def plain(demo_section, tmp_path_factory):
    """Complete input, and no method."""
    return train(demo_section, tmp_path_factory.mktemp("plain"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:balancing.patience")
@pytest.mark.parametrize("balancing", OF_DETECTION)
def test_a_killed_training_with_a_method_resumes_bit_for_bit(demo_section, tmp_path, plain, balancing):
    whole = train(demo_section, tmp_path / "whole", balancing=balancing)
    assert all(torch.isfinite(torch.tensor(whole.losses)))
    if balancing["method"] not in ("mses", "mslr"):  # which act after the first validation, and there is but one left
        assert not same(whole.model, plain.model)
    with pytest.raises(Killed):
        train(demo_section, tmp_path / "killed", Dying, balancing=balancing)
    last = tmp_path / "killed/run/weights/last.pt"
    again = run(MWAMTrainer, demo_section, tmp_path / "killed", resume=str(last))
    assert again.start_epoch == 1
    assert same(again.model, whole.model) and same(again.ema.ema, whole.ema.ema)
    assert again.run.balancer.state_dict() == whole.run.balancer.state_dict()
    columns = [[{k: v for k, v in row.items() if k != "time"} for row in read_csv(own.csv)] for own in (again, whole)]
    assert columns[0] == columns[1]


@pytest.mark.slow
@pytest.mark.parametrize("balancing", MEASURING, ids=lambda own: own["method"])
def test_views_that_only_measure_leave_the_training_bit_for_bit(demo_section, tmp_path, plain, balancing):
    """Weights, averaged weights, batch norms, losses and random numbers: as if nobody had looked."""
    measuring = train(demo_section, tmp_path, balancing=balancing)
    assert measuring.losses == plain.losses
    assert same(measuring.model, plain.model) and same(measuring.ema.ema, plain.ema.ema)
    means = measuring.run.balancer.state_dict().get("means", {"rgb": 1.0})
    assert all(mean > 0 for mean in means.values())


@pytest.mark.slow
@pytest.mark.parametrize("views", [True, {"views": 2}], ids=["all", "drawn"])
def test_a_method_by_validations_goes_with_any_views(demo_section, tmp_path, views):
    plain, balanced = (
        train(demo_section, tmp_path / name, incomplete=views, epochs=1, balancing=own)
        for name, own in (("plain", False), ("mslr", {"method": "mslr"}))
    )
    assert balanced.losses == plain.losses and same(balanced.model, plain.model)
    assert set(balanced.run.scores) == {("rgb",), ("ir",), ("rgb", "ir")}


@pytest.mark.slow
def test_methods_take_the_mean_over_samples_whatever_the_batch(demo_section, tmp_path):
    """Ultralytics sums its loss over the mini-batch; factors must not depend on how large that is."""
    heard = []

    class Listening(MWAMTrainer):
        def _setup_train(self):
            super()._setup_train()
            observe = self.run.balancer.observe
            self.run.balancer.observe = lambda evidence: (heard.append(evidence), observe(evidence))[1]

    trainer = train(demo_section, tmp_path, Listening, balancing={"method": "agm"}, epochs=1)
    for evidence, loss in zip(heard, trainer.losses, strict=True):
        assert evidence.multiple == evidence.count == 4
        assert evidence.losses["rgb", "ir"].sum().item() == loss
        alone = evidence.losses_alone(("rgb", "ir"))
        assert alone["ir"] == pytest.approx(evidence.losses["ir",].sum().item() / 4)


@pytest.mark.slow
def test_a_stream_that_mses_stopped_stays_while_the_rest_trains(demo_section, tmp_path):
    streams = []

    class Told(MWAMTrainer):
        """Hears that ir gains and rgb does not, and notes the streams at the end of each epoch."""

        def validate(self):
            own = streams_of(self.model)
            streams.append({n: [p.detach().clone() for m in own[n] for p in m.parameters()] for n in own})
            scores = {("rgb",): 0.5, ("ir",): 0.5 + self.epoch / 10, ("rgb", "ir"): 0.5}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(self.validator), "scores", scores)
                return super().validate()

    balancing = {"method": "mses", "patience": 0, "smoothing": 0}
    trainer = train(demo_section, tmp_path, Told, balancing=balancing, epochs=3, nbs=4, warmup_epochs=0)
    assert trainer.run.balancer.stopped == ("rgb",)
    for name, stays in (("rgb", True), ("ir", False)):
        pairs = zip(streams[1][name], streams[2][name], strict=True)
        assert all(torch.equal(*pair) for pair in pairs) == stays, name


# What is refused -----------------------------------------------------------------------------------------------------


def recipe(tmp_path, section, **changes):
    import yaml

    file = tmp_path / "tiny.yaml"
    content = {"model": "yolov8n.yaml", "data": section, "mwam": False, **changes}
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"balancing": {"method": "ogm"}}, "balancing.method='ogm' must be one of ogm_ge, .*did you mean 'ogm_ge'"),
        ({"balancing": True}, "must be false or a mapping like {method: ogm_ge}"),
        ({"balancing": {"method": "lfm"}}, "lfm compares predicted classes .* this task predicts none"),
        (
            {"balancing": {"method": "agm"}, "incomplete": {"views": 2}},
            "incomplete.views=2: balancing.method=agm compares each modality alone",
        ),
        ({"balancing": {"method": "mmpareto"}, "mwam": {"mode": "hybrid"}}, "mwam.mode=hybrid: .*mmpareto combines"),
        ({"balancing": {"method": "mslr"}, "train": {"val": False}}, "mslr goes by the validations, but val is false"),
        ({"balancing": {"method": "agm"}, "share_backbone": True}, "share_backbone=true leaves nothing to balance"),
        ({"balancing": {"method": "agm"}, "train": {"compile": True}}, "balancing.method=agm cannot change it"),
        ({"incomplete": True, "train": {"compile": True}}, "set compile=false or incomplete=false"),
    ],
)
def test_a_recipe_whose_balancing_cannot_be_used_is_refused(demo_section, tmp_path, changes, words):
    with pytest.raises(RecipeError, match=words):
        load(recipe(tmp_path, demo_section, **changes))


def test_a_training_in_python_is_refused_before_it_leaves_a_folder(demo_section, tmp_path):
    for balancing, words in (({"method": "lfm"}, "compares predicted classes"), ({"method": "x"}, "must be one of")):
        with pytest.raises(ValueError, match=words):
            train(demo_section, tmp_path, balancing=balancing)
    assert not list(tmp_path.iterdir())


def test_a_method_of_classes_goes_with_a_task_that_has_them(demo_section, tmp_path):
    section = {key: value for key, value in demo_section.items() if key not in ("labels", "names")}
    changes = {"task": "classify", "model": "yolov8n-cls.yaml", "balancing": {"method": "lfm"}}
    section["names"] = ["a", "b"]
    assert load(recipe(tmp_path, section, **changes)).recipe.balancing == {"method": "lfm"}
