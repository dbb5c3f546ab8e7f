"""The graphs published with the NIR paper on real recordings: as many right as a plain simulation of each got.

Expected, from the notes on the data: 48 of 50 N-MNIST recordings; 96.4 % and 97.3 % of the Braille letters.
"""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from neuro.deploy import nir as exchange

DATA = Path(os.environ.get("NEURO_DATA", "/nowhere"))
GRAPHS = DATA / "nir_graphs"
pytestmark = pytest.mark.skipif(not GRAPHS.is_dir(), reason="NEURO_DATA/nir_graphs is not there")


@pytest.mark.parametrize(("name", "expected"), [("braille_noDelay_bias_zero", 0.964), ("braille_noDelay_noBias_subtract", 0.973)])
def test_braille(name, expected):
    held = np.load(DATA / "braille_tactile/braille7_shared.npz")
    some = slice(None, None, 4)
    x = torch.tensor(held["spikes"][some].astype(np.float32)).transpose(0, 1)
    with torch.no_grad():
        answer = exchange.load(GRAPHS / f"03_rnn/{name}.nir", dt=1e-4)(x).sum(0).argmax(1)
    right = (answer.numpy() == held["label"][some]).mean()
    assert abs(right - expected) < 0.03, right


def frames(data):
    """300 bins of 1 ms, [T, 2, 34, 34], OFF first; five bytes an event, as the notes on the data say."""
    b = np.frombuffer(data, np.uint8).reshape(-1, 5).astype(np.int64)
    t = ((b[:, 2] & 127) << 16 | b[:, 3] << 8 | b[:, 4]) // 1000
    x = np.zeros((300, 2, 34, 34), np.float32)
    near = t < 300
    np.add.at(x, (t[near], (b[near, 2] >> 7), b[near, 1], b[near, 0]), 1)
    return x


def test_nmnist():
    network = exchange.load(GRAPHS / "02_cnn/cnn_sinabs.nir")
    with zipfile.ZipFile(DATA / "nmnist/nmnist_test.zip") as z:
        names = [n for n in z.namelist() if n.endswith(".bin")]
        x = torch.tensor(np.stack([frames(z.read(n)) for n in names], axis=1))
    with torch.no_grad():
        answer = torch.cat([network(part).sum(0).argmax(1) for part in x.split(10, dim=1)])
    right = sum(int(n.split("/")[1]) == a for n, a in zip(names, answer.tolist(), strict=True))
    assert len(names) == 50 and right >= 46, right
