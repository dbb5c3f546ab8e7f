"""State is a value: `model(x)` starts fresh, `run(model, x, state)` carries on.

A stateful module asks `recall` for the state that belongs to its call and hands the new one to `remember`. Outside
`run` there is nothing to recall and nothing is remembered. Inside, a thread-local frame maps the module to its path and
counts its calls, so that a module used twice in one forward has two states.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from neuro.errors import ShapeError, StateError, explain
from neuro.misreaders import refuse_misreaders
from neuro.module_paths import module_paths

_here = threading.local()


class Slot(NamedTuple):
    """Where the state of one call of one module is kept: `path#k`, followed by `.field` where it has several fields."""

    key: str
    fields: tuple[str, ...]

    def names(self) -> list[str]:
        return [self.key] if len(self.fields) == 1 else [f"{self.key}.{f}" for f in self.fields]


class Frame:
    """What `run` knows during one forward. Never outlives it."""

    def __init__(self, paths: dict[nn.Module, str], given: Mapping[str, Tensor] | None, lengths: Tensor | None):
        self.paths = paths
        self.given = given
        self.lengths = lengths
        self.calls: dict[str, int] = {}
        self.after: dict[str, Tensor] = {}


def run(
    model: nn.Module, x: Any, state: Mapping[str, Tensor] | None = None, *, lengths: Tensor | None = None, **kwargs: Any
) -> tuple[Any, dict[str, Tensor]]:
    """Call `model(x)` from a given state and return `(output, state afterwards)`.

    Args:
        model: any module made of ours; also wrapped by torch.compile or DistributedDataParallel.
        x: its input, time on axis 0.
        state: what an earlier `run` of the same model returned, or None to start afresh.
        lengths: steps that count for each sample, int64 [B]; None: all of them. See `neuro.scan`.

    Returns:
        The output, and a dict of tensors with batch on axis 0, keyed `path#k` (module path, number of the call) or
        `path#k.field` where a module has several state fields. It can be saved, moved and sliced, and carries
        gradients: `neuro.detach(state)` cuts them.

    Raises:
        StateError: keys that the model does not use, keys that are missing, another shape, dtype or device, a model
            that looks ahead in time (`causal = False`), or plain torch.utils.checkpoint inside the model.
        ShapeError: lengths that do not fit x; a plain torch layer that would misread the time axis.

    >>> import torch, neuro
    >>> lif = neuro.neurons.LIF(decay=0.5)
    >>> x = torch.full((4, 1, 1), 0.6)
    >>> first, s = run(lif, x[:2])
    >>> second, _ = run(lif, x[2:], s)
    >>> torch.equal(torch.cat([first, second]), lif(x))
    True
    """
    paths = module_paths(model)
    refuse_misreaders(paths)
    if state is not None:
        if not isinstance(state, Mapping):
            cure = "Pass what an earlier run returned second, or None to start afresh."
            raise StateError(explain(f"run: the state is a {type(state).__name__}, not a dict of tensors.", cure=cure))
        _refuse_lookahead(paths)
    if lengths is not None:
        lengths = _checked_lengths(x, lengths, least=1 if state is None else 0)
    frame = Frame(paths, state, lengths)
    outer = getattr(_here, "frame", None)
    _here.frame = frame
    try:
        output = model(x, **kwargs)
    finally:
        _here.frame = outer
    if state is not None:
        unused = sorted(set(state) - set(frame.after))
        if unused:
            raise StateError(
                explain(
                    "run: the state holds keys that this model did not use.",
                    f"unused {_few(unused)}",
                    f"used {_few(sorted(frame.after))}",
                    cure="It belongs to another model or another forward. Pass state=None to start afresh.",
                )
            )
    return output, frame.after


def detach(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same state without its history: truncated back-propagation through time cuts here."""
    return {key: value.detach() for key, value in state.items()}


def lengths() -> Tensor | None:
    """Steps that count for each sample [B] in the current `run`, or None when all do."""
    frame = getattr(_here, "frame", None)
    return None if frame is None else frame.lengths


def wants_state() -> bool:
    """Whether a `run` is under way, which asks every module for its state."""
    return getattr(_here, "frame", None) is not None


def valid_steps(x: Tensor, *, axes: int | None = None) -> Tensor | None:
    """Mask [T, B, 1, ...] of the steps that count, broadcastable to `x`, or None when all do."""
    n = lengths()
    if n is None:
        return None
    mask = torch.arange(x.shape[0], device=x.device)[:, None] < n[None, :]
    return mask.view(*mask.shape, *[1] * ((x.dim() if axes is None else axes) - 2))


def recall(module: nn.Module, initial: Any) -> tuple[Slot | None, Any]:
    """The state that `module` continues from at this call: `initial` (a NamedTuple of tensors) if it starts afresh."""
    frame = getattr(_here, "frame", None)
    if frame is None:
        return None, initial
    if not torch.compiler.is_compiling():
        _refuse_plain_checkpoint(module)
    path = frame.paths.get(module)
    if path is None:
        raise StateError(
            explain(
                f"run: {type(module).__name__} is not part of the model that run was given.",
                "It was made or attached during the forward, so its state has no name.",
                cure="Make it in __init__.",
            )
        )
    k = frame.calls.get(path, 0)
    frame.calls[path] = k + 1
    slot = Slot(f"{path}#{k}", initial._fields)
    if frame.given is None:
        return slot, initial
    found = []
    for name, like in zip(slot.names(), initial, strict=True):
        value = frame.given.get(name)
        if value is None:
            raise StateError(
                explain(
                    f"run: the state has no entry {name!r}.",
                    f"it holds {_few(sorted(frame.given))}",
                    cure="It belongs to another model or another forward. Pass state=None to start afresh.",
                )
            )
        _check_fits(name, value, like)
        found.append(value)
    return slot, type(initial)(*found)


