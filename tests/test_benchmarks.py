"""Benchmarks run, in mixed precision too, on inputs too small to measure anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ("--batch", "2", "--imgsz", "64", "--rounds", "2")
DCT = """
import torch


def dct_2d(images, norm):
    n = images.shape[-1]
    k = torch.arange(n, dtype=torch.float64)
    basis = (torch.pi * (2 * k + 1) * k[:, None] / (2 * n)).cos() * (2 / n) ** 0.5
    basis[0] /= 2**0.5
    with torch.autocast("cpu", enabled=False):
        return basis.to(images) @ images @ basis.T.to(images)
"""
"""In the place of torch-dct, which only the benchmark needs."""


def benchmark(folder, name, *arguments):
    (folder / "torch_dct.py").write_text(DCT, encoding="utf-8")
    path = os.pathsep.join([str(folder), str(ROOT / "src")])
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *SMALL, *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, cwd=folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("step_overhead", ["--amp", "bf16", "--contiguous"], ["bf16, contiguous", "views 2, checkpoint"]),
        ("step_overhead", ["--balancing"], ["fp32", "OGM-GE", "AGM", "MMPareto"]),
        ("metric_cost", [], ["fp32", "uint8", "float32"]),
        ("metric_cost", ["--amp", "bf16", "--channels-last"], ["channels last, cpu, bf16", "bfloat16"]),
        ("metric_cost", ["--amp"], ["fp16", "float16"]),
    ],
)
def test_a_benchmark_prints_its_table(tmp_path, name, arguments, words):
    if "--balancing" in arguments:
        pytest.importorskip("torchjd", reason="TorchJD is an extra: pip install '.[balancing]'")
    ended = benchmark(tmp_path, name, *arguments)
    assert ended.returncode == 0, ended.stderr
    assert all(word in ended.stdout for word in ["2 rounds in turn", *words])


@pytest.mark.slow
def test_half_precision_of_a_step_needs_a_gpu(tmp_path):
    ended = benchmark(tmp_path, "step_overhead", "--amp")
    assert ended.returncode == 2 and "--amp fp16 needs a GPU" in ended.stderr


def test_one_class_is_compared_over_the_runs_of_each_arm(tmp_path):
    for arm, both in (("baseline", (0.5, 0.7)), ("views", (0.6, 0.9))):
        for seed, value in enumerate(both):
            folder = tmp_path / "runs" / arm / f"seed{seed}"
            folder.mkdir(parents=True)
            rows = ["available,class,objects,mAP50", f"ir,boat,7,{value / 2}", f"rgb+ir,boat,7,{value}"]
            (folder / "robustness_classes.csv").write_text("\n".join([*rows, "ir,cow,1,0.1", "rgb+ir,cow,1,0.1"]))
    command = [sys.executable, str(ROOT / "benchmarks" / "by_class.py"), str(tmp_path / "runs")]
    ended = subprocess.run([*command, "boat"], capture_output=True, text=True)
    assert "0.375 ± 0.106 │ 0.750 ± 0.212 │ +0.150 [-0.485, +0.785]" in ended.stdout, ended.stderr
    ended = subprocess.run([*command, "ship"], capture_output=True, text=True)
    assert ended.returncode and "has no class ship: choose from boat, cow" in ended.stderr
