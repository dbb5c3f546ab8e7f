"""Are LIF and IF here those of SpikingJelly? Run both on one random input and count what differs.

    python benchmarks/equal_to_spikingjelly.py

Needs SpikingJelly 2.0 beside neuro: pip install spikingjelly. With tau = 2 every product is by 1/2, but the two sum in
another order, `v + (x - v)/2` against `v/2 + x/2`, so a membrane may differ in its last bit; a spike differs where that
bit decides. Exit status 1 where a spike differs or a gradient by more than 1e-6.
"""

from __future__ import annotations

import sys

import torch

import neuro
from neuro.neurons import IF, LIF, PLIF
from neuro.reset import Subtract, ToZero
from neuro.surrogate import ATan, Sigmoid

STEPS, BATCH, NEURONS = 50, 16, 512


def compare(name: str, ours: torch.nn.Module, theirs: torch.nn.Module, x: torch.Tensor, weigh: torch.Tensor) -> bool:
    """Print one line; whether the two are equal."""
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    mine, state = neuro.run(ours, a)
    peer = theirs(b)
    (mine * weigh).sum().backward()
    (peer * weigh).sum().backward()
    different = int((mine != peer).sum())
    gradient = (a.grad - b.grad).abs().max().item()
    membrane = (state["#0"] - theirs.v).abs().max().item()
    print(
        f"{name:28s} neurons {BATCH * NEURONS}  steps {STEPS}  compared {mine.numel()}  spikes {int(mine.sum())}  "
        f"different {different}  largest gradient {a.grad.abs().max():.3f}, difference {gradient:.1e}  membrane {membrane:.1e}"
    )
    return different == 0 and gradient <= 1e-6


def main() -> int:
    try:
        from spikingjelly.activation_based import neuron, surrogate
    except ImportError as error:
        print(f"SpikingJelly cannot be imported ({error}). Install it beside neuro: pip install 'spikingjelly==2.0.0'")
        return 2
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS, BATCH, NEURONS, generator=generator) + 0.8
    weigh = torch.randn(STEPS, BATCH, NEURONS, generator=generator)
    atan, sigmoid = surrogate.ATan(alpha=2.0), surrogate.Sigmoid(alpha=4.0)
    how = {"step_mode": "m", "v_threshold": 1.0}
    hard, soft = {**how, "v_reset": 0.0}, {**how, "v_reset": None}

    def lif(**changes: object) -> torch.nn.Module:
        return neuron.LIFNode(**{"tau": 2.0, "decay_input": True, "surrogate_function": atan, **hard, **changes})

    pairs = [
        ("LIF, to zero", LIF(tau=2.0, reset=ToZero(detach=False), spike=ATan(2.0)), lif()),
        ("LIF, to zero, detached", LIF(tau=2.0, reset=ToZero(), spike=ATan(2.0)), lif(detach_reset=True)),
        ("LIF, subtract", LIF(tau=2.0, reset=Subtract(detach=False), spike=ATan(2.0)), lif(**soft)),
        ("LIF, sigmoid", LIF(tau=2.0, reset=ToZero(), spike=Sigmoid(4.0)), lif(detach_reset=True, surrogate_function=sigmoid)),
        ("LIF, input not decayed", LIF(decay=0.5, reset=ToZero(detach=False), spike=ATan(2.0)), lif(decay_input=False)),
        ("IF, to zero", IF(reset=ToZero(detach=False), spike=ATan(2.0)), neuron.IFNode(surrogate_function=atan, **hard)),
        (
            "PLIF, to zero",
            PLIF(tau=2.0, reset=ToZero(detach=False), spike=ATan(2.0)),
            neuron.ParametricLIFNode(init_tau=2.0, decay_input=True, surrogate_function=atan, **hard),
        ),
    ]
    return 0 if all([compare(name, ours, theirs, x, weigh) for name, ours, theirs in pairs]) else 1


if __name__ == "__main__":
    sys.exit(main())
