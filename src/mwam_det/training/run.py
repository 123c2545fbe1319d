"""One training with modalities: what it observes, the incomplete input it sees, and what its validations decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import c_float
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from mwam_det.core.balancing.balancer import Attachment, Balancer, BalancingConfig, Streams
from mwam_det.core.balancing.evidence import Evidence
from mwam_det.core.balancing.methods import make_balancer
from mwam_det.core.config import MWAMConfig, has_begun
from mwam_det.core.distributed import from_first_rank
from mwam_det.core.missing import collapse_without_each, modality_combinations
from mwam_det.core.modulation import modulate
from mwam_det.core.mwam import MWAM
from mwam_det.training.direction import DirectionCheck
from mwam_det.training.history import MWAMHistory
from mwam_det.training.incomplete import WARM_UP, IncompleteConfig, Views, check_incomplete, draw_views, views_alone
from mwam_det.training.selection import Selection, selected_fitness

EPOCH_SEEDS = 1_000_003
"""Seeds of a run's epochs are this far from those of another run's: a prime above any number of epochs."""

RANK_SEEDS = 7_368_787
"""Seeds of a process are this far from those of the next: processes draw for other samples."""


class ModalityRun:
    """A training with modalities, in any loop.

        run = ModalityRun(["rgb", "depth"], mwam=MWAMConfig(), incomplete=IncompleteConfig())
        run.attach({"rgb": model.rgb, "depth": model.depth}, optimizer)  # MWAM scales the gradients of the streams
        for epoch in range(epochs):
            run.begin_epoch(epoch, epochs)
            for rgb, depth, target in loader:
                run.observe({"rgb": rgb, "depth": depth})               # before backward, on what the sensors gave
                features = {"rgb": model.rgb(rgb), "depth": model.depth(depth)}
                if views := run.incomplete(len(rgb)):
                    mixed = [views.mix(name, values) for name, values in features.items()]
                    loss = views.average(criterion(part, target) for part in views.split(model.head(mixed)))

    With `balancing`, `balance` takes the place of `views.average`:

                    parts = views.split(model.head(mixed))
                    loss = run.balance(views, [criterion(part, target) for part in parts], logits=parts, target=target)

    All randomness follows from seed, rank and epoch, so that a resumed run draws what an uninterrupted one would.

    Args:
        modalities: Names of the modalities, one or more.
        mwam: MWAM's parameters, or None for a training without.
        incomplete: What a step sees of missing modalities, or None for complete input alone.
        balancing: Settings of a method that balances the modalities, or None.
        selection: What decides on the best checkpoint.
        file: File for the record of MWAM's mini-batches, or None.
        seed: Seed of what is drawn.
        rank: Number of this process; only 0 keeps the record.

    Raises:
        ValueError: If `incomplete` does not fit the modalities or MWAM, see `check_incomplete`, or `balancing` does not
            fit the others, see `build_balancer`.
        ImportError: If the method needs a package that is not installed.

    Attributes:
        modalities: As given.
        mwam: The `MWAM` of the run, or None.
        balancer: The method that balances the modalities, or None.
        incomplete_config: What a step sees of missing modalities, or None.
        selection: As given.
        history: The record of MWAM's mini-batches, or None.
        scores: The metric by available modalities, as last validated.
        epoch: The epoch that is trained, from 0.
        epochs: The number of epochs, as of the last `begin_epoch`.
        views_since: The epoch from which on incomplete views are trained, 0 without `start`; None before it.
        attachments: What `attach` has attached to the streams: MWAM's modulator, then that of balancing.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        mwam: MWAMConfig | None = None,
        incomplete: IncompleteConfig | None = None,
        balancing: BalancingConfig | None = None,
        selection: Selection | None = None,
        file: Path | None = None,
        seed: int = 0,
        rank: int = 0,
    ):
        check_incomplete(incomplete, modalities, mwam)
        self.modalities = tuple(modalities)
        self.mwam = MWAM(self.modalities, mwam) if mwam else None
        self.balancer = build_balancer(balancing, self.modalities, incomplete, mwam)
        self.selection = selection or Selection()
        self.history = MWAMHistory(file, self.modalities) if mwam and file and rank <= 0 else None
        self.scores: dict[tuple[str, ...], float] = {}
        self.epoch, self.epochs = 0, 1
        self.views_since = None if incomplete is not None and incomplete.start else 0
        self.attachments: list[Attachment] = []
        self.incomplete_config = incomplete
        self._seed, self._rank = seed, max(rank, 0)
        self._generator = torch.Generator()
        self._present: dict[str, Tensor] = {}
        self._factors: list[dict[str, float]] = []  # those of balancing in each step of the epoch
        self._in_step = False
        self._direction = DirectionCheck()

    # In each epoch and step -------------------------------------------------------------------------------------------

    def begin_epoch(self, epoch: int, epochs: int) -> int:
        """Begin an epoch (from 0) out of `epochs`; return the seed of what this process draws in it."""
        self.epoch, self.epochs = epoch, epochs
        config = self.incomplete_config
        if self.views_since is None and config is not None and has_begun(config.start, epoch, epochs):
            self.views_since = epoch  # kept: a run of a given time changes `epochs` as it goes
        seed = self._seed * EPOCH_SEEDS + self._rank * RANK_SEEDS + epoch
        self._generator.manual_seed(seed)
        if self.balancer is not None:
            self.balancer.begin_epoch(epoch, epochs, seed)
        if self.history is not None:
            self.history.discard_pending()  # an epoch that is begun again
        self._factors.clear()
        self._in_step = False
        return seed

    def end_epoch(self) -> None:
        """Write the record of the epoch; call this before its checkpoint is saved."""
        self._note_factors()
        if self.history is not None:
            self.history.flush()

    def means(self, epoch: int) -> dict[str, float]:
        """Return the means over the mini-batches of the epoch that ended last, for logs.

        Args:
            epoch: The epoch (from 1) that is asked for.

        Returns:
            MWAM's FRM, share and weight as "mwam/frm/rgb", and the factors of balancing as "balancing/factor/rgb"; {}
            if the epoch is not the one that ended last.
        """
        means = self.history.means(epoch) if self.history is not None else {}
        if epoch == self.epoch + 1 and self._factors:
            factors = {name: fmean(step[name] for step in self._factors) for name in self.modalities}
            means |= {f"balancing/factor/{name}": factor for name, factor in factors.items()}
        return means

    def _note_factors(self) -> None:
        """Record the factors by which balancing scaled the last step."""
        if self.balancer is not None and self._in_step:
            self._factors.append(self.balancer.factors)
        self._in_step = False

    def observe(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Let MWAM observe and record a mini-batch, see `MWAM.observe`, and balancing find absent modalities.

        Returns:
            MWAM's weight of every modality, 0-d float32, or {} without MWAM.
        """
        self._note_factors()  # those of the last step
        self._in_step = True
        if self.balancer is not None and self.balancer.needs_views:
            self._present = {name: images.any().bool() for name, images in inputs.items()}
        if self.mwam is None:
            return {}
        weights = self.mwam.observe(inputs)
        if self.history is not None and self.mwam.last is not None:
            self.history.append(self.epoch + 1, self.mwam.last)
        return weights

    def incomplete(self, count: int) -> Views | None:
        """Decide on the views in which this step sees its mini-batch, those that balancing measures included.

        Args:
            count: Number of samples.

        Returns:
            The views, or None if the step sees the samples complete and once.
        """
        config = self.incomplete_config
        if config is None or self.views_since is None:
            return self._views_of_balancing(count)
        weights = None
        if self.mwam is not None and config.weights == "mwam":
            weights = self._weights_of_mwam()
        share = (self.epoch - self.views_since) / max(self.epochs - self.views_since, 1)
        return draw_views(count, self.modalities, config, weights, self._generator, min(share / WARM_UP, 1.0))

    def _weights_of_mwam(self) -> dict[str, float]:
        """Return MWAM's weights, rounded to float32: from its observation, if any, as that is not on the device."""
        assert self.mwam is not None
        noted = self.mwam.last.weight if self.mwam.last is not None else self.mwam.weights
        return {name: c_float(float(weight)).value for name, weight in noted.items()}

    def _views_of_balancing(self, count: int) -> Views | None:
        balancer = self.balancer
        if balancer is None or not (balancer.needs_views and balancer.active):
            return None
        if balancer.trains_views and self.incomplete_config is not None:
            return None  # `start` of the views counts
        measure_only = not (balancer.trains_views or balancer.follows_views)
        return views_alone(count, self.modalities, shared=balancer.trains_views, measure_only=measure_only)

    def attach(self, streams: Streams, optimizer: torch.optim.Optimizer) -> None:
        """Let MWAM, see `modulate`, and the method of `balancing`, see `Balancer.attach`, act on the streams.

        Their factors multiply, MWAM's first. Call this once the model is final: copies and checkpoints lack the hooks.

        Args:
            streams: The parameters of each modality's backbone. Fusion, neck and head are not among them.
            optimizer: The optimizer that steps them.

        Raises:
            ValueError: If the names are not the modalities, a stream has no parameters, or a parameter belongs to two.
        """
        by_mwam = modulate(self.mwam, streams, optimizer) if self.mwam is not None else None
        by_balancing = self.balancer.attach(streams, optimizer) if self.balancer is not None else None
        self.attachments = [attachment for attachment in (by_mwam, by_balancing) if attachment is not None]

    def detach(self) -> None:
        """Remove what `attach` has attached."""
        for attachment in self.attachments:
            attachment.remove()
        self.attachments = []

    def balance(
        self,
        views: Views | None,
        losses: Sequence[Tensor],
        *,
        logits: Sequence[Tensor] | None = None,
        target: Tensor | None = None,
        scale: float | Tensor = 1.0,
        multiple: float = 1.0,
    ) -> Tensor:
        """Let balancing observe a mini-batch, and return the loss to call `backward` on.

        Where `views.measure_only`, views after the first are not trained. Run them apart from the step, without
        gradient and under `mwam_det.training.measuring.measuring`: otherwise batch norms learn their statistics too.

        Args:
            views: What `incomplete` returned.
            losses: Loss of each view in order, `multiple` times the mean over its samples, of any shape whose sum is
                the loss.
            logits: Class scores of each view, shape (B, classes, …), of a task that has them.
            target: Class numbers, shape (B, …), where there are logits.
            scale: What the loss is multiplied by before its backward pass, a number or 0-d. Of a `GradScaler`,
                `scaler.scale(torch.ones((), device=…))`: `get_scale` would wait for the device.
            multiple: See `losses`: 1 for means; the number of samples where the loss is their sum.

        Returns:
            Without balancing Σ_c w_c L_c, of the shape of a loss.

        Raises:
            ValueError: If the method needs logits and `logits` is None.
        """
        if views is None:
            return losses[0]
        if self.balancer is None or not self.balancer.needs_views:
            return views.average(losses)
        combinations = [combination for combination in views.combinations if combination is not None]
        evidence = Evidence(
            losses=dict(zip(combinations, losses, strict=True)),
            weights=dict(zip(combinations, views.weights, strict=True)),
            logits=None if logits is None else dict(zip(combinations, logits, strict=True)),
            target=target,
            present=self._present or None,
            count=next(iter(views.present.values())).shape[1],
            multiple=multiple,
        )
        self.balancer.observe(evidence)
        return self.balancer.loss(evidence, scale)

    # In each validation -----------------------------------------------------------------------------------------------

    @property
    def validates_combinations(self) -> bool:
        """Whether MWAM, balancing or the selection needs validations of every combination of modalities."""
        measures = self.mwam is not None and self.mwam.config.preference == "measured"
        measures = measures or (self.balancer is not None and self.balancer.needs_validation)
        return len(self.modalities) > 1 and (measures or self.selection.select != "full")

    @property
    def begins_views(self) -> bool:
        """Whether this epoch is the first with incomplete views: earlier ones cannot be the best of what is asked for.

        The loop forgets the best fitness then, before it validates.
        """
        return 0 < self.epoch == self.views_since

    def due(self, epoch: int, last: bool = False) -> bool:
        """Return whether the validation after an epoch covers every combination. All ranks must call together.

        The first validation does, and the first with views, then that of each epoch that `selection.every` divides, and
        the last.

        Args:
            epoch: The epoch that was trained, from 0, as Ultralytics counts them and `begin_epoch` does.
            last: Whether it is the last one.
        """
        if not self.validates_combinations:
            return False
        known = len(self.scores) > 1
        return from_first_rank(last or not known or self.begins_views or epoch % self.selection.every == 0)

    def take_in(
        self,
        scores: Mapping[tuple[str, ...], float],
        metric: str = "mAP50",
        losses: Mapping[tuple[str, ...], float] | None = None,
    ) -> str | None:
        """Record a validation; MWAM and balancing use one of every combination. All ranks must call together.

        Args:
            scores: The metric, in [0, 1], by available modalities: of complete input, or of all 2^M − 1 combinations.
                Those of rank 0 count.
            metric: Name of the metric.
            losses: Validation losses likewise, at least with each modality alone, from a host that has them.

        Returns:
            A warning, once, when the modality that MWAM takes for preferred is not the one that the model depends on.
        """
        self._note_factors()  # before they change
        scores, losses = from_first_rank((dict(scores), losses))
        self.scores = {**self.scores, **scores}
        if len(self.modalities) < 2 or not self._is_of_all(scores):
            return None
        if self.balancer is not None:
            alone = None if losses is None else self._of_each_alone(losses)
            self.balancer.validated(self._of_each_alone(scores), alone)
        if self.mwam is None:
            return None
        if self.mwam.config.preference == "measured":
            if (dependence := collapse_without_each(scores, self.modalities)) is not None:
                self.mwam.measure(dependence)
            return None
        if self.mwam.last is None:
            return None
        return self._direction.update(self.mwam.last.share, {name: scores[name,] for name in self.modalities}, metric)

    def fitness(self, values: Mapping[tuple[str, ...], float]) -> float | None:
        """Return the fitness that decides on the best checkpoint.

        Args:
            values: The fitness by available modalities, as far as validated; that of complete input must be there.

        Returns:
            The fitness that the selection asks for; None if that is of combinations that were not validated.
        """
        if self.selection.select == "full":
            return values[self.modalities]
        return selected_fitness(values.values(), self.selection.select) if self._is_of_all(values) else None

    def _is_of_all(self, values: Mapping[tuple[str, ...], float]) -> bool:
        return len(values) == len(modality_combinations(self.modalities))

    def _of_each_alone(self, values: Mapping[tuple[str, ...], float]) -> dict[str, float]:
        return {name: values[name,] for name in self.modalities}

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain Python values."""
        return {
            "mwam": self.mwam and self.mwam.state_dict(),
            "balancer": self.balancer and self.balancer.state_dict(),
            "scores": {"+".join(available): score for available, score in self.scores.items()},
            "direction": self._direction.state_dict(),
            "views_since": self.views_since,
        }

    def load_state_dict(self, state: Mapping[str, Any], epoch: int) -> None:
        """Load what `state_dict` returned after `epoch` epochs; later ones are dropped from the record.

        Raises:
            ValueError: If the state belongs to other modalities or another method of balancing, or only one of the two
                runs has MWAM or balancing.
        """
        balancer = state.get("balancer")  # missing in states from before there was balancing
        for name, current, given in (("MWAM", self.mwam, state["mwam"]), ("balancing", self.balancer, balancer)):
            if (given is None) != (current is None):
                raise ValueError("the state is of a run " + ("with " if current is None else "without ") + name)
        if self.balancer is not None and balancer is not None:
            self.balancer.load_state_dict(balancer)
        if self.mwam is not None:
            self.mwam.load_state_dict(state["mwam"])
        self.scores = {tuple(key.split("+")): score for key, score in state["scores"].items()}
        self._direction.load_state_dict(state["direction"])
        self.views_since = state.get("views_since", self.views_since)  # missing in older states
        if self.history is not None:
            self.history.keep_epochs(epoch)


def build_balancer(
    balancing: BalancingConfig | None,
    modalities: Sequence[str],
    incomplete: IncompleteConfig | None,
    mwam: MWAMConfig | None,
    classes: bool = True,
) -> Balancer | None:
    """Build the method that balances a run, and check that it fits the other settings.

    A method and MWAM may both act on the streams: their factors multiply, MWAM's first. The exception is a method that
    replaces the gradients that MWAM has scaled or added to.

    Args:
        balancing: Settings of the method, or None.
        modalities: All modalities.
        incomplete: What a step sees of missing modalities, or None.
        mwam: MWAM's parameters, or None.
        classes: Whether the host puts out class scores.

    Returns:
        The method; None without one.

    Raises:
        ValueError: If the settings do not fit the modalities or each other, or the method needs views that `incomplete`
            lacks, or class scores that the host lacks.
        ImportError: If the method needs a package that is not installed.
    """
    if balancing is None:
        return None
    method = balancing.method
    if len(modalities) < 2:
        raise ValueError(f"balancing: with {', '.join(modalities)} alone there is nothing to balance; set it to false")
    balancer = make_balancer(balancing, modalities)
    if balancer.needs_logits and not classes:
        raise ValueError(
            f"balancing.method={method} compares predicted classes of whole images or pixels, and this task predicts "
            "none: choose another method"
        )
    if incomplete is not None and balancer.fixed_views:
        raise ValueError(f"balancing.method={method} trains views of its own: set incomplete to false")
    if incomplete is not None and balancer.needs_views and incomplete.views != "all":
        raise ValueError(
            f"incomplete.views={incomplete.views}: balancing.method={method} compares each modality alone, on all "
            "samples: use all, or set incomplete to false"
        )
    if not balancer.combines_gradients:
        return balancer
    if mwam is not None and mwam.mode not in ("update", "observe"):
        raise ValueError(
            f"mwam.mode={mwam.mode}: balancing.method={method} combines the gradients that MWAM would scale or add to: "
            "use mwam.mode=update or observe, or mwam=false"
        )
    if incomplete is not None and incomplete.distill:
        raise ValueError(
            f"incomplete.distill={incomplete.distill}: balancing.method={method} combines the gradients of the views' "
            "losses, and would lose those of another one: set it to 0"
        )
    return balancer
