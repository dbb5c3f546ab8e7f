"""A model can be exported in a process that has run none of its neurons: the kernels are made while torch.export has its own `min` in place."""

import builtins
import os
import subprocess
import sys

import pytest

from neuro.kernels.own_builtins import own_builtins

SCRIPT = """
import torch
from neuro.layers import Linear, Sequential
from neuro.neurons import LIF
net, x = Sequential(Linear(4, 3), LIF()).eval(), torch.randn(5, 2, 4)
exported = torch.export.export(net, (x,))
assert any(node.target == torch.ops.neuro.scan.default for node in exported.graph.nodes)
assert torch.equal(exported.module()(x), net(x))
"""


def test_the_first_call_of_a_process_may_be_an_export(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT], env={**os.environ, "NEURO_CACHE": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_was_there_before_comes_back_even_after_an_error(monkeypatch):
    ours, theirs = builtins.min, lambda *values: sorted(values)[0]
    monkeypatch.setattr(builtins, "min", theirs)
    with pytest.raises(ValueError, match="inside"), own_builtins():
        assert builtins.min is ours
        raise ValueError("inside")
    assert builtins.min is theirs