def remember(slot: Slot | None, state: Any) -> None:
    """Hand over the state after this call."""
    if slot is not None:
        frame = _here.frame
        for name, value in zip(slot.names(), state, strict=True):
            frame.after[name] = value


def checkpoint(f: Callable[..., Any], *args: Any) -> Any:
    """`f(*args)`, recomputed in backward instead of kept: torch's checkpoint that knows the state.

    The recomputation starts from the state that the forward started from, and leaves the running statistics of
    `neuro.layers.BatchNorm` alone. Outside `run` every neuron starts fresh in both.
    """
    frame = getattr(_here, "frame", None)
    calls = None if frame is None else dict(frame.calls)
    first = [True]

    def again(*xs: Any) -> Any:
        if first:
            first.clear()
            return f(*xs)
        now = None
        if frame is not None:
            now = Frame(frame.paths, frame.given, frame.lengths)
            now.calls = dict(calls)
        with _recomputing(now):
            return f(*xs)

    return torch.utils.checkpoint.checkpoint(again, *args, use_reentrant=False)


def recomputing() -> bool:
    """Whether this forward is one that `neuro.checkpoint` repeats in backward: it must change nothing."""
    return getattr(_here, "recomputing", False)


@contextmanager
def _recomputing(frame: Frame | None) -> Iterator[None]:
    outer, before = getattr(_here, "frame", None), recomputing()
    _here.frame, _here.recomputing = frame, True
    try:
        yield
    finally:
        _here.frame, _here.recomputing = outer, before


def _refuse_lookahead(paths: Mapping[nn.Module, str]) -> None:
    for module, path in paths.items():
        if isinstance(module, nn.RNNBase):
            raise StateError(
                explain(
                    f"run: {path or 'the model'} is a torch.nn.{type(module).__name__}, whose memory is not part of the state.",
                    "It would start from zero in every chunk, without a message.",
                    cure="Give it the whole sequence at once, or use neuro.neurons.Recurrent.",
                )
            )
        attends = isinstance(module, (nn.MultiheadAttention, nn.Transformer))
        if attends or getattr(module, "causal", True) is False:
            raise StateError(
                explain(
                    f"run: {path or type(module).__name__} looks ahead in time, so it cannot continue from a state.",
                    cure="Give it the whole sequence at once, without a state.",
                )
            )


def _refuse_plain_checkpoint(module: nn.Module) -> None:
    """Inside torch.utils.checkpoint the recomputation would start from zero state: gradients off, no error."""
    f = sys._getframe(2)
    while f is not None:
        if f.f_code.co_filename == __file__ and f.f_code.co_name in ("run", "again"):  # by name: a type checker wraps run
            return
        if f.f_code.co_filename == torch.utils.checkpoint.__file__:
            raise StateError(
                explain(
                    f"run: {type(module).__name__} stands inside torch.utils.checkpoint.",
                    "Its recomputation in backward would start from zero state and give wrong gradients.",
                    cure="Use neuro.checkpoint(f, *args), which recomputes from the right state.",
                )
            )
        f = f.f_back


def _check_fits(name: str, value: Any, like: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise StateError(explain(f"run: the state {name!r} is a {type(value).__name__}, not a tensor."))
    if value.shape != like.shape:
        batch = value.shape[:1] != like.shape[:1] and value.shape[1:] == like.shape[1:]
        raise StateError(
            explain(
                "run: the state does not fit the input.",
                f"state {name} [{_axes(value)}]   this call needs [{_axes(like)}]",
                "The batch size changed. Pass state=None to start afresh, or slice the state."
                if batch
                else "It comes from an input of another size. Pass state=None to start afresh.",
            )
        )
    if value.dtype != like.dtype or value.device != like.device:
        raise StateError(
            explain(
                "run: the state does not fit the input.",
                f"state {name} is {value.dtype} on {value.device}, this call needs {like.dtype} on {like.device}",
                cure="Move it: {k: v.to(device, dtype) for k, v in state.items()}.",
            )
        )


def _axes(x: Tensor) -> str:
    return ", ".join(f"{n}={s}" for n, s in zip(["B", *["N"] * (x.dim() - 1)], x.shape, strict=True))


def _few(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "") if names else "none"


def _checked_lengths(x: Any, lengths: Tensor, least: int) -> Tensor | None:
    """Lengths [B] with least <= length <= T; None when every sample has all T steps. A later chunk may hold none."""
    first = x if isinstance(x, Tensor) else x[0]
    if first.dim() < 2:
        raise ShapeError(explain("run: lengths need a sequence.", f"x {list(first.shape)}", cure="Time is axis 0, batch axis 1: [T, B, ...]."))
    t, b = first.shape[:2]
    lengths = torch.as_tensor(lengths, device=first.device)
    if lengths.shape != (b,) or lengths.is_floating_point() or int(lengths.max()) > t or int(lengths.min()) < least:
        raise ShapeError(
            explain(
                "run: the lengths do not fit the input.",
                f"x [T={t}, B={b}, ...]   lengths {list(lengths.shape)} {lengths.dtype}"
                + (f", {int(lengths.min())} to {int(lengths.max())}" if lengths.numel() else ""),
                cure=f"Give one whole number from {least} to T for each of the B samples. Is time on axis 0?",
            )
        )
    return None if int(lengths.min()) == t else lengths
