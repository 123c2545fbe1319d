from pathlib import Path

import cv2
import pytest
import yaml
from untrained import folders, make_set, untrained

from mwam_det import MultimodalYOLO
from mwam_det.cli import export, main, predict, val
from mwam_det.engine.deployment import describe

SMALL = ["imgsz=64", "conf=0.1", "device=cpu"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("model") / "best.pt")


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, weights):
    """The working directory, with weights best.pt in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.pt").write_bytes(weights.read_bytes())
    return tmp_path


def sources(section, *names):
    return [f"{name}={folders(section)[name]}" for name in names or section["modalities"]]


def mistake(capsys, *words):
    """Run a command that must fail, and return the one line that tells why."""
    before = sorted(Path().rglob("*"))
    status = main(words)
    said = capsys.readouterr().err.splitlines()
    assert status == 2 and said[-1].startswith("error: ") and sum(line.startswith("error: ") for line in said) == 1
    assert sorted(Path().rglob("*")) == before, "a mistake left files behind"
    return said[-1]


# Prediction ---------------------------------------------------------------------------------------------------------


def test_predict_draws_what_it_finds_on_all_modalities(capsys, section):
    assert main(["predict", "best.pt", *SMALL, "save_txt=true", "--source", *sources(section)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith(f" objects in 4 pairs: {Path('runs/predict').resolve()}")
    assert sorted(file.name for file in Path("runs/predict").glob("*.jpg")) == [f"{number}.jpg" for number in range(4)]
    assert cv2.imread("runs/predict/0.jpg").shape[1] > 2 * 128
    lines = [file.read_text().splitlines() for file in Path("runs/predict/labels").iterdir()]
    assert sum(map(len, lines)) == int(said.split()[0]) > 0


def test_what_finds_no_objects_counts_none(capsys, section):
    MultimodalYOLO("yolov8n-cls.yaml").save("classes.pt")
    assert main(["predict", "classes.pt", "--source", *sources(section), *SMALL, "save=false"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Predicted on 4 pairs"


def test_arguments_may_follow_the_sources_and_a_modality_may_be_left_out(capsys, section, log):
    assert main(["predict", "best.pt", "--source", *sources(section, "ir"), *SMALL, "save=false"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" objects in 4 pairs")
    assert any("rgb is missing" in text for _, text in log)
    assert not Path("runs").exists()


def test_a_modality_may_be_there_and_count_as_missing(section, log):
    assert main(["predict", "best.pt", *SMALL, "missing=ir", "save=false", "--source", *sources(section)]) == 0
    assert any("ir is missing" in text for _, text in log)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--source", "rbg=a", "ir=b"], "unknown key 'rbg': did you mean 'rgb'?"),
        (["--source", "rgb=a", "ir=b", "imgz=64"], "unknown key 'imgz': did you mean 'imgsz'?"),
        (["save_text=true", "--source", "rgb=a"], "unknown key 'save_text': did you mean 'save_txt'?"),
        (["train.imgsz=64", "--source", "rgb=a"], "unknown key 'train.imgsz'"),
        (["--source", "a", "b"], "--source a must be MODALITY=PATH: the model takes rgb, ir"),
        (["--source", "rgb=a", "rgb=b"], "--source names rgb twice"),
        (["--source", "lidar=a"], "--source lidar=a: the model takes rgb, ir"),
        (["batch=0", "--source", "rgb=a"], "batch=0 must be a whole number, at least 1"),
        (["conf=high", "--source", "rgb=a"], "conf=high"),
        (["imgsz=0", "--source", "rgb=a"], "imgsz=0"),
        (["missing=2", "--source", "rgb=a"], "unknown modality 2: choose from rgb, ir"),
        (["missing=depth", "--source", "rgb=."], "depth"),
        (["verbose", "--source", "rgb=a"], "'verbose' is not an argument: write key=value"),
        (["--source", "rgb=nowhere"], "nowhere"),
        (["device=9", "--source", "rgb=a"], "device=9 is not there"),
    ],
)
def test_a_mistake_in_a_prediction_is_told_in_one_line(capsys, words, part):
    assert part in mistake(capsys, "predict", "best.pt", *words)


def test_prediction_needs_a_source(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["predict", "best.pt"])
    assert caught.value.code == 2 and "--source" in capsys.readouterr().err


# Export -------------------------------------------------------------------------------------------------------------


def test_export_writes_a_file_beside_the_weights_and_prints_its_place(capsys, folder):
    assert main(["export", "best.pt", "format=torchscript", "imgsz=64"]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]) == Path("best.torchscript")
    assert describe(folder / "best.torchscript")["modalities"] == {"rgb": 3, "ir": 3}


@pytest.mark.slow
def test_what_was_exported_is_predicted_with_and_evaluated(capsys, section):
    pytest.importorskip("onnx", reason="needs the extra 'export'")
    pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    assert main(["export", "best.pt", "format=onnx", "inputs=separate", "imgsz=64", "simplify=false"]) == 0
    assert describe("best.onnx")["inputs"] == ["rgb", "ir"]
    found = []
    for weights in ("best.onnx", "best.pt"):
        assert main(["predict", weights, *SMALL, "rect=false", "save=false", "--source", *sources(section)]) == 0
        found.append(int(capsys.readouterr().out.splitlines()[-1].split()[0]))
    assert found[0] == pytest.approx(found[1], abs=1) and found[1] > 4
    Path("pairs.yaml").write_text(yaml.safe_dump({"data": section}, sort_keys=False))
    assert main(["robustness", "best.onnx", "pairs.yaml", "device=cpu"]) == 0
    assert Path("runs/pairs-robustness/robustness.json").is_file()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["formt=onnx"], "unknown key 'formt': did you mean 'format'?"),
        (["format=onxx"], "format=onxx is unknown: choose from torchscript, onnx, openvino"),
        (["format=onnx", "inputs=split"], "inputs='split' is unknown: choose from stacked, separate"),
        (["inputs=separate"], "inputs=separate works with format=onnx, not torchscript"),
        (["format=onnx", "quantize=8"], "quantize=8 is calibrated on pairs: give data"),
        (["format=ncnn", "dynamic=true"], "argument 'dynamic' is not supported for format='ncnn'"),
        (["format=onnx", "dynamic=perhaps"], "dynamic=perhaps"),
        (["data=none.yaml", "format=onnx", "quantize=8"], "none.yaml"),
        (["epochs=3"], "unknown key 'epochs'"),
    ],
)
def test_a_mistake_in_an_export_is_told_in_one_line(capsys, words, part):
    assert part in mistake(capsys, "export", "best.pt", *words)


@pytest.mark.parametrize("command", [["predict", "--source", "rgb=a"], ["export", "format=onnx"]])
def test_a_mistake_in_the_weights_is_told_in_one_line(capsys, folder, command):
    command, *rest = command
    assert "there are no weights none.pt" in mistake(capsys, command, "none.pt", *rest)
    (folder / "notes.txt").write_text("no weights")
    assert "must be a checkpoint like best.pt" in mistake(capsys, command, "notes.txt", *rest)
    (folder / "empty.pt").write_text("no weights")
    assert "empty.pt" in mistake(capsys, command, "empty.pt", *rest)


def test_what_was_exported_already_is_not_exported_again(capsys, folder):
    (folder / "best.onnx").write_bytes(b"")
    assert "best.onnx is already exported" in mistake(capsys, "export", "best.onnx", "format=onnx")


def test_one_combination_is_validated_on_the_data_of_a_recipe(capsys, section, monkeypatch):
    Path("pairs.yaml").write_text(yaml.safe_dump({"data": section}, sort_keys=False))
    given, validate = [], MultimodalYOLO.val
    monkeypatch.setattr(
        MultimodalYOLO, "val", lambda self, **options: given.append(options) or validate(self, **options)
    )
    words = ["val", "best.pt", "pairs.yaml", "missing=ir", "imgsz=64", "plots=false", "device=cpu", "workers=0"]
    assert main(words) == 0
    assert given[0]["missing"] == "ir" and given[0]["data"]["path"] == section["path"]
    assert Path("runs/pairs-val").is_dir()
    assert Path(given[0]["project"]) == Path("runs").resolve()
    assert "choose from rgb, ir" in last_line_of_mistake(capsys, [*words, "missing=lidar"])
    assert "no split 'night': choose from train, val" in last_line_of_mistake(capsys, [*words, "split=night"])


@pytest.mark.parametrize("command", ["val", "robustness"])
def test_an_exported_file_that_is_damaged_is_named(capsys, section, command):
    pytest.importorskip("onnxruntime", reason="the extra export opens ONNX files")
    Path("pairs.yaml").write_text(yaml.safe_dump({"data": section}, sort_keys=False))
    Path("damaged.onnx").write_text("no weights")
    line = last_line_of_mistake(capsys, [command, "damaged.onnx", "pairs.yaml", "device=cpu"])
    assert line.startswith("error: damaged.onnx is not a loadable ONNX model")


def last_line_of_mistake(capsys, words):
    assert main(words) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("keys", [predict.KEYS, export.KEYS, val.KEYS])
def test_every_key_of_a_command_is_known_to_ultralytics_or_ours(keys):
    from ultralytics.utils import DEFAULT_CFG_DICT

    assert set(keys) - set(DEFAULT_CFG_DICT) <= {"missing", "partners", "inputs"}
    assert len(set(keys)) == len(keys)
