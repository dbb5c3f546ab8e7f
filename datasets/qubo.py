"""Files of quadratic binary problems: QUBO and max-cut instances as one symmetric matrix to minimise."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuro.errors import FormatError, explain


@dataclass(frozen=True, eq=False)
class Quadratic:
    """Minimise energy(x) = sum_ij Q_ij x_i x_j over x in {0, 1}^n; Q [n, n] is symmetric."""

    name: str
    Q: np.ndarray

    def energy(self, x: np.ndarray) -> np.ndarray:
        """Of states x [..., n] of 0 and 1: [...]."""
        x = np.asarray(x, np.float64)
        return ((x @ self.Q) * x).sum(-1)


def read_pairs(path: str | os.PathLike) -> tuple[int, np.ndarray]:
    """`n entries`, then as many lines `i j w`, 1-based: n and rows [entries, 3] float64, as they stand in the file.

    Raises:
        FormatError: other numbers, an index outside 1 to n, a pair that comes twice, or another count than declared.
    """
    try:
        lines = [line.split() for line in Path(path).read_text("ascii").splitlines() if line.strip()]
        n, entries = (int(word) for word in lines[0])
        rows = np.array([[float(word) for word in line] for line in lines[1:]]).reshape(len(lines) - 1, 3)
    except (ValueError, IndexError) as error:
        raise FormatError(explain(f"{path} is not a list of pairs.", str(error), cure="Expected n, then i j w.")) from error
    pairs = rows[:, :2]
    if len(rows) != entries or (len(rows) and (pairs.min() < 1 or pairs.max() > n or (pairs % 1).any())):
        raise FormatError(explain(f"{path} does not fit its first line.", f"n={n}   entries={entries}   lines={len(rows)}"))
    if len(np.unique(np.sort(pairs, 1), axis=0)) != len(rows) or not np.isfinite(rows).all():
        raise FormatError(explain(f"{path}: a pair comes twice, or a weight is not finite."))
    return n, rows


def read_qubo(path: str | os.PathLike) -> Quadratic:
    """A QUBO instance: w is Q_ii for i = j, and Q_ij = Q_ji else."""
    n, rows = read_pairs(path)
    i, j = rows[:, :2].astype(int).T - 1
    Q = np.zeros((n, n))
    Q[i, j] = Q[j, i] = rows[:, 2]
    return Quadratic(Path(path).stem, Q)


def read_maxcut(path: str | os.PathLike) -> Quadratic:
    """A max-cut instance: the energy is minus the weight of the cut, sum over pairs of w (x_i + x_j - 2 x_i x_j)."""
    n, rows = read_pairs(path)
    i, j = rows[:, :2].astype(int).T - 1
    if (i == j).any():
        raise FormatError(explain(f"{path}: a graph to cut has no pair of a node with itself."))
    Q = np.zeros((n, n))
    Q[i, j] = Q[j, i] = rows[:, 2]
    Q[np.diag_indices(n)] = -Q.sum(1)
    return Quadratic(Path(path).stem, Q)


def simulated(n: int, seed: int = 0, density: float = 0.5) -> Quadratic:
    """A random instance with whole weights of -100 to 100, of which about `density` are not zero."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.integers(-100, 101, (n, n)) * (rng.random((n, n)) < density)).astype(np.float64)
    return Quadratic(f"simulated_{n}_{seed}", upper + np.triu(upper, 1).T)


def write_qubo(problem: Quadratic) -> str:
    """The text of a QUBO file."""
    i, j = np.nonzero(np.triu(problem.Q))
    lines = [f"{a + 1} {b + 1} {float(problem.Q[a, b])!r}" for a, b in zip(i.tolist(), j.tolist(), strict=True)]
    return "\n".join([f"{len(problem.Q)} {len(lines)}", *lines]) + "\n"
