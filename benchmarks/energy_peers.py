"""Counts of NeuroBench and SpikingJelly beside ours, on the same networks; loops over every weight, input and step decide.

    python benchmarks/energy_peers.py

Operations are those of a nonzero input and a weight, or of two nonzero activations. An addition: an input of +-1 (of two, one is enough);
a multiplication: any other. `truth` is counted by Python loops over the recorded inputs, by nothing that neuro, NeuroBench or
SpikingJelly contain. Each column is additions + multiplications. `equal` says that both are those of the loops. The second table holds
neurons: spikes, and updates, one for each neuron and step. The last line gives seconds of counting per second of the forward. Ends with
status 1 if a count of ours is not that of the loops.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import neuro

Pair = tuple[int, int]


def kind(value: float) -> Pair:
    """(additions, multiplications) of one operation on this input."""
    return (0, 0) if value == 0 else (1, 0) if abs(value) == 1 else (0, 1)


def total(pairs: Any) -> Pair:
    adds = muls = 0
    for a, m in pairs:
        adds, muls = adds + a, muls + m
    return adds, muls


def loops_linear(x: Tensor, outputs: int) -> Pair:
    """Every input of every sample and step meets every output."""
    return total(kind(v) for v in x.flatten().tolist() for _ in range(outputs))


def loops_conv(x: Tensor, conv: Any, before: tuple[int, int] | None = None) -> Pair:
    """x [B, C, H, W]; every output element, every tap inside the map. before: rows and columns of padding above and left."""
    (sy, sx), (dy, dx) = conv.stride, conv.dilation
    (py, px) = before or conv.padding
    out, per, kh, kw = conv.weight.shape
    H, W = conv(x).shape[2:]
    values, share, found = x.tolist(), out // conv.groups, [0, 0]
    for b, o, y, z, c, i, j in itertools.product(range(len(x)), range(out), range(H), range(W), range(per), range(kh), range(kw)):
        r, s = y * sy - py + i * dy, z * sx - px + j * dx
        if 0 <= r < x.shape[2] and 0 <= s < x.shape[3]:
            a, m = kind(values[b][c + o // share * per][r][s])
            found = [found[0] + a, found[1] + m]
    return found[0], found[1]


def loops_pairs(a: Tensor, b: Tensor) -> Pair:
    """a [..., m, k] with b [..., k, n]: both nonzero; an addition if either is +-1."""
    a, b = a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:])
    found = [0, 0]
    for left, right in zip(a.tolist(), b.tolist(), strict=True):
        for row, column in itertools.product(left, zip(*right, strict=True)):
            for u, v in zip(row, column, strict=True):
                if u and v:
                    found[0 if 1 in (abs(u), abs(v)) else 1] += 1
    return found[0], found[1]


@dataclass
class Case:
    """A network, its input [samples, ...], and the truth. inference: run under inference_mode."""

    name: str
    net: nn.Module
    x: Tensor
    truth: Pair
    inference: bool = False


class Call(nn.Module):
    def __init__(self, f: Callable[[Tensor, Tensor], Tensor], *shape: int):
        super().__init__()
        self.f, self.w = f, nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x, self.w)


class Steps(nn.Module):
    """[B, T, F]: linear, a neuron that is stepped, linear; the neuron's spikes are kept for the loops."""

    def __init__(self, neuron: nn.Module, clear: Callable[[Any], Any], stepped: Callable[[Any, Tensor, Any], tuple[Tensor, Any]]):
        super().__init__()
        self.a, self.neuron, self.b = nn.Linear(12, 10), neuron, nn.Linear(10, 4)
        self.clear, self.stepped, self.spikes = clear, stepped, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        state, out, self.spikes = self.clear(self.neuron), [], []
        for x_t in x.unbind(1):
            s, state = self.stepped(self.neuron, self.a(x_t), state)
            self.spikes.append(s)
            out.append(self.b(s))
        return torch.stack(out, 1)


