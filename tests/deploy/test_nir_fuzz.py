"""The reader of NIR on files and graphs spoilt at random: it loads them, or says what is wrong; nothing else, in bounded time and memory.

The spoilt files are read in a process of their own, whose memory is watched and whose time is limited: what HDF5 does with a damaged
file is not in our hands. By hand, for longer: python tests/deploy/test_nir_fuzz.py bytes SEED COUNT
"""

import copy
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neuro import layers, neurons, reset
from neuro.deploy import nir as exchange
from neuro.deploy.nir_check import describe
from neuro.deploy.nir_file import FIELDS
from neuro.deploy.nir_hdf5 import tree
from neuro.deploy.nir_layers import Delay, SumPool2d
from neuro.errors import NeuroError
from neuro.scanning import plain_loop

STEP, MOST_MORE, MOST_SECONDS = 1e-3, 500 << 20, 240
NAMES = ["input", "output", "0", "1", "a.b", "keys", "type", "training", "readout", "", "\u00e9"]
VALUES = [
    np.nan, np.inf, -1, 0, 3, 0.5, 1e300, -1e300, 1e-320, 2**62, -(2**63), True, 1 + 2j, None, {}, {"a": 1}, [], [1, [2, 3]], "same", b"valid", b"\xff\xfe",
    "NIRGraph", "hard", "Identity", np.zeros(0), np.zeros((0, 3)), np.ones((2, 3, 4, 5)), np.array([1, 2]), np.array([b"a", b"b"]), np.array([2**63], np.uint64),
    np.array([1j, 2]), np.float16(3), np.ones(17), np.array("x"), np.array(None),
]  # fmt: skip


def models():
    torch.manual_seed(0)
    yield layers.Sequential(
        layers.Linear(4, 5), neurons.LIF(tau=4.0), layers.Linear(5, 3, bias=False), neurons.Recurrent(neurons.CUBALIF(0.5, decay=0.75), 3), layers.Delay(2), layers.MeanOverTime()
    ), (4,)  # fmt: skip
    yield layers.Sequential(
        layers.Conv2d(2, 4, 3, padding=1, groups=2), neurons.LIF(reset=reset.subtract), layers.MaxPool2d(2), SumPool2d((1, 1), (1, 1)), layers.AvgPool2d(1),
        layers.Flatten(), layers.Linear(16, 3), neurons.IF(),
    ), (2, 4, 4)  # fmt: skip
    yield layers.Sequential(layers.Fold(nn.Conv1d(2, 4, 3, padding=1)), neurons.PLIF(), layers.Flatten(), Delay(torch.arange(16) % 3)), (2, 4)


def written(folder):
    """Valid files, one for each model."""
    for i, (model, shape) in enumerate(models()):
        path = Path(folder) / f"{i}.nir"
        exchange.export(model.eval(), torch.rand(6, 2, *shape), dt=STEP, path=path)
        yield path


def spoilt_bytes(held, rng):
    """A file with a few bytes changed, copied or left out, or cut off; half of them near what HDF5 keeps its order in."""
    if rng.random() < 0.1:
        return held[: rng.randrange(len(held))]
    b, kept = bytearray(held), [m.start() for m in re.finditer(b"GCOL|TREE|SNOD|HEAP", held)]
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        i, k, n = rng.randrange(len(b)), rng.random(), rng.choice([1, 2, 4, 8])
        i = min(len(b) - 1, rng.choice(kept) + rng.randrange(256)) if rng.random() < 0.5 else i
        if k < 0.4:
            b[i] = rng.randrange(256)
        elif k < 0.6:
            b[i] ^= 1 << rng.randrange(8)
        elif k < 0.8:
            b[i : i + n] = bytes([rng.choice([0, 0xFF, 0x7F, 0x80])]) * n
        elif k < 0.9:
            j = rng.randrange(len(b))
            b[i : i + 8 * n] = b[j : j + 8 * n]
        else:
            del b[i : i + 8 * n]
    return bytes(b)


def groups(held):
    """Every dict in a nested dict."""
    yield held
    for value in held.values():
        if isinstance(value, dict):
            yield from groups(value)


