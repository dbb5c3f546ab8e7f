"""What all tests share: the repository root is kept off sys.path, and real data is found through NEURO_DATA."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]  # else `import datasets` finds our folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings, or a skip that says how to provide one."""
    folder = os.environ.get("NEURO_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("NEURO_DATA does not name a folder of real recordings (see tests/README.md)")
    return Path(folder)
