"""An exported model is complete in its file: another process loads it without the model's code."""

import subprocess
import sys
from typing import NamedTuple

import pytest
import torch

import neuro
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


@pytest.mark.parametrize("grad", [False, True])
def test_any_number_of_steps_and_samples(grad):
    """Neither the small example, nor how much a training step would keep, nor which products are large binds the graph."""
    torch.manual_seed(0)
    net = layers.Sequential(layers.Linear(6, 5), neurons.LIF(), layers.Linear(5, 4), neurons.PLIF()).eval()
    steps, batch = torch.export.Dim("T"), torch.export.Dim("B")
    with torch.set_grad_enabled(grad):
        exported = torch.export.export(net, (torch.randn(5, 3, 6),), dynamic_shapes=({0: steps, 1: batch},)).module()
    for shape in ((20, 2, 6), (3, 70, 6), (2, 700_000, 6)):  # 42 million products, more than are asked about
        x = torch.randn(shape)
        torch.testing.assert_close(exported(x), net(x))
    if grad:
        x = torch.randn(40, 3, 6)
        found = [torch.autograd.grad(model(x).sum(), tuple(model.parameters())) for model in (exported, net)]
        torch.testing.assert_close(*found)


class Decay(NamedTuple):
    decay: torch.Tensor


def without_numbers(x, state, p):
    v = (0.5 if p is None else p.decay) * state[0] + x
    return torch.tanh(v), (v,)


@pytest.mark.parametrize("learned", [True, False])
def test_a_step_that_has_no_numbers(learned):
    """Everything is learned, or written in the step: compiled and exported, with its gradients."""
    x = torch.randn(4, 2, 9, requires_grad=True)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.decay = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            return neuro.scan(without_numbers, x, (torch.zeros(2, 9),), Decay(self.decay) if learned else None)[0]

    net = Net()
    wanted = (x, net.decay) if learned else (x,)
    usual = torch.autograd.grad(net(x).square().sum(), wanted)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    exported = torch.export.export(net, (x.detach(),)).module()
    torch.testing.assert_close(torch.autograd.grad(compiled(x).square().sum(), wanted), usual)
    wanted = (x, exported.decay) if learned else (x,)
    torch.testing.assert_close(torch.autograd.grad(exported(x).square().sum(), wanted), usual)
