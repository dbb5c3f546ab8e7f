"""What Lava recorded (see make_traces.py), against the twin and its definition: no spike and no membrane differs."""

from pathlib import Path

import numpy as np
import pytest

from neuro.deploy.network import IntegerNetwork
from neuro.deploy.reference import run_reference
from neuro.deploy.twin import run_twin

TRACES = Path(__file__).with_name("traces")
NAMES = sorted(p.name.removesuffix(".lava.npz") for p in TRACES.glob("*.lava.npz"))


def test_there_are_traces():
    assert len(NAMES) >= 5 and {"neurons", "demo"} <= set(NAMES)
    assert sum(p.stat().st_size for p in TRACES.iterdir()) < 2**21


@pytest.mark.parametrize("name", NAMES)
def test_recorded_by_lava(name):
    network = IntegerNetwork.load(TRACES / f"{name}.network.npz")
    with np.load(TRACES / f"{name}.lava.npz", allow_pickle=False) as file:
        inputs, acc = file["inputs"], file["acc"]
        twin = run_twin(network, inputs, record=True)
        definition = run_reference(network, inputs[:, 0])
        np.testing.assert_array_equal(twin.acc, acc)
        for node in network.lifs:
            shape = twin.spikes[node.name].shape
            spikes = np.unpackbits(file[f"spikes/{node.name}"])[:np.prod(shape)].reshape(shape)
            for found, lava in ((twin.spikes, spikes), (twin.membranes, file[f"membranes/{node.name}"])):
                np.testing.assert_array_equal(found[node.name], lava, node.name)
            np.testing.assert_array_equal(definition.values[node.name], spikes[:, 0])
            np.testing.assert_array_equal(definition.membranes[node.name], file[f"membranes/{node.name}"][:, 0])


def test_a_thousand_steps_were_recorded_and_they_spike():
    network = IntegerNetwork.load(TRACES / "neurons.network.npz")
    inputs = np.load(TRACES / "neurons.lava.npz")["inputs"]
    twin = run_twin(network, inputs)
    assert len(inputs) >= 1000 and all(0 < twin.counts[n.name].spikes[0] < 8000 for n in network.lifs)