class Echo(nn.Module):
    """h <- (x + h W > 0.5), state in a buffer that is written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.rand(6, 6))
        self.register_buffer("h", torch.zeros(1, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.h.expand(len(x), -1).clone()
        for x_t in x.unbind(1):
            h = (x_t + h @ self.w > 0.5).float()
        return h


def spikes(*shape: int, share: float = 0.3) -> Tensor:
    return (torch.rand(shape) < share).float()


def linear_cases() -> list[Case]:
    x = torch.zeros(32, 100)
    x.view(-1)[torch.randperm(3200)[:313]] = 1
    signs, net = torch.randint(0, 2, x.shape) * 2 - 1, nn.Linear(100, 50)
    given = {"313 spikes": x, "ternary": x * signs, "integers 1 to 4": x * torch.randint(1, 5, x.shape), "spikes x 0.7": 0.7 * x, "silent": 0 * x}
    found = [Case(f"Linear, {name}", net, v, loops_linear(v, 50)) for name, v in given.items()]
    found.append(Case("Linear, 313 spikes, inference_mode", net, x, loops_linear(x, 50), inference=True))
    found.append(Case("F.linear, matmul", Call(lambda x, w: F.linear(x, w) @ w.mT, 100, 100), x[:2], _two(x[:2])))
    return found


def _two(x: Tensor) -> Pair:
    """Two products: the second one's input has no zeros but in samples without spikes."""
    (a, m), samples = loops_linear(x, 100), int((x != 0).any(1).sum())
    return a, m + samples * 100 * 100


def large_cases() -> list[Case]:
    """More operations than float32 can count one by one, and an odd number of them."""
    x, outputs, found = torch.ones(1, 4099), 4097, 0
    for value in x.flatten().tolist():
        for _ in range(outputs):
            found += value != 0
    return [Case("Linear, 16.8 million operations", nn.Linear(4099, outputs), x, (found, 0))]


def conv_cases() -> list[Case]:
    x, found = spikes(2, 4, 7, 6), []
    for name, how in {"padded": {"padding": 1}, "strided": {"stride": 2, "padding": 1}, "depthwise": {"groups": 4, "padding": 1}, "dilated": {"dilation": 2, "padding": 2}}.items():
        conv = nn.Conv2d(4, 8, 3, **how)
        found.append(Case(f"Conv2d, {name}", conv, x, loops_conv(x, conv)))
    even = nn.Conv2d(4, 8, 4, padding="same")
    found.append(Case("Conv2d 4x4, padding same", even, x, loops_conv(x, even, (1, 1))))
    pooled, conv = F.avg_pool2d(x[:, :, :6], 2), nn.Conv2d(4, 8, 3)
    found.append(Case("AvgPool2d, Conv2d", nn.Sequential(nn.AvgPool2d(2), conv), x[:, :, :6], loops_conv(pooled, conv)))
    back = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1)
    ones = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, bias=False)
    nn.init.ones_(ones.weight)
    found.append(Case("ConvTranspose2d", back, x, (int(ones(x).sum().round()), 0)))  # where ones arrive is where operations were
    return found


def attention_cases() -> list[Case]:
    x = spikes(2, 2, 5, 8)
    a, m = loops_pairs(x, x.mT)
    with torch.no_grad():
        weights = torch.softmax(x @ x.mT / 8**0.5, -1)
    b, n = loops_pairs(weights, x)
    found = [Case("q k^T of spikes", Call(lambda x, w: x @ x.mT, 1), x, (a, m))]
    found.append(Case("scaled_dot_product_attention", Call(lambda x, w: F.scaled_dot_product_attention(x, x, x), 1), x, (a + b, m + n)))
    return found


