"""A neuron with what stands before and behind it: a batch normalisation in one kernel with it, and a layer that alone sees its spikes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from neuro.kernels import gating, max_pooling, normed, programs
from neuro.kernels.choosing import is_small
from neuro.kernels.gating import Gate
from neuro.layers.conv import Conv1d, Conv2d
from neuro.layers.linear import Linear
from neuro.layers.norm import BatchNorm, ThresholdBN, processes
from neuro.layers.pool import MaxPool2d
from neuro.neurons.base import Neuron, as_current, one_step
from neuro.scanning import scanned, takes_kernels, zeros
from neuro.state import lengths, recall, recomputing, remember, wants_state

_WORTH = 1 << 14  # values from which one kernel is faster than two


def fire(neuron: nn.Module, norm: nn.Module | None, x: Tensor, pool: nn.Module | None = None, into: nn.Module | None = None) -> Tensor:
    """`neuron(norm(x))` or `neuron(pool(norm(x)))`, or `into` of that, and the same up to rounding in one kernel, which neither writes nor keeps what lies between them.

    On the CPU in float32 and float64, for `BatchNorm` or `ThresholdBN` and a neuron of `neuro.neurons` (or a subclass that keeps `forward`)
    without hooks. Everything else is called as written: other modules, padded batches, several processes, torch.compile,
    transforms of torch.func, small inputs. The module calls stay visible to whoever hooks them. A `MaxPool2d` between the two is taken of x itself: of
    values that are equal once they are normalised and rounded, the gradient goes to that of the larger x instead of to the first.

    Spikes that go `into` a `Linear`, `Conv1d` or `Conv2d` are seen by nobody else. So their gradient is formed only where the neuron's surrogate is not 0, where that is
    faster (`neuro.kernels.gating`): what is left out would be multiplied by 0. All other gradients are the same.

    Args:
        norm: None: nothing.
        pool: `MaxPool2d` between norm and neuron (any other module is called as written); None or torch.nn.Identity: nothing.
        into: the module that takes the spikes, whose output is returned; None: nothing.

    Shapes: x [T, B, C, ...], or [T, B, ..., C] where the norm's axis is -1 -> the output of the neuron, or of `into`.

    >>> import torch, neuro
    >>> norm, lif = BatchNorm(2), neuro.neurons.LIF()
    >>> x = torch.randn(4, 8, 2, 32, 32)
    >>> torch.equal(fire(lif, norm, x), lif(norm(x)))
    True
    >>> fire(lif, norm, x, MaxPool2d(2)).shape
    torch.Size([4, 8, 2, 16, 16])
    """
    if type(pool) is nn.Identity and not is_watched(pool):
        pool = None
    alone = into is not None and type(x) is Tensor and is_private(neuron, into) and not _is_small(x, into)  # a tracer gives no tensor
    made = None if norm is None else _fused(neuron, norm, x, pool, alone)
    if made is None:
        x = x if norm is None else norm(x) if pool is None else pool(norm(x))
        made = _gated(neuron, x) if alone else (neuron(x), None)
    y, gate = made
    return y if into is None else into(y) if gate is None else into(y, gate)


def _gated(neuron: Neuron, x: Tensor) -> tuple[Tensor, Gate | None]:
    """The neuron's output as its own forward gives it, and its gate."""
    x = as_current(type(neuron).__name__, x)
    params, choices, step, state = neuron.params(), neuron.choices(), type(neuron).step, zeros(neuron.State, x) if neuron.begins_at_zero() else neuron.initial(one_step(x))
    if not (torch.is_grad_enabled() and x.is_cpu and x.dtype == torch.float32) or not takes_kernels((x, *programs.tensors(params))):
        return neuron(x), None
    found = programs.find(step, x, state, params, choices, x.dtype)
    if not gating.is_gated(found):
        return neuron(x), None
    slot, state = recall(neuron, state)
    y, after = scanned(step, x, state, params, lengths(), choices, after=slot is not None)
    remember(slot, after)
    has = y.requires_grad and programs.agrees(step, found, x, state, params, lengths(), choices, True, slot is not None)
    return y, gating.gate(found, x, state, params, lengths()) if has else None


