"""How much longer does a two-stream model take than a single stream, and do its operations explain it?

    python benchmarks/inference_speed.py [--model yolov8n.yaml] [--imgsz 640] [--rounds 20] [--threads 1]
        [--device cuda --amp]

Times single-stream and two-stream models of one description, fused for inference, batch 1, in turn: in PyTorch as
`predict` runs them, and on the CPU also in ONNX Runtime and OpenVINO if installed. The two-stream model is timed with
the convolution that splits the image, as plain Ultralytics runs and exports it, and without, as in this package. The
ratios of time are shown beside those of FLOPs, as counted by PyTorch. Outputs with and without the convolution are
compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from machine import argument_parser, show, time_in_turn
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from ultralytics import YOLO
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER

from mwam_det import MultimodalYOLO
from mwam_det.data.synthetic import CLASS_NAMES
from mwam_det.models.two_stream import build_two_stream, drop_split_convolution, two_stream_cfg

SINGLE, WITH, WITHOUT, SEPARATE = "single stream", "two streams, with convolution", "two streams", "separate inputs"


def gflops(model: nn.Module, images: np.ndarray) -> float:
    """Count the operations of a model, fused for inference, in 10⁹."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        deepcopy(model).fuse(verbose=False)(torch.from_numpy(images))
    return counter.get_total_flops() / 1e9


def pytorch(
    models: dict[str, nn.Module], images: dict[str, np.ndarray], device: torch.device, half: bool
) -> dict[str, Callable[[], np.ndarray]]:
    """Return callables that run the models in PyTorch."""
    ways = {}
    for name, model in models.items():
        backend = AutoBackend(deepcopy(model), device, fp16=half, verbose=False)
        batch = torch.from_numpy(images[name]).to(device, torch.float16 if half else torch.float32)
        ways[name] = lambda backend=backend, batch=batch: backend(batch)[0].float().cpu().numpy()
    return ways


def exported(
    models: dict[str, nn.Module], images: dict[str, np.ndarray], folder: Path, format_: str, threads: int
) -> dict[str, Callable[[], np.ndarray]]:
    """Return callables that run exported files of the models, as in deployment."""
    ways = {}
    for name, model in models.items():
        exporter = YOLO if name in (SINGLE, WITH) else MultimodalYOLO
        file = folder / format_ / name / "best.pt"
        file.parent.mkdir(parents=True)
        yolo = YOLO("yolov8n.yaml")
        yolo.model = model
        yolo.save(file)
        inputs = {"inputs": "separate"} if name == SEPARATE else {}
        file = exporter(file).export(format=format_, imgsz=images[name].shape[2], **inputs)
        ways[name] = (onnxruntime if format_ == "onnx" else openvino)(file, images[name], threads)
    return ways


def onnxruntime(file: str, images: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that runs a file in ONNX Runtime."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = threads
    session = InferenceSession(file, options)
    names = [each.name for each in session.get_inputs()]
    feed = dict(zip(names, np.split(images, len(names), 1), strict=True))
    feed = {name: np.ascontiguousarray(image) for name, image in feed.items()}
    return lambda: session.run(None, feed)[0]


def openvino(file: str, images: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """Return a callable that runs a file in OpenVINO."""
    from openvino import Core

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    model = Core().compile_model(next(Path(file).glob("*.xml")), "CPU", settings)
    return lambda: model(images)[0]


def main() -> None:
    """Measure and print."""
    parser = argument_parser(__doc__, imgsz=640, rounds=20, threads=1)
    parser.add_argument("--model", default="yolov8n.yaml")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", action="store_true", help="float16, on a GPU")
    args = parser.parse_args()
    device = torch.device(args.device)
    half, on_cpu = args.amp and device.type == "cuda", device.type == "cpu"
    LOGGER.setLevel("ERROR")
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    single = DetectionModel(args.model, ch=3, nc=len(CLASS_NAMES), verbose=False).eval()
    two = build_two_stream(two_stream_cfg(args.model), nc=len(CLASS_NAMES)).eval()
    for model in (single, two):
        model.args, model.task = {**DEFAULT_CFG_DICT, "model": args.model}, "detect"
    drop_split_convolution(lean := deepcopy(two))
    generator = np.random.default_rng(0)
    stack = generator.random((1, 6, args.imgsz, args.imgsz), np.float32)
    images = {SINGLE: np.ascontiguousarray(stack[:, :3]), WITH: stack, WITHOUT: stack, SEPARATE: stack}
    native = {SINGLE: single, WITH: two, WITHOUT: lean}
    stacked = {**native, WITHOUT: two}  # our export leaves the convolution out
    models = {**stacked, SEPARATE: two}

    table = Table("runtime", *(f"{name}" for name in models), title="milliseconds; ratio to the single stream")
    flops = {name: gflops(model, images[name]) for name, model in native.items()}
    cells = [f"{value:.3f} GFLOPs\n{value / flops[SINGLE]:.3f}" for value in flops.values()]
    table.add_row("operations", *cells, "")
    differences = []
    with tempfile.TemporaryDirectory() as folder:
        runtimes = {"PyTorch": pytorch(native, images, device, half)}
        if on_cpu and find_spec("onnxruntime"):
            runtimes["ONNX Runtime"] = exported(models, images, Path(folder), "onnx", args.threads)
        if on_cpu and find_spec("openvino"):
            runtimes["OpenVINO"] = exported(stacked, images, Path(folder), "openvino", args.threads)
        for name, ways in runtimes.items():
            with torch.inference_mode():
                times = time_in_turn(ways, args.rounds, warmup=3, device=args.device)
                outputs = {other: ways[other]() for other in ways}
            cells = [f"{spread:.1f}\n{spread.over(times[SINGLE]):.3f}" for spread in times.values()]
            table.add_row(name, *cells, *[""] * (len(models) - len(cells)))
            for other in [other for other in outputs if other not in (SINGLE, WITH)]:
                difference = np.abs(outputs[other] - outputs[WITH]).max()
                differences.append(f"{name}: outputs of '{other}' and '{WITH}' differ by {difference:.1e} at most")
    show(
        f"{args.model}, {args.imgsz} px, batch 1, {device}, {'float16' if half else 'float32'}, median (quartiles) of "
        f"{args.rounds} rounds in turn",
        table,
        *differences,
        width=160,
    )


if __name__ == "__main__":
    main()
