"""Splits with a name: which samples train and which test, and a digest that a run folder can keep."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from neuro.errors import ParameterError, explain


@dataclass(frozen=True)
class Split:
    """Indices of the samples for training and for testing.

    rule: in words, how the indices come about.

    Raises:
        ParameterError: a part is empty, or one sample is in both or twice in one.
    """

    name: str
    rule: str
    train: tuple[int, ...]
    test: tuple[int, ...]

    def __post_init__(self) -> None:
        both = self.train + self.test
        if not self.train or not self.test or len(set(both)) < len(both):
            fact = f"train {len(self.train)}   test {len(self.test)}   distinct {len(set(both))}"
            raise ParameterError(explain(f"Split {self.name!r}: the parts are empty or share samples.", fact))

    def facts(self) -> dict:
        """Name, rule, sizes and SHA-256 of the indices, as plain values."""
        shown = ",".join(map(str, self.train)) + ";" + ",".join(map(str, self.test))
        digest = hashlib.sha256(shown.encode()).hexdigest()
        return {"name": self.name, "rule": self.rule, "train": len(self.train), "test": len(self.test), "sha256": digest}


def by_group(name: str, groups: Sequence[Hashable], held_out: Sequence[Hashable]) -> Split:
    """Test on the samples whose group (subject, speaker, day) is held out; train on all others.

    Raises:
        ParameterError: a held-out group has no sample.

    >>> by_group("unseen subject", [1, 1, 2], [2]).test
    (2,)
    """
    missing = sorted(set(held_out) - set(groups), key=str)
    if missing:
        known = sorted(set(groups), key=str)
        facts = f"held out: {missing}   groups: {', '.join(map(str, known[:20]))}{' ...' if len(known) > 20 else ''}"
        raise ParameterError(explain(f"Split {name!r}: no sample belongs to a group held out.", facts))
    chosen = set(held_out)
    test = tuple(i for i, group in enumerate(groups) if group in chosen)
    train = tuple(i for i, group in enumerate(groups) if group not in chosen)
    return Split(name, f"test: groups {sorted(chosen, key=str)}", train, test)


def by_draw(name: str, labels: Sequence[int], test_share: float, seed: int) -> Split:
    """Test on a share (0 to 1, rounded to samples) of every class, drawn from the seed; train on the rest.

    >>> len(by_draw("tenth", [0] * 20 + [1] * 10, 0.1, seed=0).test)
    3
    """
    if not 0 < test_share < 1 or seed < 0:
        raise ParameterError(explain(f"Split {name!r}: cannot draw.", f"test_share={test_share}   seed={seed}"))
    rng, labels_N = np.random.default_rng(seed), np.asarray(labels)
    test: set[int] = set()
    for label in np.unique(labels_N):
        members = rng.permutation(np.flatnonzero(labels_N == label))
        test.update(members[: round(test_share * len(members))].tolist())
    train = tuple(i for i in range(len(labels_N)) if i not in test)
    return Split(name, f"test: share {test_share} of every class, drawn from seed {seed}", train, tuple(sorted(test)))
