"""Batch normalisation over time and batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from neuro.errors import ParameterError, ShapeError, explain, not_a_tensor
from neuro.layers.folding import fold, unfold
from neuro.state import recomputing, valid_steps


class BatchNorm(nn.Module):
    """Normalise every channel by its mean and variance over time, batch and space.

    `y = scale * gamma * (x - mean) / sqrt(var + eps) + beta`. In training the statistics are those of the batch, without
    the padded steps that `neuro.run(..., lengths=...)` names, and joined over all processes of a distributed run; in
    evaluation the running ones, so that a sample's output does not depend on its batch.

    Args:
        channels: C.
        axis: where C stands in [T, B, ...]: 2 for [T, B, C, H, W], -1 for tokens [T, B, N, C].
        eps, momentum: as torch.nn.BatchNorm2d.

    Shapes: [T, B, ..., C, ...] -> the same.

    Source: Ioffe and Szegedy 2015; over time and batch as in Zheng et al. 2021, arXiv:2011.05280.
    """

    scale = 1.0

    def __init__(self, channels: int, *, axis: int = 2, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        if axis not in (2, -1):
            raise ParameterError(explain(f"BatchNorm: axis={axis}.", cure="Channels stand on axis 2 ([T, B, C, ...]) or last, -1 ([T, B, ..., C])."))
        self.channels, self.axis, self.eps, self.momentum = channels, axis, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(x, "dim"):
            raise not_a_tensor("BatchNorm", x)
        if x.dim() < 3 or x.shape[self.axis] != self.channels:
            raise ShapeError(
                explain(
                    "BatchNorm: the input does not fit.",
                    f"x {list(x.shape)}   expected {self.channels} channels on axis {self.axis}",
                    cure="Give axis=-1 for tokens [T, B, N, C]; 2 is right for [T, B, C, H, W].",
                )
            )
        weight = self.weight * self.scale if self.scale != 1.0 else self.weight
        counted = valid_steps(x) if self.training else None
        if self.training and (counted is not None or processes() > 1):
            return self._joined(x, weight, counted)
        last = self.axis % x.dim() == x.dim() - 1
        mean, var = self.running_mean, self.running_var
        if self.training and recomputing():
            mean, var = mean.clone(), var.clone()
        y = F.batch_norm(
            x.flatten(0, -2) if last else fold(x), mean, var, weight, self.bias, self.training, self.momentum, self.eps
        )
        return y.view(x.shape) if last else unfold(y, x)

    def _joined(self, x: Tensor, weight: Tensor, counted: Tensor | None) -> Tensor:
        """Statistics over the steps that count, of all processes."""
        axis = self.axis % x.dim()
        others = [a for a in range(x.dim()) if a != axis]
        as_channel = [self.channels if a == axis else 1 for a in range(x.dim())]
        wide = x.float() if x.dtype != torch.float64 else x
        mask = torch.ones((), device=x.device, dtype=wide.dtype) if counted is None else counted.to(wide.dtype)
        n = mask.expand(*x.shape[:2], *[1] * (x.dim() - 2)).sum() * (x.shape[2:].numel() / self.channels)
        sums = torch.cat([(wide * mask).sum(others), n[None]])
        if processes() > 1:
            sums = _Summed.apply(sums)
        n, some = sums[-1].detach().clamp(min=1), sums[-1].detach() > 0
        mean = sums[:-1] / n
        off = (wide - mean.view(as_channel)) * mask
        squares = off.square().sum(others)
        if processes() > 1:
            squares = _Summed.apply(squares)
        var = squares / n
        if not recomputing():
            self.follow(mean.detach(), squares.detach() / (n - 1).clamp(min=1), some)
        y = (wide - mean.view(as_channel)) * ((var + self.eps).rsqrt() * weight).view(as_channel) + self.bias.view(as_channel)
        return y.to(x.dtype)

    def follow(self, mean: Tensor, var: Tensor, share: Tensor | float = 1.0) -> None:
        """Move the running statistics towards those of a batch (variance divided by n - 1): by `momentum`, times `share`."""
        for running, now in ((self.running_mean, mean), (self.running_var, var)):
            weight = share.to(running) * self.momentum if isinstance(share, Tensor) else share * self.momentum
            # .data, as an earlier F.batch_norm has kept the buffer for a backward that does not read it
            running.data.lerp_(now.to(running.dtype), weight)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale a and shift b [C] of evaluation mode: `y = a*x + b`. What folding into the layer before needs."""
        a = self.scale * self.weight / (self.running_var + self.eps).sqrt()
        return a, self.bias - a * self.running_mean

    def extra_repr(self) -> str:
        return f"{self.channels}, axis={self.axis}" + (f", scale={self.scale:g}" if self.scale != 1 else "")


class ThresholdBN(BatchNorm):
    """Batch normalisation to the threshold of the neuron that follows: scale = alpha * threshold (tdBN).

    Args: channels, axis, eps, momentum as `BatchNorm`; `threshold` of the neuron; `alpha`, 1/sqrt(2) where two branches
    are summed.

    Source: Zheng et al. 2021, arXiv:2011.05280, eq. 6.
    """

    def __init__(self, channels: int, *, threshold: float = 1.0, alpha: float = 1.0, axis: int = 2, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__(channels, axis=axis, eps=eps, momentum=momentum)
        self.scale = alpha * threshold


def processes() -> int:
    """How many take part in a distributed run; 1 outside of one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Summed(torch.autograd.Function):
    """The sum over all processes; each gets the sum of all their gradients back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad
