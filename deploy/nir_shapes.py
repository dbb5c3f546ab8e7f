"""The shape of every value in a NIR net, by arithmetic alone: nothing is run before the sizes are known and bounded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neuro.deploy.nir_file import Part

Shape = tuple[int, ...]
MOST_NUMBERS = 1 << 26  # of one value, per step and sample; and of all that is made beyond what the file holds


class Room:
    """Numbers that may still be made beyond those of the file: matrices of loops, steps that delays hold."""

    def __init__(self) -> None:
        self.left = MOST_NUMBERS

    def take(self, part: Part, count: int, what: str) -> None:
        self.left -= count
        if self.left < 0:
            raise part.refuse(f"{what} is too large.", f"{count} numbers   limit {MOST_NUMBERS} in all")


def shape_of(part: Part, inputs: list[Shape]) -> Shape:
    """Per-step shape of a part's output from those of its inputs, which are summed.

    Raises:
        FormatError: inputs that differ, weights or parameters that do not fit, values above `MOST_NUMBERS`.
    """
    if part.kind == "Input":
        found = tuple(whole(part, "shape"))
        if not found or min(found) < 1:
            raise part.refuse("its shape is empty.", f"shape {found}")
    else:
        if len(set(inputs)) > 1:
            raise part.refuse("what enters it differs in shape.", "   ".join(map(str, map(list, inputs))), cure="Summed inputs have one shape.")
        found = _RULES.get(part.kind, _elementwise)(part, inputs[0])
    if math.prod(found) < 1:
        raise part.refuse("its output is empty.", f"{list(found)}")
    if math.prod(found) > MOST_NUMBERS:
        raise part.refuse("its output is too large.", f"{list(found)} is {math.prod(found)} numbers   limit {MOST_NUMBERS}")
    return found


def whole(part: Part, key: str, count: int | None = None) -> list[int]:
    """Whole numbers of a field; one number stands for `count` of them."""
    a = np.asarray(part.values[key]).reshape(-1)
    if a.dtype.kind not in "biuf" or a.size > 16 or not np.equal(a, np.round(a)).all() or (a.size and np.abs(a).max() > 2**40):
        raise part.refuse(f"{key} is not a list of whole numbers.", f"{key} {a[:4].tolist()}")
    found = [int(n) for n in a]
    if count is not None and len(found) == 1:
        found = found * count
    if count is not None and len(found) != count:
        raise part.refuse(f"{key} needs {count} numbers.", f"{key} {found}")
    return found


def padding(part: Part, kernel: list[int], dilation: list[int]) -> list[int]:
    """Zeros on each side; `same` and `valid` as torch pads."""
    value: Any = part.values["padding"]
    value = value.decode() if isinstance(value, bytes) else value
    if isinstance(value, str) and value == "valid":
        return [0] * len(kernel)
    if isinstance(value, str) and value == "same":
        spare = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if any(s % 2 for s in spare):
            raise part.refuse("padding 'same' with an even kernel pads one side more.", f"kernel {kernel}", cure="Give the padding in numbers.")
        return [s // 2 for s in spare]
    if isinstance(value, str):
        raise part.refuse(f"padding {value!r} is not known.", cure="'same', 'valid' or numbers.")
    return whole(part, "padding", len(kernel))


def _conv(part: Part, x: Shape) -> Shape:
    w, n = np.asarray(part.values["weight"]), 1 if part.kind == "Conv1d" else 2
    (groups,) = whole(part, "groups", 1)
    stride, dilation = whole(part, "stride", n), whole(part, "dilation", n)
    if w.ndim != n + 2 or groups < 1 or len(x) != n + 1 or x[0] != w.shape[1] * groups or w.shape[0] % groups:
        raise part.refuse("its weight does not fit what enters.", f"weight {list(w.shape)}   groups {groups}   input {list(x)}")
    if np.asarray(part.values["bias"]).shape != w.shape[:1]:
        raise part.refuse("its bias does not fit.", f"bias {list(np.asarray(part.values['bias']).shape)}   weight {list(w.shape)}")
    kernel = list(w.shape[2:])
    return (w.shape[0], *_windows(part, x[1:], kernel, stride, padding(part, kernel, dilation), dilation))


def _pool(part: Part, x: Shape) -> Shape:
    if len(x) != 3:
        raise part.refuse("it needs a map [C, H, W].", f"input {list(x)}")
    kernel = whole(part, "kernel_size", 2)
    pad = whole(part, "padding", 2)
    if any(2 * p > k for p, k in zip(pad, kernel, strict=True)):
        raise part.refuse("it pads more than half its window.", f"kernel {kernel}   padding {pad}")
    return (x[0], *_windows(part, x[1:], kernel, whole(part, "stride", 2), pad, [1, 1]))


def _windows(part: Part, size: Shape, kernel: list[int], stride: list[int], pad: list[int], dilation: list[int]) -> list[int]:
    if min([*kernel, *stride, *dilation]) < 1 or min(pad) < 0 or max([*kernel, *stride, *dilation, *pad]) > MOST_NUMBERS:
        raise part.refuse("its window is not possible.", f"kernel {kernel}   stride {stride}   padding {pad}   dilation {dilation}")
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, pad, dilation, strict=True)]
    if min(out) < 1:
        raise part.refuse("its window is larger than what enters.", f"input {list(size)}   kernel {kernel}   padding {pad}   dilation {dilation}")
    return out


def _linear(part: Part, x: Shape) -> Shape:
    w = np.asarray(part.values["weight"])
    if w.ndim != 2 or x != (w.shape[1],):
        raise part.refuse("its weight does not fit what enters.", f"weight {list(w.shape)}   input {list(x)}", cure="It takes a vector; put a Flatten before it.")
    if part.kind == "Affine" and np.asarray(part.values["bias"]).shape != w.shape[:1]:
        raise part.refuse("its bias does not fit.", f"bias {list(np.asarray(part.values['bias']).shape)}   weight {list(w.shape)}")
    return (int(w.shape[0]),)


def _flatten(part: Part, x: Shape) -> Shape:
    """The whole step; an axis 0 that is left alone is taken for the batch, which a per-step shape does not have."""
    (start,), (end,) = whole(part, "start_dim", 1), whole(part, "end_dim", 1)
    stated = part.values.get("input_type")
    with_batch = stated is not None and np.size(stated) == len(x) + 1
    last = len(x) - 1 + with_batch
    if start not in (0, 1) or end % (last + 1) != last or (start == 1 and len(x) > 1 and not with_batch):
        raise part.refuse("it leaves an axis of the step standing.", f"start_dim {start}   end_dim {end}   input {list(x)}", cure="Flatten all of them, start_dim=0.")
    return (math.prod(x),)


def _output(part: Part, x: Shape) -> Shape:
    stated = whole(part, "shape")
    if math.prod(stated) != math.prod(x):
        raise part.refuse("its shape is not that of what enters.", f"stated {stated}   input {list(x)}")
    return x


def _elementwise(part: Part, x: Shape) -> Shape:
    for key, value in part.values.items():
        a = np.asarray(value)
        if a.size != 1 and a.shape != x:
            raise part.refuse(f"{key} does not fit what enters.", f"{key} {list(a.shape)}   input {list(x)}")
    return x


_RULES = {
    "Conv1d": _conv, "Conv2d": _conv, "SumPool2d": _pool, "AvgPool2d": _pool, "MaxPool2d": _pool, "Linear": _linear, "Affine": _linear, "Flatten": _flatten,
    "Output": _output, "Pass": lambda part, x: x,
}  # fmt: skip
