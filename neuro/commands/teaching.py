"""How `neuro learn` teaches: rows under the trained head by a rule of Loihi's, or a last layer of binary weights as on Akida."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neuro.deploy import binary_head
from neuro.deploy.added_classes import add_classes, head_inputs, head_of
from neuro.deploy.competition import Competition
from neuro.deploy.learning import FewShot, few_shot, ones_for
from neuro.deploy.network import IntegerNetwork
from neuro.errors import FormatError, ParameterError, explain

NEURONS, COMPETITION = 10, 0.1  # of each class; of the vendor's tutorials


class Shown(NamedTuple):
    """Recordings to learn from, in the order in which they are: inputs [T, B, ...], labels [B], steps of each [B]; old classes, new ones."""

    x: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray
    old: int
    new: int


class Stage(NamedTuple):
    """A network to judge: what it is, the network, neurons of each class, and whether it takes recordings of one step only."""

    what: str
    network: IntegerNetwork
    neurons: int = 1
    one_step: bool = False


class Taught(NamedTuple):
    """What came of it: networks before, between and after, the last of which is written; what the .json says of it; lines to print."""

    stages: tuple[Stage, ...]
    about: dict[str, Any]
    lines: tuple[str, ...]


class Settings(NamedTuple):
    """Of a binary layer that is made; None: the default."""

    neurons: int | None = None
    weights: int | None = None
    least: int | None = None
    initial: float | None = None
    lowest: float | None = None
    decay: float | None = None
    competition: float | None = None

    def learning(self) -> Competition:
        """The vendor's defaults, where nothing else was said, but for the competition."""
        said = {name: value for name, value in zip(("initial", "lowest", "decay", "competition"), self[3:], strict=True) if value is not None}
        return Competition(**{"competition": COMPETITION, **said})


def rows(known: IntegerNetwork, shown: Shown, passes: int) -> Taught:
    """Rows under the head."""
    added = add_classes(known, shown.x, shown.labels, new=shown.new, lengths=shown.lengths, passes=passes)
    end = "all right" if not added.mistakes[-1] else f"{added.mistakes[-1]} still wrong"
    return Taught((Stage("right before", known), Stage("after", added.network)), {"rule": "rows", "mistakes": list(added.mistakes)}, (f"in {len(added.mistakes)} passes: {end}",))


def binary(known: IntegerNetwork, shown: Shown, settings: Settings, seed: int, names: list[str]) -> Taught:
    """A binary layer in place of the trained head: it learns the old classes first, then the new ones, each recording once."""
    counts, _ = head_inputs(known, shown.x, shown.lengths)
    least = binary_head.least_for(counts) if settings.least is None else settings.least
    source = binary_head.source_of(known)
    latch = not (least == 1 and shown.lengths.max() == 1 and known.binary(source))
    seen, is_old = (counts >= least).astype(np.uint8), shown.labels < shown.old
    if absent := sorted(set(range(shown.old)) - set(shown.labels[is_old].tolist())):
        raise ParameterError(explain("learn: a binary layer learns the old classes too, and there is no recording of one.", f"of {', '.join(names[c] for c in absent)}",
                                     cure="Put recordings of it into --data, or use --rule rows, which keeps the trained head."))  # fmt: skip
    if not seen.any():
        raise ParameterError(explain("learn: no input of the last layer reaches --least in any recording that is shown.", f"least {least}, largest sum {counts.max()}", cure="Give a smaller one."))
    ones = ones_for(seen) if settings.weights is None else settings.weights
    made = few_shot(seen.shape[1], shown.old, NEURONS if settings.neurons is None else settings.neurons, ones, seed=seed, how=settings.learning())
    first = made.learn(seen[is_old], shown.labels[is_old])
    start = binary_head.attached(known, first, least, latch=latch)
    active = f"active are {np.median(seen.sum(1)):g} of {seen.shape[1]} inputs (median), an input being active from {least} on"
    return _further(Stage("right with the trained head", known), first, start, shown._replace(x=seen), {"least": least, "latch": latch}, active)


def binary_further(known: IntegerNetwork, about: Mapping[str, Any], shown: Shown) -> Taught:
    """More classes for a network whose last layer is binary."""
    layer = binary_head.restored(known, about)
    how = {"least": about["least"], "latch": about["latch"]}
    if not how["latch"] and shown.lengths.max() > 1:
        raise too_long(known)
    seen, _ = head_inputs(known, shown.x, shown.lengths)
    return _further(None, layer, known, shown._replace(x=seen.astype(np.uint8)), how, "")


def _further(before: Stage | None, layer: FewShot, network: IntegerNetwork, shown: Shown, how: dict[str, Any], active: str) -> Taught:
    """New classes for a binary layer; `x` of what is shown are its inputs [B, I]."""
    neurons, is_new = layer.weights.shape[1], shown.labels >= shown.old
    grown = layer.add_classes(shown.new).learn(shown.x[is_new], shown.labels[is_new])
    after = binary_head.attached(network, grown, how["least"], latch=how["latch"])
    kept = head_of(after).weight[: shown.old * neurons]
    assert np.array_equal(kept, head_of(network).weight), "an old weight changed"
    relearned = Stage("right with a binary layer" if before else "right before", network, neurons, not how["latch"])
    stages = (*([before] if before else []), relearned, Stage("after", after, neurons, not how["latch"]))
    c = layer.how
    said = f"binary layer: {neurons} neurons of each class with {layer.ones} ones; plasticity {c.initial:g}, down by {c.decay:g} to {c.lowest:g}; competition {c.competition:g}"
    lines = ("each recording shown once", "; ".join(filter(None, (said, active))), f"{len(kept):,} rows of old classes are the same, bit for bit, with the new classes and without")
    return Taught(stages, {"rule": "binary", "binary": binary_head.described(grown, **how)}, lines)


def neurons_of(about: Mapping[str, Any], file: Path) -> int:
    """Neurons of each class, as a .json says of a binary layer."""
    found = about.get("neurons")
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise FormatError(explain(f"{file} does not say how many neurons a class has.", f"neurons {found!r}", cure="Give --network a file with the .json that stood beside it."))
    return found


def too_long(network: IntegerNetwork) -> ParameterError:
    """The binary layer has no latch, and adds up what several steps give."""
    return ParameterError(explain(f"learn: {network.name!r} has a binary layer for recordings of one step.", "a recording has more", cure="Learn it anew from the run's network, with recordings of several steps among those shown."))
