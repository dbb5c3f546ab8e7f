"""An exported model is complete in its file: another process loads it without the model's code."""

import subprocess
import sys

import pytest
import torch

from neuro import layers, neurons
from neuro.surrogate import ATan

LOAD = """
import sys
import torch
import neuro.scanning  # registers the operator that the file names

x, y = torch.load(sys.argv[2])
assert torch.equal(torch.export.load(sys.argv[1]).module()(x), y)
"""


@pytest.mark.parametrize("alpha, grad", [(2.125, False), (2.25, True)])
def test_saved_and_loaded_by_another_process(tmp_path, alpha, grad):
    """alpha: seen nowhere else, so that the kernel is checked while torch.export reads the code."""
    torch.manual_seed(0)
    net = layers.Sequential(layers.Linear(6, 5), neurons.LIF(spike=ATan(alpha)), layers.Linear(5, 2)).eval()
    x = torch.randn(5, 3, 6)
    with torch.set_grad_enabled(grad):
        exported = torch.export.export(net, (x,))
    assert not [node.name for node in exported.graph.nodes if "set_grad" in node.name]  # no trace of the check
    torch.export.save(exported, tmp_path / "net.pt2")
    torch.save((x, net(x).detach()), tmp_path / "xy.pt")
    done = subprocess.run([sys.executable, "-c", LOAD, tmp_path / "net.pt2", tmp_path / "xy.pt"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
