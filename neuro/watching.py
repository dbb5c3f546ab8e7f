"""Which module of a network is running, and what its neurons gave: for the counts of `neuro.activity`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neuro.counting import Counter
from neuro.neurons import Neuron, Recurrent

# Neurons of other packages, by the class that all of theirs have: what they give, or its first part, are spikes.
_FOREIGN = frozenset({("snntorch", "SpikingNeuron"), ("spikingjelly", "BaseNode"), ("norse", "SNN"), ("norse", "SNNCell"), ("norse", "SNNRecurrent"),
                      ("norse", "SNNRecurrentCell"), ("sinabs", "StatefulLayer")})  # fmt: skip


def _is_foreign(module: nn.Module) -> bool:
    return any((c.__module__.partition(".")[0], c.__name__) in _FOREIGN for c in type(module).__mro__)


def _steps_of(module: nn.Module, y: Tensor) -> int:
    """Steps of one call: axis 0 of what takes sequences, axis 1 of sinabs's; a call of what takes one step."""
    names = {c.__name__ for c in type(module).__mro__ if c.__module__.partition(".")[0] in ("norse", "sinabs")}
    if isinstance(module, (Neuron, Recurrent)) or getattr(module, "step_mode", None) == "m" or names & {"SNN", "SNNRecurrent"}:
        return y.shape[0]
    if "SqueezeMixin" in names:  # sinabs, [B * T, ...]
        return y.shape[0] // module.batch_size if module.batch_size > 0 else module.num_timesteps  # type: ignore[operator, return-value]
    return y.shape[1] if "StatefulLayer" in names else 1


class Watch:
    """Which module is running, and what neurons gave: [updates, spikes, steps] by path."""

    def __init__(self) -> None:
        self.stack: list[tuple[str, bool]] = []
        self.seen: dict[str, list[int]] = {}
        self.counter: Counter | None = None

    def start(self) -> None:
        self.stack, self.seen = [], {}

    def where(self) -> tuple[str, bool]:
        return self.stack[-1] if self.stack else ("", False)

    def left(self, path: str, y: Tensor, steps: int) -> None:
        row = self.seen.setdefault(path, [0, 0, 0])
        for i, n in enumerate((y.numel(), int(torch.count_nonzero(y)), steps)):
            row[i] += n


@contextmanager
def watched(paths: dict[nn.Module, str], others: tuple[type[nn.Module], ...]) -> Iterator[Watch]:
    """Modules by path tell the `Watch` when they run. others: classes of modules that are neurons, besides those that are known."""
    watch, handles = Watch(), list[Callable[[], None]]()
    for module, path in paths.items():
        neuron = isinstance(module, (Neuron, Recurrent, *others)) or _is_foreign(module)
        handles.append(_replaced(module, watch, path, neuron))
    try:
        yield watch
    finally:
        for undo in handles:
            undo()


def _replaced(module: nn.Module, watch: Watch, path: str, neuron: bool) -> Callable[[], None]:
    """Put a `forward` that is watched into a module; gives what puts the old one back. Hooks would not see `module.forward(x)`."""
    own, forward = module.__dict__.get("forward"), module.forward

    @functools.wraps(forward)
    def seen(*args: Any, **kwargs: Any) -> Any:
        again = any(p == path for p, _ in watch.stack)  # a forward that calls itself is one call
        watch.stack.append((path, neuron))
        try:
            out = y = forward(*args, **kwargs)
            with torch.utils._python_dispatch._disable_current_modes():
                if not neuron and watch.counter is not None:
                    watch.counter.unseen(y, (args, kwargs))
                while neuron and isinstance(y, (tuple, list)) and y:
                    y = y[0]
                if neuron and not again and isinstance(y, Tensor):
                    watch.left(path, y, _steps_of(module, y))
        finally:
            watch.stack.pop()
        return out

    def undo() -> None:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own

    module.__dict__["forward"] = seen
    return undo


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Eval mode, and torch's fused encoder and LSTM off (they hide their products in one operator); all restored."""
    modes = {m: m.training for m in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    mkldnn, one_operator = torch.backends.mkldnn.enabled, any(isinstance(m, nn.LSTM) for m in model.modules())
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    try:
        if one_operator:
            torch._C._set_mkldnn_enabled(False)
        with torch.compiler.set_stance("force_eager"):  # torch.cond and flex_attention compile themselves, which cannot be watched
            yield
    finally:
        torch._C._set_mkldnn_enabled(mkldnn)
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode
