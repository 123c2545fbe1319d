"""The summary of a robustness report in one sentence."""

from __future__ import annotations

from mwam_det.robustness.results import RobustnessResults

SAME = 0.005
"""Metrics that differ by less than this share of the complete one count as equal."""


def in_words(results: RobustnessResults) -> str | None:
    """Summarise what a model keeps without each single modality, the most costly one first.

    Shares are ratios of the first metric, which the sentence names, as mAP does not count objects.

    Returns:
        A sentence, or None if no result lacks exactly one modality.
    """
    metric, complete = results.primary, results.full.metrics[results.primary]
    without = {name: other.metrics[metric] for name in results.modalities if (other := results.without(name))}
    if not without:
        return None
    everything = "both" if len(results.modalities) == 2 else "all modalities"
    finds = "finds" if metric.startswith("mAP") else "reaches"
    if complete == 0:
        return f"With {everything} this model {finds} nothing ({metric} 0.000), so there is nothing to compare."
    parts: list[str] = []
    reference = f" of what it {finds} with {everything}"
    for name, value in sorted(without.items(), key=lambda item: item[1]):
        share = value / complete
        if value == 0:
            amount = "nothing"
        elif abs(share - 1) < SAME:
            amount = f"as much as with {everything}"
        elif share > 1:
            amount = f"more than with {everything}"
        else:
            amount, reference = _percent(share) + reference, ""  # only the first time
        parts.append(f"without {name}, {amount}" if parts else f"Without {name} this model {finds} {amount}")
    figures = ", ".join(f"{value:.3f} without {name}" for name, value in without.items())
    return f"{'; '.join(parts)} ({metric}: {complete:.3f} with {everything}, {figures})."


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %") if share >= SAME else "less than 1 %"
