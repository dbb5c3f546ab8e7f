"""SpikingJelly and Norse networks as native modules. Folders that hold them may be named in NEURO_PEERS, joined by `:`."""

import importlib
import os
import sys

import pytest
import torch
from torch import nn

import neuro
from neuro.errors import GraphError
from neuro.interop import from_norse, from_spikingjelly
from neuro.scanning import plain_loop


def peer(name):
    """The module of a peer, or a skipped test with the reason."""
    added = [f for f in os.environ.get("NEURO_PEERS", "").split(":") if f and f not in sys.path]
    sys.path += added
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        return pytest.skip(f"{name} is not there ({error.name} is missing); NEURO_PEERS may name its folder")


@pytest.fixture(autouse=True)
def _loop():
    with plain_loop():
        yield


def dyadic(net, by=4.0):
    for p in net.parameters():
        if p.dim() > 0:
            p.data = (p.data * by * 64).round() / 64
    return net


def example(*shape, steps=40):
    return (torch.rand(steps, 4, *shape, generator=torch.Generator().manual_seed(1)) * 64).round() / 32


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("kind", ["IFNode", "LIFNode", "LIFNode plain", "ParametricLIFNode"])
def test_spikingjelly(kind, v_reset, mode):
    sj = peer("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import functional, layer

    how = {"decay_input": False} if kind.endswith("plain") else {}
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), getattr(sj, kind.split()[0])(v_reset=v_reset, detach_reset=True, **how), layer.Flatten(), layer.Linear(64, 5),
        sj.LIFNode(tau=2.0, v_reset=v_reset),
    )  # fmt: skip
    functional.set_step_mode(dyadic(net), mode)
    x = example(2, 4, 4)
    ours = from_spikingjelly(net, x[:5])
    with torch.no_grad():
        functional.reset_net(net)
        want = net(x) if mode == "m" else torch.stack([net(x_t) for x_t in x])
        assert 0 < want.mean() < 1 and torch.equal(ours(x), want)
        a, state = neuro.run(ours, x[:9])
        b, _ = neuro.run(ours, x[9:], state)
        assert torch.equal(torch.cat([a, b]), want)
    assert ours[1].reset.detach and not ours[4].reset.detach


def test_spikingjelly_names_what_it_cannot():
    sj = peer("spikingjelly.activation_based.neuron")
    for neuron, said in ((sj.LIFNode(v_reset=-0.5), "'1' resets"), (sj.QIFNode(), "'1' is a QIFNode")):
        with pytest.raises(GraphError, match=said):
            from_spikingjelly(nn.Sequential(nn.Linear(3, 2), neuron), torch.rand(4, 2, 3))


def norse_params(cls, **how):
    """Time constants whose Euler factors at dt = 1/1024 are exact."""
    return cls(**{k: torch.as_tensor(v) for k, v in {"tau_mem_inv": 512.0, **how}.items()})


@pytest.mark.parametrize("kind", ["LIFCell", "LIFBoxCell", "LICell", "LIFRecurrentCell", "LIF", "LIFRecurrent"])
def test_norse(kind):
    norse = peer("norse.torch")
    from norse.torch.functional.leaky_integrator import LIParameters
    from norse.torch.functional.lif_box import LIFBoxParameters

    p = {
        "LIFBoxCell": lambda: norse_params(LIFBoxParameters, v_th=0.75), "LICell": lambda: norse_params(LIParameters, tau_syn_inv=256.0),
    }.get(kind, lambda: norse_params(norse.LIFParameters, tau_syn_inv=256.0, v_th=1.25, v_reset=-0.25))()  # fmt: skip
    torch.manual_seed(0)
    size = (8, 8) if "Recurrent" in kind else ()
    neuron = getattr(norse, kind, None) or getattr(importlib.import_module("norse.torch.module.lif_box"), kind)
    net = norse.SequentialState(nn.Linear(6, 8), neuron(*size, p=p, dt=1 / 1024))
    dyadic(net)
    x = example(6)
    ours = from_norse(net, x[:5])
    with torch.no_grad():
        want, state = [], None
        if kind in ("LIF", "LIFRecurrent"):
            want = net(x)[0]
        else:
            for x_t in x:
                y, state = net(x_t, state)
                want.append(y)
            want = torch.stack(want)
        got = ours(x)
    assert want.any()
    assert torch.equal(got, want) if kind != "LICell" else torch.allclose(got, want, rtol=1e-5, atol=1e-6)


def test_norse_names_what_it_cannot():
    norse = peer("norse.torch")
    with pytest.raises(GraphError, match="'1' has a resting potential"):
        from_norse(norse.SequentialState(nn.Linear(3, 2), norse.LIFCell(norse.LIFParameters(v_leak=torch.as_tensor(0.5)))), torch.rand(4, 2, 3))
    with pytest.raises(GraphError, match="'1' is a LSNNCell"):
        from_norse(norse.SequentialState(nn.Linear(3, 2), norse.LSNNCell()), torch.rand(4, 2, 3))