def _fused(neuron: nn.Module, norm: nn.Module, x: Tensor, pool: nn.Module | None, alone: bool) -> tuple[Tensor, Gate | None] | None:
    """The output by one kernel, and with `alone` the neuron's gate; None where the modules are to be called as written."""
    if torch.compiler.is_compiling() or type(x) is not Tensor or not (is_pair(neuron, norm) if pool is None else is_three(neuron, pool, norm)) or not _takes(norm, x):
        return None
    windows = None if pool is None else pool.windows()
    if windows is not None and (x.dim() != 5 or norm.axis != 2 or not max_pooling.fits(x.shape, windows)):
        return None
    params, choices, step = neuron.params(), neuron.choices(), type(neuron).step
    given = programs.tensors(params)
    axis = norm.axis % x.dim()
    if not all(_is_of_channels(p, x, axis) for p in given) or not takes_kernels((x, norm.weight, norm.bias, *given)):
        return None
    if neuron.begins_at_zero():
        initial = neuron.State(*(x.new_zeros(()).expand((x.shape if windows is None else windows.out(x.shape))[1:]) for _ in neuron.State._fields))
    elif windows is None:
        initial = neuron.initial(one_step(x))
    else:
        return None
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, norm.weight, norm.bias, *given))
    found = normed.find(x, step, initial, params, choices, keep, wants_state())
    if found is None:
        return None
    slot, state = recall(neuron, initial)
    keep = keep or (torch.is_grad_enabled() and any(s.requires_grad for s in state))
    weight = norm.weight * norm.scale if norm.scale != 1.0 else norm.weight
    by_batch = norm.training
    used = normed.Norm(None, None, norm.eps) if by_batch else normed.Norm(norm.running_mean, norm.running_var, norm.eps)
    y, after, (mean, var) = normed.run(found, x, axis == x.dim() - 1, used, weight, norm.bias, step, state, params, choices, keep, windows, slot is not None)
    if by_batch and not recomputing():
        n = x.numel() // norm.channels
        norm.follow(mean, var * (n / (n - 1)))
    remember(slot, after)
    gate = normed.gate(found, x, axis == x.dim() - 1, (mean, var), norm.eps, weight, norm.bias, state, params) if alone and keep and windows is None else None
    return y, gate


def is_pair(neuron: nn.Module, norm: nn.Module) -> bool:
    """Whether these are of classes whose forward is known here, with nobody looking at their calls."""
    known = type(norm) in (BatchNorm, ThresholdBN) and isinstance(neuron, Neuron) and type(neuron).forward is Neuron.forward
    return known and not is_watched(neuron) and not is_watched(norm)


def is_three(neuron: nn.Module, pool: nn.Module, norm: nn.Module) -> bool:
    """The same with max pooling between the two, of a kind that has a kernel."""
    return type(pool) is MaxPool2d and pool.windows() is not None and not is_watched(pool) and is_pair(neuron, norm)


def is_private(neuron: nn.Module, into: nn.Module) -> bool:
    """Whether spikes that go from one to the other are seen by nobody: both of classes whose forward is known here, without hooks."""
    known = type(into) in (Linear, Conv1d, Conv2d) and isinstance(neuron, Neuron) and type(neuron).forward is Neuron.forward
    return known and not torch.compiler.is_compiling() and not is_watched(neuron) and not is_watched(into)


def _is_small(x: Tensor, into: nn.Module) -> bool:
    """Whether the product is one that is never asked how it is formed."""
    weight = into.weight
    return is_small(x.numel() * weight.numel() // max(1, weight.shape[1]))


def is_watched(module: nn.Module) -> bool:
    """Whether somebody looks at its calls."""
    return "forward" in vars(module) or _is_hooked(module)


def _is_hooked(module: nn.Module) -> bool:
    own = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(own) or _has_any_global_hook()


def _takes(norm: nn.Module, x: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or x.dim() < 3 or x.numel() < _WORTH or not x.is_contiguous():
        return False
    if x.shape[norm.axis] != norm.channels or x.numel() == norm.channels or norm.weight.dtype != x.dtype:
        return False
    return lengths() is None and not (norm.training and processes() > 1)


def _is_of_channels(param: Tensor, x: Tensor, axis: int) -> bool:
    """One value, or one for each channel of x."""
    shape = (1,) * (x.dim() - 1 - param.dim()) + tuple(param.shape)
    return param.dtype == x.dtype and (param.numel() == 1 or (len(shape) == x.dim() - 1 and shape[axis - 1] == param.numel() == x.shape[axis]))
