"""Shared by the tests of deploy: Lava's interpreter where there is one, and random networks."""

import numpy as np
import pytest

from neuro.deploy.examples import random_network
from neuro.deploy.lava import find_interpreter


@pytest.fixture(scope="session")
def lava():
    """The interpreter with Lava; tests that need it are skipped where there is none."""
    python = find_interpreter()
    if python is None:
        pytest.skip("no interpreter with Lava: run `neuro lava install` or set NEURO_LAVA_PYTHON")
    return python


@pytest.fixture
def network():
    """A small network with every kind of node."""
    return random_network(np.random.default_rng(6))