def spoil_a_value(held, rng):
    """Another value, type, name or place for one entry."""
    group = rng.choice(list(groups(held)))
    key, k = rng.choice([*group, "x", "metadata"]), rng.random()
    value = group.get(key)
    if k < 0.15:
        group.pop(key, None)
    elif k < 0.35 and isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        forms = [value * 0, -value, value * 1e300, value[None], value.reshape(-1), np.repeat(value[None], 2, 0), value.astype("f2"), value.astype("S5"), value > 0]
        group[key] = rng.choice(forms)
    elif k < 0.5:
        group[rng.choice(NAMES)] = group.pop(key, None)
    elif k < 0.6:
        group[key] = copy.deepcopy(rng.choice(list(groups(held))))
    elif k < 0.7 and "type" in group:
        group["type"] = rng.choice([*FIELDS, "NIRGraph", "MaxPool2d", "Pass"])
    elif k < 0.8:
        group["metadata"] = {rng.choice(["dt", "reset", "fires", "readout", "neuro_groups", "neuro_kernel", "neuro_max_pool", "bias"]): rng.choice(VALUES)}
    else:
        group[key] = rng.choice(VALUES)


def spoil_an_edge(held, rng):
    """An edge more, less, elsewhere or turned round; or edges that are none."""
    rows = held.get("edges")
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or not isinstance(held.get("nodes"), dict):
        return
    rows = [list(r) for r in rows.tolist()]
    names = [*held["nodes"], "ghost", b"\xff"]
    k = rng.random()
    if k < 0.4 or not rows:
        rows.append([rng.choice(names), rng.choice(names)])
    elif k < 0.6:
        rows.pop(rng.randrange(len(rows)))
    elif k < 0.8:
        rows[rng.randrange(len(rows))][rng.randrange(2)] = rng.choice(names)
    elif k < 0.9:
        rows[rng.randrange(len(rows))].reverse()
    else:
        held["edges"] = rng.choice([3.5, np.ones((4, 2)), b"abc", np.array([b"ab", b"cd"]), rows[0], [rows], {"ab": 1}, None, [[1, 2]]])
        return
    held["edges"] = np.array(rows, dtype=object)


def spoilt_graph(held, rng):
    held = copy.deepcopy(held)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        (spoil_an_edge if rng.random() < 0.35 else spoil_a_value)(held, rng)
    return held


def attempt(source, rng):
    """Whether it loads and runs, or is described. Any error that is not ours goes up."""
    try:
        if rng.random() < 0.2:
            return bool(describe(source, STEP))
        network = exchange.load(source, dt=rng.choice([None, STEP]))
        if np.prod(network.input_shape) < 1e4:
            with torch.no_grad():
                network(torch.rand(3, 2, *network.input_shape))
    except NeuroError as error:
        assert str(error).strip()
        return False
    return True


def read_spoilt_files(seed, count):
    """Loaded and refused of `count` spoilt files; raises at the first that does neither."""
    rng, loaded, slowest = random.Random(seed), 0, 0.0
    with tempfile.TemporaryDirectory() as folder, plain_loop():
        held = [path.read_bytes() for path in written(folder)]
        path, before = Path(folder) / "spoilt.nir", most_memory()
        for i in range(count):
            path.write_bytes(spoilt_bytes(rng.choice(held), rng))
            started = time.process_time()
            try:
                loaded += attempt(path, rng)
            except Exception as error:
                raise AssertionError(f"file {i} of seed {seed}") from error
            slowest = max(slowest, time.process_time() - started)
    more = most_memory() - before
    print(f"{count} files, {loaded} loaded, slowest {slowest:.2f} s, {more >> 20} MB more at most")
    assert more < MOST_MORE


def most_memory():
    """Most bytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_spoilt_files_load_or_are_refused():
    done = subprocess.run([sys.executable, __file__, "bytes", "11", "100"], capture_output=True, text=True, timeout=MOST_SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = int(done.stdout.split(" files, ")[1].split()[0])
    assert 10 < loaded < 90  # both happen


@pytest.mark.parametrize("seed", range(4))
def test_spoilt_graphs_load_or_are_refused(tmp_path, seed):
    rng, loaded, count = random.Random(seed), 0, 150
    with warnings.catch_warnings(), plain_loop():
        warnings.simplefilter("ignore")
        held = [tree(path, "node") for path in written(tmp_path)]
        for i in range(count):
            try:
                loaded += attempt(spoilt_graph(rng.choice(held), rng), rng)
            except Exception as error:
                raise AssertionError(f"graph {i} of seed {seed}") from error
    assert 15 < loaded < 135, loaded


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    read_spoilt_files(int(sys.argv[2]), int(sys.argv[3]))
