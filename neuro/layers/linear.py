"""Dense layer on the last axis."""

from __future__ import annotations

from torch import Tensor, nn

from neuro.errors import ShapeError, explain, not_a_tensor
from neuro.kernels.gating import Gate
from neuro.kernels.spike_linear import spike_linear


class Linear(nn.Linear):
    """`y = x W^T + b` on the last axis: [T, B, ..., in_features] -> [T, B, ..., out_features]. Arguments as torch.nn.Linear.

    Spikes may be multiplied by events: see `neuro.kernels.spike_linear`, also for `gate`, which `neuro.layers.fire` gives.
    """

    def forward(self, x: Tensor, gate: Gate | None = None) -> Tensor:
        if not hasattr(x, "dim"):
            raise not_a_tensor("Linear", x)
        if x.dim() < 3 or x.shape[-1] != self.in_features:
            raise ShapeError(
                explain(
                    "Linear: the input does not fit.",
                    f"x {list(x.shape)}   expected [T, B, ..., {self.in_features}]",
                    cure="Time is axis 0, batch axis 1, features last.",
                )
            )
        return spike_linear(x, self.weight, self.bias, gate)
