"""What a step of training is, as pure functions of its number: the learning rate and the seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from neuro.errors import ParameterError, explain
from neuro.neurons import Neuron


@dataclass(frozen=True)
class Plan:
    """How to train: AdamW, its rate warmed up linearly and lowered along a half cosine to 1 % at the end."""

    epochs: int
    lr: float = 1e-3  # largest learning rate
    weight_decay: float = 0.01  # per step times rate; not of biases, norms and neuron parameters
    warmup: float = 0.05  # share of all steps
    clip: float = 1.0  # largest norm of the gradient of all parameters; 0: any
    patience: int = 0  # epochs without a better validation loss after which to stop; 0: never
    keep_best: bool = False  # end with the weights of the best validation loss instead of the last
    look_every: int = 10  # steps between looks at the layers
    stop_after: int = 0  # epochs after which to stop on the course of `epochs`; 0: all

    def __post_init__(self) -> None:
        ranges = {
            "epochs": (self.epochs >= 1, "from 1"), "lr": (self.lr > 0, "above 0"), "weight_decay": (self.weight_decay >= 0, "from 0"),
            "warmup": (0 <= self.warmup < 1, "a share in 0 .. 1, without 1"), "clip": (self.clip >= 0, "from 0"), "patience": (self.patience >= 0, "from 0"),
            "look_every": (self.look_every >= 1, "from 1"), "stop_after": (0 <= self.stop_after <= self.epochs, "0 .. epochs"),
        }  # fmt: skip
        if wrong := [f"{name}={getattr(self, name)}, must be {said}" for name, (good, said) in ranges.items() if not good]:
            raise ParameterError(explain("fit: an option is outside its range.", *wrong))

    @property
    def last(self) -> int:
        """Epochs that are trained, if nothing stops it before."""
        return self.stop_after or self.epochs

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0 .. steps-1.

        >>> [round(Plan(1, lr=1.0, warmup=0.2).rate(s, 10), 3) for s in (0, 1, 2, 9)]
        [0.5, 1.0, 0.962, 0.01]
        """
        warm = math.ceil(self.warmup * steps)
        if step < warm:
            return self.lr * (step + 1) / warm
        done = min((step + 1 - warm) / max(steps - warm, 1), 1.0)
        return self.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def mixed(*numbers: int) -> int:
    """One seed from several numbers, 0 .. 2^63-1.

    >>> mixed(0, 1) == mixed(1, 0)
    False
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameter groups: matrices and kernels decay, biases, norms and the parameters of neurons do not."""
    own = {id(p) for module in model.modules() if isinstance(module, Neuron) for p in module.parameters()}
    wanted = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in wanted if p.dim() >= 2 and id(p) not in own]
    kept = {id(p) for p in decayed}
    rest = [p for p in wanted if id(p) not in kept]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
