"""The spectra of a set, and the curves of a study of frequencies."""

import csv
import json

import numpy as np
import pytest
from hosts import section, write_pictures

from mwam_det.cli import main
from mwam_det.data.filtering import WindowFilter
from mwam_det.study.curves import Curves, claims, read_curves
from mwam_det.study.spectra import octave_names, radial_power


@pytest.fixture
def recipe(tmp_path):
    write_pictures(tmp_path / "set")
    content = {"task": "multimodal-classification", "data": section(tmp_path / "set"), "train": {"imgsz": 16}}
    file = tmp_path / "toy.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_the_power_of_a_wave_is_in_the_ring_of_its_frequency():
    wave = 127.5 + 51 * np.cos(2 * np.pi * 5 * np.arange(64) / 64)
    power, octaves = radial_power(np.broadcast_to(wave, (3, 32, 64)))
    assert power.argmax() == 4 and power.shape == (32,)
    assert octaves.sum() == pytest.approx(0.2**2 / 2)  # the variance of an amplitude of 0.2
    assert octaves[2] == pytest.approx(octaves.sum())
    assert octave_names(len(octaves)) == ["1", "2–3", "4–7", "8–15", "16 and more"]


@pytest.mark.parametrize("size", [(16, 16), (24, 32), (15, 21)])
def test_octaves_add_up_to_the_variance(size):
    pixels = np.random.default_rng(0).integers(0, 256, (1, *size)).astype(np.uint8)
    assert radial_power(pixels)[1].sum() == pytest.approx((pixels / 255).var())


def test_the_command_measures_what_training_reads_filters_included(recipe, tmp_path, capsys):
    assert main(["spectrum", str(recipe), "data.filter={ir: {low: 3}}", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out/spectrum.json").read_text(encoding="utf-8"))
    high = {name: found[name]["octaves"]["4 and more"]["mean"] for name in ("rgb", "ir")}
    assert found["rgb"]["images"] == 8 and high["rgb"] > 0.1 and high["ir"] < 0.01
    with (tmp_path / "out/spectrum.csv").open(encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == 2 * 8
    assert (tmp_path / "out/spectrum.png").is_file()
    assert "brightness" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample=0"], "sample=0 must be a whole number of images"),
        (["one", "two"], "name one folder for the results"),
        (["data.filter={ir: {low: 0}}"], "filter: ir.low=0 must be a whole number"),
    ],
)
def test_mistakes_are_said_before_anything_is_measured(recipe, words, message, capsys):
    assert main(["spectrum", str(recipe), *words]) == 2
    assert message in capsys.readouterr().err


ARMS = {"raw": None, "low3": {"rgb": {"low": 3}, "ir": {"low": 3}}, "rgb-low": {"rgb": {"low": 3}, "ir": {"low": 1}}}


@pytest.mark.slow
def test_a_comparison_of_filters_gives_losses_and_metrics_by_arm(recipe, tmp_path, capsys):
    arms = {name: {"data": {"filter": filters or False}} for name, filters in ARMS.items()}
    study = tmp_path / "waves.yaml"
    study.write_text(json.dumps({"arms": arms, "seeds": 1, "common": {"mwam": False}}), encoding="utf-8")
    words = ["train.epochs=2", "train.batch=4", "train.device=cpu", f"train.project={tmp_path}"]
    assert main(["compare", str(recipe), "--arms", str(study), *words]) == 0
    folder = tmp_path / "toy-compare"
    low = read_curves(folder)[1]
    assert (low.arm, low.kind, low.seeds, len(low.loss), len(low.metric)) == ("low3", ("low", 3), 1, 2, 2)
    with (folder / "low3/seed0/history.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert low.loss == [float(row["loss"]) for row in rows]
    assert low.metric == [float(row["accuracy(rgb+ir)"]) for row in rows]
    assert main(["spectrum", "--from", str(folder)]) == 0
    assert (folder / "spectrum.png").is_file() and "Unfiltered: mean loss" in capsys.readouterr().out
    assert list(json.loads((folder / "spectrum.json").read_text())["arms"]) == list(ARMS)


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ("metrics/mAP50(B),metrics/mAP50-95(B)", "metrics/mAP50(B)"),
        ("metrics/mAP50(B),metrics/mAP50-95(B),metrics/mAP50(M),metrics/mAP50-95(M)", "metrics/mAP50(M)"),
        ("metrics/mAP50(B),metrics/mAP50-95(B),metrics/mAP50(P),metrics/mAP50-95(P)", "metrics/mAP50(P)"),
        ("metrics/mIoU,metrics/pixel_acc", "metrics/mIoU"),
        ("metrics/accuracy_top1,metrics/accuracy_top5", "metrics/accuracy_top1"),
    ],
)
def test_the_curve_of_a_task_is_that_of_its_reports_metric(columns, wanted, tmp_path):
    names = ["epoch", "train/loss", *columns.split(","), "val/loss", "lr/pg0"]
    run = tmp_path / "low/seed0/results.csv"
    run.parent.mkdir(parents=True)
    run.write_text(",".join(names) + "\n" + ",".join(str(place) for place in range(len(names))) + "\n")
    content = {"modalities": ["rgb", "ir"], "arms": [an_arm("low", ["data.filter={rgb: {low: 3}, ir: {low: 3}}"])]}
    (tmp_path / "compare.json").write_text(json.dumps(content))
    assert read_curves(tmp_path)[0].metric == [names.index(wanted)]


