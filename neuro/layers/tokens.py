"""Between maps and tokens."""

from __future__ import annotations

from torch import Tensor, nn

from neuro.layers.folding import expect


class ExpectFrames(nn.Module):
    """Pass [T, B, C, H, W] through if its sizes are the model's; a clear error otherwise."""

    def __init__(self, channels: int, height: int, width: int):
        super().__init__()
        self.channels, self.height, self.width = channels, height, width

    def forward(self, x: Tensor) -> Tensor:
        expect("input", x, "TBCHW", C=self.channels, H=self.height, W=self.width)
        return x

    def extra_repr(self) -> str:
        return f"C={self.channels}, H={self.height}, W={self.width}"


class Tokens(nn.Module):
    """Every position of a map becomes a token, row by row: [T, B, C, H, W] -> [T, B, H*W, C], contiguous."""

    def forward(self, x: Tensor) -> Tensor:
        expect("Tokens", x, "TBCHW")
        # Copied once: sums keep the order of axes in memory of their first term, so a transposed stream would stay transposed
        # through all blocks, to be copied by every product.
        return x.flatten(3).transpose(2, 3).contiguous()


class Flatten(nn.Module):
    """[T, B, ...] -> [T, B, N], channel first as torch.flatten."""

    time_aware = True

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2)
