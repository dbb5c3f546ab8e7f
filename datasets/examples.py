"""Labelled arrays that are not events: pictures, waves, windows of sensors; one item is an `Example`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from neuro.datasets.loading import Sample
from neuro.errors import FormatError, ParameterError, ShapeError, explain


class Example(NamedTuple):
    """One labelled array; its shape and unit are those that the data set states."""

    x: np.ndarray
    label: int
    name: str = ""


class Examples(Sequence):
    """Arrays, labels and names of equal number. `classes` names the labels, in their order.

    Raises:
        ShapeError: the numbers differ.
        ParameterError: a label that is no whole number, or outside the classes.

    >>> Examples(np.zeros((2, 3)), [0, 1], ["a", "b"], ("no", "yes"))[1].label
    1
    """

    classes: tuple[str, ...] = ()

    def __init__(self, x: Sequence, labels: Sequence[int], names: Sequence[str], classes: Sequence[str] = ()) -> None:
        broken = [label for label in labels if int(label) != label]
        if broken:
            raise ParameterError(explain(f"{type(self).__name__}: labels must be whole numbers.", f"{len(broken)} are none, the first: {broken[0]!r}"))
        self.x, self.labels, self.names = x, tuple(int(label) for label in labels), tuple(names)
        self.classes = tuple(classes) or self.classes
        if not len(x) == len(self.labels) == len(self.names):
            counts = f"arrays {len(x)}   labels {len(self.labels)}   names {len(self.names)}"
            raise ShapeError(explain(f"{type(self).__name__}: arrays, labels and names differ in number.", counts))
        wrong = [label for label in set(self.labels) if not 0 <= label < len(self.classes)]
        if wrong:
            fact = f"labels {sorted(wrong)}   classes {len(self.classes)}"
            raise ParameterError(explain(f"{type(self).__name__}: a label has no class.", fact))

    @classmethod
    def made(cls, x: Sequence, labels: Sequence[int], names: Sequence[str]):
        """An object of this data set that holds the given arrays in place of files."""
        new = cls.__new__(cls)
        Examples.__init__(new, x, labels, names)
        return new

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return Example(self.x[index], self.labels[index], self.names[index])


class EncodedExamples(Dataset):
    """Examples as input over time, for `EpochBatches` and `collate`.

    encode: `(x, rng) -> [T, ...]`. rng depends on (seed, epoch, index) alone, so the number of workers changes nothing.
    A key is (epoch, index), or an index alone, which means epoch 0. Of text, `Passage`s, the label is a symbol for each step.

    Raises:
        FormatError, ShapeError: on access, an example that `encode` refuses, with its name.
    """

    def __init__(self, examples: Sequence[Example], encode: Callable, seed: int = 0) -> None:
        if seed < 0:
            raise ParameterError(explain("EncodedExamples: the seed must not be negative.", f"seed={seed}"))
        self.examples, self.encode, self.seed = examples, encode, seed

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"EncodedExamples: no example {index} among {len(self)}")
        x, label = self.examples[index][:2]
        try:
            coded = self.encode(x, np.random.default_rng([self.seed, epoch, index]))
        except (FormatError, ShapeError) as error:
            names = getattr(self.examples, "names", None)
            which = f"example {index}" if names is None else f"example {index}, {names[index]!r},"
            raise type(error)(explain(f"{which} cannot be used.", *str(error).split("\n  "))) from error
        return Sample(torch.from_numpy(np.ascontiguousarray(coded, np.float32)), label)