def an_arm(name, overrides, has_both=True):
    """An arm of compare.json whose seed 0 is done."""
    metrics = {"first": {"rgb+ir": {"values": {"0": 0.5}} if has_both else None}}
    return {"name": name, "overrides": overrides, "runs": [{"seed": 0, "state": "done"}], "metrics": metrics}


def test_the_curves_are_those_of_the_filters_and_the_first_arm_without_any(tmp_path, capsys):
    arms = [
        an_arm("only-ir", ["data.modalities={ir: infrared}"], has_both=False),
        an_arm("plain", []),
        an_arm("low", ["data.filter.rgb.low=3", "data.filter.ir={low: 3}"]),
        an_arm("views", ["incomplete=true"]),
    ]
    for place, arm in enumerate(arms):
        file = tmp_path / arm["name"] / "seed0/history.csv"
        file.parent.mkdir(parents=True)
        file.write_text(f"epoch,loss,metric\n1,{place},0.5\n")
    (tmp_path / "compare.json").write_text(json.dumps({"modalities": ["rgb", "ir"], "arms": arms}))
    curves = read_curves(tmp_path)
    assert [(each.arm, each.kind) for each in curves] == [("plain", ("raw", 0)), ("low", ("low", 3))]
    assert main(["spectrum", "--from", str(tmp_path)]) == 0
    assert "Unfiltered: mean loss 1.000, last loss 1.000, metric 0.500" in capsys.readouterr().out


def test_a_folder_without_such_a_comparison_is_refused(tmp_path, capsys):
    assert main(["spectrum", "--from", str(tmp_path)]) == 2
    assert "holds no comparison of arms with data.filter" in capsys.readouterr().err


def curves(arm, loss, reached, **filters):
    kept = {name: WindowFilter(*each) for name, each in filters.items()}
    return Curves(arm, kept, 1, loss, [0.5] * len(loss), [reached])


def test_the_claims_name_the_modality_on_whose_low_frequencies_the_loss_falls_fastest():
    said = claims(
        [
            curves("a", [2.0, 1.0], 0.7, rgb=("low", 9), ir=("low", 1)),
            curves("b", [2.0, 0.5], 0.8, ir=("low", 9), rgb=("low", 1)),
            curves("c", [1.0, 0.5], 0.9, ir=("low", 5), rgb=("low", 5)),
            curves("d", [2.0, 1.5], 0.6, ir=("high", 5), rgb=("high", 5)),
        ]
    )
    assert said == [
        "Window 5: low frequencies mean loss 0.750, last loss 0.500, metric 0.900; "
        "high frequencies mean loss 1.750, last loss 1.500, metric 0.600.",
        "The loss falls fastest on the low frequencies of ir: rgb mean loss 1.500, last loss 1.000, metric 0.700; "
        "ir mean loss 1.250, last loss 0.500, metric 0.800.",
    ]
