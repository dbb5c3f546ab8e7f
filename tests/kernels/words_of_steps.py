"""For every operation of `neuro.kernels.operations` a function of two tensors that uses it."""

import torch

from neuro.surrogate import ATan

WORDS = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y, "div": lambda x, y: x / y, "neg": lambda x, y: -x,
    "pow": lambda x, y: x**y, "reciprocal": lambda x, y: torch.reciprocal(x), "square": lambda x, y: x.square(), "sqrt": lambda x, y: x.sqrt(),
    "rsqrt": lambda x, y: x.rsqrt(), "exp": lambda x, y: x.exp(), "expm1": lambda x, y: x.expm1(), "log": lambda x, y: x.log(),
    "log1p": lambda x, y: x.log1p(), "tanh": lambda x, y: x.tanh(), "sigmoid": lambda x, y: x.sigmoid(), "sin": lambda x, y: x.sin(),
    "cos": lambda x, y: x.cos(), "atan": lambda x, y: x.atan(), "abs": lambda x, y: x.abs(), "sign": lambda x, y: x.sign(),
    "floor": lambda x, y: x.floor(), "ceil": lambda x, y: x.ceil(), "round": lambda x, y: x.round(), "trunc": lambda x, y: x.trunc(),
    "maximum": torch.maximum, "minimum": torch.minimum, "at_least": lambda x, y: x.clamp(min=0.5), "at_most": lambda x, y: x.clamp(max=0.5),
    "gt": lambda x, y: torch.where(x > y, x, 3.0), "ge": lambda x, y: torch.where(x >= y, x, 3.0), "lt": lambda x, y: torch.where(x < y, x, 3.0),
    "le": lambda x, y: torch.where(x <= y, x, 3.0), "eq": lambda x, y: torch.where(x == y, x, 3.0), "ne": lambda x, y: torch.where(x != y, x, 3.0),
    "and": lambda x, y: torch.where((x > 0) & (y > 0), x, y), "or": lambda x, y: torch.where((x > 0) | (y > 0), x, y),
    "xor": lambda x, y: torch.where((x > 0) ^ (y > 0), x, y), "not": lambda x, y: torch.where(~(x > 0), x, y), "cast": lambda x, y: (x > y).to(x.dtype) * 1.0,
    "detach": lambda x, y: x.detach() * 1.0, "fire": lambda x, y: ATan()(x), "fire_strict": lambda x, y: ATan(strict=True)(x),
}  # fmt: skip
