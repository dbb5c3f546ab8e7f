"""What a run was trained on, in a few numbers: a run that goes on must go on with the same recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from neuro.errors import ParameterError, explain
from neuro.files import read_json, write_json
from neuro.training.runs import Run

FORMAT, VERSION = "neuro-data", 1
READ = 64  # recordings that are read where they are not in memory, evenly spread


def check_data(run: Run, data: Any, resume: bool) -> None:
    """Write down which recordings a run begins with; when it goes on, refuse others.

    A run of an older version, which wrote nothing down, takes those that it is given now for its own.

    Raises:
        ParameterError: the run goes on with other recordings than it began with.
    """
    now = fingerprint(data)
    if not resume or not run.data.exists():
        if run.is_rank_zero:
            write_json(run.data, {"format": FORMAT, "version": VERSION, "sets": now})
        return
    then = read_json(run.data, FORMAT, VERSION).get("sets", {})
    other = [
        f"{name} {what}: {then.get(name, {}).get(what)} then, {now.get(name, {}).get(what)} now"
        for name in sorted({*then, *now})
        for what in sorted({*then.get(name, {}), *now.get(name, {})})
        if then.get(name, {}).get(what) != now.get(name, {}).get(what)
    ]
    if other:
        cure = "Resume with the recordings that it began with, or start a new run with these."
        raise ParameterError(explain(f"the run in {run.folder} was begun with other recordings.", *other, cure=cure))


def fingerprint(data: Any) -> dict[str, dict[str, Any]]:
    """Of the training and validation set: how many recordings, and digests of their names, labels and events.

    Args:
        data: with `sets`, as `EventDataModule` has; of any other object only the number of training samples is known.
    """
    if hasattr(data, "sets"):
        return {name: _of(data.sets[name]) for name in ("train", "val") if data.sets.get(name) is not None}
    samples = getattr(data.train_dataloader(), "dataset", None)
    return {"train": {"recordings": len(samples)}} if hasattr(samples, "__len__") else {}


def _of(recordings: Sequence[Any]) -> dict[str, Any]:
    """Events of all recordings in memory; of others, only some are read.

    >>> from neuro.datasets import make_motions
    >>> _of(make_motions(8)) == _of(make_motions(8)), _of(make_motions(8)) == _of(make_motions(8, seed=1))
    (True, False)
    """
    n = len(recordings)
    whole = isinstance(recordings, (list, tuple))
    count = n if whole else min(n, READ)
    read = [recordings[i * n // count] for i in range(count)]
    found: dict[str, Any] = {"recordings": n}
    for what in ("name", "label"):
        every = [getattr(r, what, None) for r in recordings] if whole else getattr(recordings, f"{what}s", None)
        if every is not None:
            found[f"{what}s"] = _digest(str(value).encode() for value in every)
    events = (getattr(r, "events", getattr(r, "x", None)) for r in read)
    found["events"] = _digest(b"" if e is None else np.ascontiguousarray(e).tobytes() for e in events)
    return found


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
