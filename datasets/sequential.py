"""S-MNIST and psMNIST: the pixels of MNIST's pictures one after another, in the order of rows or permuted."""

from __future__ import annotations

import os

import numpy as np

from neuro.datasets.mnist import MNIST
from neuro.errors import ParameterError, explain


class SequentialMNIST(MNIST):
    """Pixels x [T=784, 1] uint8, row by row; with `permutation` a seed, in one order for all pictures: psMNIST.

    Papers do not agree about the permutation: `order` [784] says which, and `split_facts` is for the run folder.
    The folder and the splits are those of `MNIST`.
    """

    def __init__(self, folder: str | os.PathLike, split: str, permutation: int | None = None) -> None:
        super().__init__(folder, split)
        self.arrange(permutation)

    def arrange(self, permutation: int | None) -> None:
        """Put the pixels in their order."""
        if permutation is not None and permutation < 0:
            raise ParameterError(explain("SequentialMNIST: the permutation is a seed from 0, or None.", f"permutation={permutation}"))
        pixels = int(np.prod(self.shape))
        self.order = np.arange(pixels) if permutation is None else np.random.default_rng(permutation).permutation(pixels)
        self.x = np.asarray(self.x).reshape(-1, pixels)[:, self.order, None]
        self.permutation = permutation

    def split_facts(self) -> dict:
        """The order of the pixels, as plain values."""
        rule = "row by row" if self.permutation is None else f"numpy.random.default_rng({self.permutation}).permutation(784)"
        return {"name": "official", "order": rule, "count": len(self)}

    @classmethod
    def simulated(cls, count: int, seed: int = 0, permutation: int | None = None):
        """As `MNIST.simulated`, one pixel after another."""
        new = super().simulated(count, seed)
        new.arrange(permutation)
        return new
