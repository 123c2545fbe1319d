"""The methods of Ultralytics that our classes override, and the snapshot of them in `overrides.json`.

    python tests/contract/overrides.py

writes the snapshot anew for the installed Ultralytics and prints the rows that changed. Look first at each method that
the contract test names: our method may have to pass on a parameter that Ultralytics added.
"""

import importlib
import inspect
import json
from pathlib import Path

import ultralytics

import mwam_det
from mwam_det.engine.combinations import OnePass, OnePassValidator
from mwam_det.engine.evaluation import Reporting, ReportingValidator
from mwam_det.engine.trainer import MWAMTrainer, PairTrainer
from mwam_det.engine.validator import MultimodalValidator, PairValidator

PACKAGE = Path(mwam_det.__file__).parent
SNAPSHOT = Path(__file__).with_suffix(".json")
COMMAND = "python tests/contract/overrides.py"

WITH_DETECTION = {
    PairTrainer: MWAMTrainer,
    PairValidator: MultimodalValidator,
    OnePass: OnePassValidator,
    Reporting: ReportingValidator,
}
"""Mixins of ours, and where they meet Ultralytics' classes of detection."""


def our_classes() -> dict[str, type]:
    """Every class of ours that derives from one of Ultralytics, by name."""
    found = {}
    for file in [*PACKAGE.glob("data/*.py"), *PACKAGE.glob("engine/*.py")]:
        name = ".".join(["mwam_det", *file.relative_to(PACKAGE).with_suffix("").parts])
        module = importlib.import_module(name)
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__ == name and stock_classes(cls):
                found[cls.__name__] = cls
    return found


def stock_classes(cls: type) -> list[type]:
    """The classes of Ultralytics that come after one of ours where methods are looked up; a detector's, for mixins."""
    order = WITH_DETECTION.get(cls, cls).__mro__
    return [base for base in order[order.index(cls) :] if base.__module__.startswith("ultralytics.")]


def overrides_of(cls: type) -> dict[str, type]:
    """The stock class whose method is overridden, by name of the method."""
    kinds = property, staticmethod, classmethod
    names = [name for name, value in vars(cls).items() if inspect.isfunction(value) or isinstance(value, kinds)]
    found = {name: next((stock for stock in stock_classes(cls) if name in vars(stock)), None) for name in names}
    return {name: stock for name, stock in found.items() if stock is not None}


def parameters(method) -> str:
    """Name the parameters of a method in order, with the stars of those that take any number."""
    function = method.fget if isinstance(method, property) else getattr(method, "__func__", method)
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return ", ".join(stars.get(p.kind, "") + name for name, p in inspect.signature(function).parameters.items())


def overrides() -> dict[str, str]:
    """What each method of ours overrides: "PairLoader.close" → "LoadImagesAndVideos.close(self)"."""
    return {
        f"{name}.{method}": f"{stock.__name__}.{method}({parameters(vars(stock)[method])})"
        for name, cls in sorted(our_classes().items())
        for method, stock in sorted(overrides_of(cls).items())
    }


def recorded() -> dict[str, str]:
    """The same from the snapshot."""
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))["overrides"]


def recorded_version() -> str:
    """The version of Ultralytics that the snapshot was made with."""
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))["ultralytics"]


def main() -> None:
    """Write the snapshot, and print what changed."""
    before, now = recorded() if SNAPSHOT.exists() else {}, overrides()
    for row in sorted(before.keys() | now.keys()):
        if before.get(row) != now.get(row):
            print(f"{row}: {before.get(row, 'new')} -> {now.get(row, 'gone')}")
    content = {"ultralytics": ultralytics.__version__, "overrides": now}
    SNAPSHOT.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
