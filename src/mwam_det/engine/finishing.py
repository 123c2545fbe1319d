"""Finishing a run that died after its last epoch, before its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils.plotting import plot_results

from mwam_det.core.config import mwam_config
from mwam_det.engine.compat import without_chatter
from mwam_det.engine.facade import VALIDATION_ARGUMENTS, MultimodalYOLO
from mwam_det.engine.saving import finish_checkpoints, repair_best
from mwam_det.robustness.history import draw_history
from mwam_det.robustness.report import RobustnessReport


def finish_run(last: Path, data: Any, robustness: bool | Mapping[str, Any] = True) -> RobustnessReport | None:
    """Complete a training after its last epoch: finish the checkpoints, draw the curves, and make the report.

    Args:
        last: The run's last.pt, for which `is_trained` is true.
        data: A recipe's data section.
        robustness: As in `MultimodalYOLO.train`.

    Returns:
        The report, already saved, or None if none is wanted.
    """
    folder, best = last.parent.parent, last.with_name("best.pt")
    content = torch_safe_load(last)[0]
    trained_with = content["train_args"]
    if content["epoch"] >= 0:
        repair_best(last, best, content)
    with without_chatter():
        finish_checkpoints(last, best)
    if trained_with["plots"]:
        if (folder / "results.csv").is_file():
            plot_results(file=folder / "results.csv")
        draw_history(folder / "mwam.csv", folder / "mwam.png")
    if robustness is False:
        return None
    options = dict(robustness) if isinstance(robustness, Mapping) else {}
    shared = {key: trained_with[key] for key in VALIDATION_ARGUMENTS}
    shares = last_shares(trained_with)
    model = MultimodalYOLO(best if best.is_file() else last)
    return model.robustness(data, **{"save_dir": folder, "shares": shares, **shared, **options})


def last_shares(trained_with: Mapping[str, Any]) -> dict[str, float] | None:
    """Return T of every modality as a run last measured it in the frequencies, or None without such a measurement.

    Args:
        trained_with: The arguments in a checkpoint of the run, with its state unless the checkpoint is finished.
    """
    last = ((trained_with.get("run_state") or {}).get("mwam") or {}).get("last")
    if not last:
        return None
    config = mwam_config(trained_with["mwam"])
    return last["share"] if config is not None and config.preference == "frequency" else None
