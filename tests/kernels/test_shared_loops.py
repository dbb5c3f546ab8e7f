"""Machine code that Numba keeps is made anew when what the loops share changes: every file that uses it names its hash, and so changes too."""

import hashlib
import importlib
from pathlib import Path

import pytest

from neuro.kernels import shared_loops

FILES = [p for p in Path(shared_loops.__file__).parent.glob("*.py") if "from neuro.kernels.shared_loops import" in p.read_text()]


@pytest.mark.parametrize("name", sorted(p.stem for p in FILES))
def test_every_file_names_the_text_it_was_made_with(name):
    text = Path(shared_loops.__file__).read_bytes()
    assert importlib.import_module(f"neuro.kernels.{name}").PARTS == hashlib.sha256(text).hexdigest()[:12]


def test_there_are_such_files():
    assert len(FILES) >= 3