def recurrent_cases(sj: Any) -> list[Case]:
    torch.manual_seed(3)
    x, found = spikes(2, 5, 6), []
    for rnn, gates in ((nn.RNN(6, 4, batch_first=True), 1), (nn.LSTM(6, 4, batch_first=True), 4)):
        with torch.no_grad():
            y, _ = rnn(x)
            first, loop = loops_linear(x, 4 * gates), loops_linear(y[:, :-1], 4 * gates)
        found.append(Case(f"nn.{type(rnn).__name__}", rnn, x, (first[0] + loop[0], first[1] + loop[1])))
    echo = Echo()
    adds, h = 0, torch.zeros(2, 6)
    for x_t in x.unbind(1):
        adds += loops_linear(h, 6)[0]
        h = (x_t + h @ echo.w.detach() > 0.5).float()
    found.append(Case("loop through a buffer", echo, x, (adds, 0)))
    import snntorch

    nets = {"snnTorch, two layers, 6 steps": Steps(snntorch.Leaky(0.9, threshold=0.2), lambda n: n.init_leaky(), lambda n, x, m: n(x, m))}
    if sj is not None:
        from spikingjelly.activation_based import neuron

        nets["SpikingJelly, two layers, 6 steps"] = Steps(neuron.LIFNode(v_threshold=0.2), lambda n: n.reset(), lambda n, x, m: (n(x), None))
    for name, net in nets.items():
        x = spikes(3, 6, 12)
        with torch.no_grad():
            net(x)
        a, b = loops_linear(x, 10), loops_linear(torch.stack(net.spikes), 4)
        found.append(Case(name, net, x, (a[0] + b[0], a[1] + b[1])))
    return found


def ours(case: Case) -> Pair:
    found = neuro.activity(case.net, case.x, batch_axis=0)
    return int(found.total("ac").sum()), int((found.total("graded") + found.total("mac")).sum())


def neurobench(case: Case) -> Pair:
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel
    from torch.utils.data import DataLoader, TensorDataset

    n = len(case.x)  # it looks at children only, so that a layer alone needs a container
    loader = DataLoader(TensorDataset(case.x, torch.zeros(n)), batch_size=n)
    result = Benchmark(TorchModel(nn.Sequential(case.net)), loader, [], [], [[], [SynapticOperations]]).run(quiet=True)["SynapticOperations"]
    if result == 0.0:  # a metric that failed: the error is printed, and 0.0 given in place of the dictionary
        raise PeerError("0.0, its error swallowed")
    return round(result["Effective_ACs"] * n), round(result["Effective_MACs"] * n)


def spikingjelly(case: Case) -> Pair:
    """Its SynOps and MACs; what it calls AC counts biases and norms, too, and is left out."""
    from spikingjelly.activation_based import op_counter

    synops, macs = op_counter.SynOpCounter(), op_counter.MACCounter()
    with op_counter.DispatchCounterMode([synops, macs]):
        case.net(case.x)
    return int(synops.get_total()), int(macs.get_total())


class PeerError(Exception):
    """Said as it stands in the table."""


def neurons_by_loops(case: Case) -> Pair:
    """(spikes, updates) of a `Steps`, of its spikes as they came: one value for each sample, step and neuron."""
    with torch.no_grad():
        case.net(case.x)
    values = [v for s in case.net.spikes for row in s.tolist() for v in row]
    return sum(1 for v in values if v), sum(1 for _ in values)


def neurons_ours(case: Case) -> Pair:
    found = neuro.activity(case.net, case.x, batch_axis=0)
    return int(found.total("spikes").sum()), int(found.total("updates").sum())


def neurons_neurobench(case: Case, told: bool = True) -> Pair:
    """Its sparsity is the share of outputs that are no spikes. told: the neuron's class is registered, without which it is not seen."""
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.workload import ActivationSparsity, MembraneUpdates
    from neurobench.models import TorchModel
    from torch.utils.data import DataLoader, TensorDataset

    n, outputs, model = len(case.x), case.x.shape[0] * case.x.shape[1] * case.net.a.out_features, TorchModel(case.net)
    if told:
        model.add_activation_module(type(case.net.neuron))
    loader = DataLoader(TensorDataset(case.x, torch.zeros(n)), batch_size=n)
    found = Benchmark(model, loader, [], [], [[], [ActivationSparsity, MembraneUpdates]]).run(quiet=True)
    if not any(found.values()):
        raise PeerError("sparsity 0, updates 0")
    return round((1 - found["ActivationSparsity"]) * outputs), round(found["MembraneUpdates"] * n)


