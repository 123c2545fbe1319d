"""Checkpoints of stock models, frozen streams and a shared backbone in training."""

import copy

import pytest
import torch
import yaml
from training import SHORT, run
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from untrained import TINY

from mwam_det import MultimodalYOLO, MWAMTrainer
from mwam_det.data.errors import DatasetError
from mwam_det.engine.arguments import freeze_with
from mwam_det.engine.trainer import PairTrainer
from mwam_det.experiments import load
from mwam_det.models.two_stream import streams_of
from mwam_det.recipe import RecipeError
from mwam_det.training.checkpoints import Interrupted


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A stock single-stream checkpoint."""
    torch.manual_seed(5)
    file = tmp_path_factory.mktemp("stock") / "stock.pt"
    model = YOLO(TINY)
    for parameter in model.model.parameters():
        parameter.data.add_(0.01)
    model.save(file)
    return file


def stock_backbone(file):
    return list(YOLO(file).model.model[:6].float().parameters())


def trainer_for(section, folder, **overrides):
    return MWAMTrainer(overrides={**SHORT, "data": section, "project": str(folder), **overrides})


def demo_recipe(folder, section, **content):
    train = {"epochs": 1, "imgsz": 64, "device": "cpu", "workers": 0, "project": str(folder / "runs")}
    file = folder / "demo.yaml"
    file.write_text(yaml.safe_dump({"data": section, "train": train, **content}, sort_keys=False))
    return load(file)


def same(parameters, others):
    return all(torch.equal(p, o.to(p)) for p, o in zip(parameters, others, strict=True))


def test_a_checkpoint_of_a_stock_model_fills_the_streams_and_the_report_is_logged(single, demo_section, tmp_path, log):
    trainer = trainer_for(demo_section, tmp_path, pretrained=str(single))
    trainer.setup_model()
    for stream in streams_of(trainer.model).values():
        assert same(stream.parameters(), stock_backbone(single))
    assert any("Pretrained weights: " in text and str(single) in text for _, text in log)
    assert trainer.args.pretrained == str(single)


@pytest.mark.slow
def test_a_checkpoint_of_a_stock_model_named_as_the_model_is_where_every_stream_begins(
    single, demo_section, tmp_path, log
):
    model = MultimodalYOLO(single)
    for stream in streams_of(model.model).values():
        assert same(stream.parameters(), stock_backbone(single))
    arguments = {key: value for key, value in SHORT.items() if key != "model"}
    model.train(data=demo_section, robustness=False, project=str(tmp_path), **arguments)
    assert model.trainer.args.pretrained == str(single) and model.trainer.args.model == TINY
    assert MultimodalYOLO(model.trainer.best).model.yaml["streams"]
    assert sum("Pretrained weights: " in text for _, text in log) == 1
    assert len(model.predict((torch.rand(1, 3, 64, 64),) * 2, verbose=False)) == 1


def test_a_recipe_whose_model_is_a_stock_checkpoint_begins_every_stream_there(
    single, demo_section, tmp_path, monkeypatch
):
    seen = []

    def set_up(trainer):
        trainer.setup_model()
        seen.append(trainer.model)
        raise KeyboardInterrupt

    monkeypatch.setattr(PairTrainer, "train", set_up)
    with pytest.raises(Interrupted):
        demo_recipe(tmp_path, demo_section, model=str(single)).train()
    for stream in streams_of(seen[0]).values():
        assert same(stream.parameters(), stock_backbone(single))


def test_weights_that_were_reset_or_replaced_are_not_those_of_the_stock_checkpoint(
    single, demo_section, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(PairTrainer, "train", lambda trainer: seen.append(trainer.args.pretrained) or 1 / 0)
    for reset, arguments in ((False, {}), (False, {"pretrained": True}), (True, {})):
        model = MultimodalYOLO(single)
        if reset:
            model.reset_weights()
        with pytest.raises(ZeroDivisionError):
            model.train(data=demo_section, device="cpu", project=str(tmp_path), **arguments)
    assert seen == [str(single), str(single), False]


@pytest.mark.parametrize("name", ["yolov8n.pt", "yolo26n", "runs/best.onnx", "https://example.org/yolov8n.pt"])
def test_what_is_not_there_is_named_and_never_downloaded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"there is no file {name}, and none is downloaded"):
        MultimodalYOLO(name)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_for_one_modality_fills_its_stream(single, demo_section, tmp_path):
    trainer = trainer_for(demo_section, tmp_path, pretrained={"ir": str(single)})
    trainer.setup_model()
    streams = streams_of(trainer.model)
    assert same(streams["ir"].parameters(), stock_backbone(single))
    assert not same(streams["rgb"].parameters(), stock_backbone(single))


@pytest.mark.slow
def test_the_face_takes_them_too_also_on_top_of_a_checkpoint_with_streams(single, demo_section, tmp_path):
    first = run(MWAMTrainer, demo_section, tmp_path, epochs=1)
    seen = {}
    model = MultimodalYOLO(first.last)
    model.add_callback("on_train_start", lambda t: seen.update(copy.deepcopy(streams_of(t.model))))
    arguments = {key: value for key, value in SHORT.items() if key != "model"}
    model.train(
        data=demo_section, pretrained={"rgb": str(single)}, robustness=False, project=str(tmp_path), name="second",
        **{**arguments, "epochs": 1},
    )  # fmt: skip
    assert same(seen["rgb"].parameters(), stock_backbone(single))
    kept = streams_of(MultimodalYOLO(first.last).model)["ir"].parameters()
    assert same(seen["ir"].parameters(), kept)
    saved = yaml.safe_load((tmp_path / "second" / "args.yaml").read_text())
    assert saved["pretrained"] == {"rgb": str(single)}


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_its_own_weights_and_without_the_file(single, demo_section, tmp_path):
    file = tmp_path / "start.pt"
    file.write_bytes(single.read_bytes())

    class Stopped(MWAMTrainer):
        def final_eval(self):
            pass  # which would take the optimizer out of the checkpoint

    def stop(trainer):
        trainer.stop = True

    trainer = Stopped(
        overrides={**SHORT, "data": demo_section, "project": str(tmp_path), "name": "run", "pretrained": str(file)}
    )
    trainer.add_callback("on_fit_epoch_end", stop)
    trainer.train()
    file.unlink()
    kept = torch.load(trainer.last, weights_only=False)["ema"].float()
    resumed = MWAMTrainer(overrides={"resume": str(trainer.last), "device": "cpu"})
    resumed.setup_model()
    assert same(streams_of(resumed.model)["rgb"].parameters(), streams_of(kept)["rgb"].parameters())
    assert not same(streams_of(resumed.model)["rgb"].parameters(), stock_backbone(single))


def test_a_file_that_is_not_there_is_refused_before_there_is_a_run_folder(demo_section, tmp_path):
    with pytest.raises(FileNotFoundError, match="pretrained=yolov8n.pt is not a file; nothing is downloaded"):
        trainer_for(demo_section, tmp_path, pretrained="yolov8n.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_frozen_stream_stays_as_it_is_and_the_other_learns(demo_section, tmp_path):
    before = {}

    class Remembering(MWAMTrainer):
        def setup_model(self):
            checkpoint = super().setup_model()
            before.update(copy.deepcopy(streams_of(self.model)))
            return checkpoint

    trainer = run(Remembering, demo_section, tmp_path, epochs=1, freeze=["rgb"], warmup_epochs=0, lr0=0.1)
    after = streams_of(trainer.model)
    assert same(after["rgb"].parameters(), before["rgb"].parameters())
    assert same(after["rgb"].buffers(), before["rgb"].buffers()), "the batch norms went on counting"
    assert not same(after["ir"].parameters(), before["ir"].parameters())


@pytest.mark.parametrize("streams", [{"rgb": (1, 4), "ir": (4, 7)}])
@pytest.mark.parametrize(
    ("freeze", "expected"),
    [(["rgb"], [0, 1, 2, 3]), (["ir", 9, "23.cv2"], [0, 4, 5, 6, 9, "23.cv2"]), (2, [0, 1]), (None, [0])],
)
def test_names_of_streams_become_their_layers(streams, freeze, expected):
    assert freeze_with(0, freeze, streams) == expected


def test_a_stream_that_is_not_there_cannot_be_frozen(demo_section, tmp_path):
    with pytest.raises(ValueError, match="freeze names 'thermal': choose from rgb, ir"):
        trainer_for(demo_section, tmp_path, freeze=["thermal"])


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["add", "attention", "p3", "late"])
def test_every_fusion_is_trained_with_mwam(fusion, demo_section, tmp_path):
    trainer = run(MWAMTrainer, demo_section, tmp_path, epochs=1, fusion=fusion)
    assert trainer.model.yaml["fusion"] == fusion and trainer.losses and trainer.last.is_file()


@pytest.mark.slow
def test_a_shared_backbone_is_trained_without_mwam_and_evaluated_on_every_combination(demo_section, tmp_path):
    model = MultimodalYOLO(TINY, share_backbone=True)
    model.train(
        data=demo_section, mwam=False, select="mean", project=str(tmp_path), name="run",
        **{**SHORT, "epochs": 1},
    )  # fmt: skip
    assert model.model.yaml["share_backbone"] and isinstance(model.model, DetectionModel)
    assert (tmp_path / "run" / "robustness.json").is_file()


def test_mwam_and_a_shared_backbone_exclude_each_other(demo_section, tmp_path):
    with pytest.raises(ValueError, match="share_backbone=true leaves MWAM nothing to weigh"):
        trainer_for(demo_section, tmp_path, share_backbone=True)
    assert not list(tmp_path.iterdir())


# Recipes -------------------------------------------------------------------------------------------------------------

DATA = {
    "path": "none", "modalities": {"rgb": "a", "ir": "b"}, "labels": "labels", "train": "train", "val": "val",
    "names": {0: "person"},
}  # fmt: skip


def recipe(folder, **content):
    file = folder / "night.yaml"
    file.write_text(yaml.safe_dump({"data": DATA, **content}, sort_keys=False))
    return load(file).recipe


def test_a_recipe_names_checkpoints_fusion_and_shared_backbone(single, tmp_path):
    files = {"rgb": str(single), "ir": str(single)}
    read = recipe(tmp_path, pretrained=files, fusion="late", share_backbone=True, mwam=False)
    assert (read.pretrained, read.fusion, read.share_backbone) == (files, "late", True)
    assert recipe(tmp_path).pretrained is True


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"pretrained": "yolov8n.pt"}, "pretrained=yolov8n.pt is not a file; nothing is downloaded"),
        ({"pretrained": {"thermal": "a.pt"}}, "pretrained names thermal: choose from rgb, ir"),
        ({"share_backbone": True}, "set mwam=false"),
        ({"share_backbone": "yes", "mwam": False}, "share_backbone='yes' must be true or false"),
        ({"train": {"freeze": ["thermal"]}}, "freeze names 'thermal': choose from rgb, ir"),
        ({"fusion": "early"}, "fusion='early' is unknown: choose from concat, add, attention, p3, late"),
        ({"model": "yolov9e.yaml", "fusion": "p3"}, "outputs several maps"),
    ],
    ids=str,
)
def test_a_recipe_that_asks_for_the_impossible_is_refused(content, words, tmp_path):
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, **content)
    assert words in str(caught.value)


def test_weights_that_do_not_fit_are_refused_before_there_is_a_run_folder(single, demo_section, tmp_path):
    shared, small = tmp_path / "shared.pt", tmp_path / "small.pt"
    YOLO("yolov8n.yaml").save(small)
    yolo = MultimodalYOLO(TINY, {"rgb": 3, "ir": 3}, share_backbone=True)
    yolo.save(shared)
    for content, words in (
        ({"model": "yolov8n.yaml", "pretrained": str(single)}, "is from another model than yolov8n.yaml"),
        ({"model": str(shared)}, "share_backbone=true leaves MWAM nothing to weigh"),
        ({"model": str(shared), "mwam": False, "pretrained": {"ir": str(small)}}, "is from another model than"),
    ):
        experiment = demo_recipe(tmp_path, demo_section, **content)
        for act in (experiment.check, experiment.train):
            with pytest.raises(RecipeError) as caught:
                act()
            assert words in str(caught.value)
    others = {**demo_section, "modalities": {"rgb": "visible", "thermal": "infrared"}}
    for content in ({"model": str(shared)}, {"model": TINY, "pretrained": str(shared)}):
        experiment = demo_recipe(tmp_path, others, **content, mwam=False)
        for act in (experiment.check, experiment.train):
            with pytest.raises(DatasetError, match="the model takes the modalities"):
                act()
    assert not (tmp_path / "runs").exists()
    demo_recipe(tmp_path, demo_section, model=str(shared), mwam=False).check()
    demo_recipe(tmp_path, demo_section, model=TINY, pretrained=str(single)).check()
