"""Grouped and oblong kernels written out with zeros, as one group and a square, and taken back: nir 1.0.8 misreads others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from neuro import graph as g
from neuro.deploy.nir_file import Part
from neuro.deploy.nir_shapes import padding, whole


def one_group(node: g.Conv2d | g.Conv1d) -> Tensor:
    """The kernel of all channels, with zeros between groups: nir 1.0.8 infers wrong shapes for groups, and refuses the file."""
    o, i = node.weight.shape[:2]
    wide = node.weight.new_zeros(o, i * node.groups, *node.weight.shape[2:])
    for n in range(node.groups):
        rows = slice(n * o // node.groups, (n + 1) * o // node.groups)
        wide[rows, n * i : (n + 1) * i] = node.weight[rows]
    return wide


def written_out(node: g.Conv2d) -> tuple[Tensor, tuple[int, int]]:
    """One group and a square kernel with zeros around, and the padding that goes with it: nir 1.0.8 misreads oblong ones too."""
    kh, kw = node.weight.shape[2:]
    k = max(kh, kw)
    if (k - kh) % 2 or (k - kw) % 2:
        cure = "Take a kernel whose sides differ by an even number, or expand_kernels=False."
        raise node.refuse("its oblong kernel cannot be centred in a square one.", f"kernel {(kh, kw)}", cure=cure)
    top, left = (k - kh) // 2, (k - kw) // 2
    wide = torch.nn.functional.pad(one_group(node), (left, left, top, top))
    return wide, (node.padding[0] + top * node.dilation[0], node.padding[1] + left * node.dilation[1])


def compact(part: Part, n: int) -> Part:
    """The grouped or oblong kernel that `nir_export` wrote out with zeros, if nothing but zeros is left over."""
    groups, kernel = part.said.get("neuro_groups"), part.said.get("neuro_kernel")
    w = np.asarray(part.values["weight"])
    if type(groups) is not int or not isinstance(kernel, np.ndarray) or kernel.dtype.kind not in "iu" or kernel.size != n or whole(part, "groups", 1) != [1]:
        return part
    o, i, *sides = w.shape
    inner = [int(k) for k in kernel.reshape(-1)]
    if groups < 1 or o % groups or i % groups or any(not 1 <= k <= side for k, side in zip(inner, sides, strict=True)):
        return part
    margin = [(side - k) // 2 for k, side in zip(inner, sides, strict=True)]
    dilation = whole(part, "dilation", n)
    pad = [p - m * d for p, m, d in zip(padding(part, sides, dilation), margin, dilation, strict=True)]
    blocks = w.reshape(groups, o // groups, groups, i // groups, *sides)
    small = np.stack([blocks[g, :, g] for g in range(groups)]).reshape(o, i // groups, *sides)
    small = small[(..., *(slice(m, m + k) for m, k in zip(margin, inner, strict=True)))]
    if np.count_nonzero(small) != np.count_nonzero(w) or min(pad) < 0:
        return part
    return replace(part, values={**part.values, "weight": small, "groups": groups, "padding": np.array(pad)})