def neurons_spikingjelly(case: Case) -> Pair:
    """One comparison with the threshold for each update. It does not count spikes; those of the loops stand in."""
    from spikingjelly.activation_based import op_counter

    counter = op_counter.NeuronStateCounter()
    with op_counter.DispatchCounterMode([counter]):
        case.net(case.x)
    return case.truth[0], int(counter.metric_records.get("Global", {}).get("state_comps", 0))


def asked(tool: Callable[[Case], Any], case: Case) -> Any:
    """What a tool says, or the first line of what it raised."""
    hidden = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(hidden), contextlib.redirect_stderr(hidden):
        warnings.simplefilter("ignore")
        with torch.inference_mode() if case.inference else torch.no_grad():
            try:
                return tool(case)
            except Exception as error:  # the tools of others raise anything; the table shows what
                said = str(error).splitlines()[0][:40] if str(error) else ""
                return said if isinstance(error, PeerError) else f"{type(error).__name__}: {said}"


def cell(found: Pair | str, truth: Pair) -> str:
    return found if isinstance(found, str) else "equal" if found == truth else f"{found[0]} + {found[1]}"


def compare(head: str, cases: list[Case], tools: dict[str, Callable[[Case], Any]]) -> list[str]:
    """Print a table of what each tool says; gives the cases in which ours is not the truth."""
    rows, wrong, right = [], [], dict.fromkeys(tools, 0)
    for case in cases:
        found = {name: asked(tool, case) for name, tool in tools.items()}
        rows.append((case.name, f"{case.truth[0]} + {case.truth[1]}", *(cell(f, case.truth) for f in found.values())))
        wrong += [case.name] if found["neuro"] != case.truth else []
        right = {name: n + (found[name] == case.truth) for name, n in right.items()}
    rows.append(("equal to the loops", f"of {len(cases)}", *(str(n) for n in right.values())))
    print(peers.table((head, "truth", *tools), rows))
    return wrong


def main() -> int:
    print(peers.machine())
    torch.manual_seed(0)
    sj = peers.load("spikingjelly", "spikingjelly.activation_based.op_counter")
    bench = peers.load("neurobench", "neurobench.metrics.workload")
    tools = {"neuro": ours} | ({"NeuroBench 2.3": neurobench} if bench else {}) | ({"SpikingJelly 2.0": spikingjelly} if sj else {})
    loops = recurrent_cases(sj)
    print("Operations: additions + multiplications")
    wrong = compare("network", [*linear_cases(), *large_cases(), *conv_cases(), *attention_cases(), *loops], tools)
    seen = {"neuro": neurons_ours}
    if bench:
        seen |= {"NeuroBench 2.3": lambda case: neurons_neurobench(case, told=False), "NeuroBench, class registered": neurons_neurobench}
    if sj:
        seen["SpikingJelly 2.0 (updates)"] = neurons_spikingjelly
    print("\nNeurons: spikes + updates")
    wrong += compare("network", [Case(c.name, c.net, c.x, neurons_by_loops(c)) for c in loops if isinstance(c.net, Steps)], seen)
    conv = Case("64-channel 3x3 convolution, 8x32x32", nn.Conv2d(64, 64, 3, padding=1), spikes(8, 64, 32, 32), (0, 0))
    with torch.no_grad():
        seconds = peers.alternating({"forward": lambda: conv.net(conv.x)} | {name: (lambda t=tool: asked(t, conv)) for name, tool in tools.items()}, rounds=3)
    print(f"\nCounting, in forwards of a {conv.name}: " + ", ".join(f"{name} {seconds[name] / seconds['forward']:.1f}" for name in tools))
    if wrong:
        print(f"check: NOT equal to the loops: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
