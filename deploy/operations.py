"""Energy of operations alone, of any torch network: by the values that were counted, and by the convention of papers.

No memory, so a lower bound: fetching a 32-bit weight from a large SRAM costs more than ten FP32 MACs. Papers on spiking
transformers give only this figure, and give it by rates of layers; `sop_convention` states what they leave open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from neuro.deploy.agreement import html_table, table
from neuro.deploy.profiles import Profile, fp32
from neuro.errors import ParameterError, explain
from neuro.measuring import Activity, LayerActivity

# Additions and multiplications per element. What is not named has no price here and is listed: exp, softmax, sigmoid, divisions of norms.
PER_ELEMENT: dict[str, tuple[int, int]] = (
    dict.fromkeys("add sub rsub mean sum cumsum avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d".split(), (1, 0))
    | dict.fromkeys("relu clamp clamp_min clamp_max maximum minimum hardtanh threshold eq ne lt le gt ge heaviside amax amin max min argmax argmin "
                    "max_pool1d max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool2d".split(), (1, 0))
    | dict.fromkeys("mul square addcmul".split(), (0, 1))
    | dict.fromkeys("native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm _batch_norm_no_update".split(), (1, 1))
    | {"native_layer_norm": (4, 3), "native_group_norm": (4, 3), "_fused_rms_norm": (1, 3), "neg": (0, 0), "abs": (0, 0), "sign": (0, 0), "where": (0, 0)}
)  # fmt: skip
UPDATE = (2, 1)  # of a neuron: its input and its threshold, and the leak


@dataclass(frozen=True)
class OperationsEnergy:
    """pJ per recording, by layer, of operations alone. unpriced: elements of work without a price; coverage: share understood."""

    layers: dict[str, tuple[float, float, float]]
    profile: Profile
    unpriced: dict[str, float]
    coverage: float
    how: tuple[str, ...]

    HEAD = ("layer", "products nJ", "neurons nJ", "elementwise nJ", "total nJ")

    @property
    def total(self) -> float:
        """µJ per recording."""
        return sum(map(sum, self.layers.values())) * 1e-6

    def rows(self) -> list[tuple[str, ...]]:
        sums = tuple(map(sum, zip(*self.layers.values(), strict=True))) or (0.0, 0.0, 0.0)
        return [(name or "(model)", *(f"{v * 1e-3:.4g}" for v in (*row, sum(row)))) for name, row in (*self.layers.items(), ("sum", sums))]

    def notes(self) -> list[str]:
        said = [f"{self.total:.4g} µJ per recording of operations alone, memory left out: a lower bound. {self.profile.name}: {self.profile.source}.", *self.how]
        said.append(f"Understood: {self.coverage:.1%} of all elements.")
        return said + [f"NOT PRICED: {name}, {n:.6g} elements" for name, n in self.unpriced.items()]

    def __repr__(self) -> str:
        return "\n".join([*table(self.HEAD, self.rows()), *self.notes()])

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self.rows(), self.notes())


def operations_energy(activity: Activity, profile: Profile = fp32) -> OperationsEnergy:
    """Price what `neuro.activity` counted, of any network, traced or not: products by value, biases, updates, elementwise work.

    Args:
        activity: counts of the network.
        profile: of `neuro.deploy.profiles`; a chip has no prices for single operations.
    """
    _check(profile)
    add, mul, mac = profile.add, profile.mul, profile.mac
    found: dict[str, list[float]] = {}
    for layer in activity:
        products = layer.ac.mean() * add + (layer.graded + layer.mac).mean() * mac + layer.biases.mean() * add
        found[layer.path] = [float(products), float(layer.updates.mean()) * (UPDATE[0] * add + UPDATE[1] * mul), 0.0]
    unpriced = {f"{name} at {path or '(model)'}": float(n.mean()) for (path, name), n in activity.not_counted.items()}
    for (path, name), elements in activity.elementwise.items():
        if name not in PER_ELEMENT:
            unpriced[name] = unpriced.get(name, 0.0) + float(elements.mean())
            continue
        adds, muls = PER_ELEMENT[name]
        found.setdefault(path, [0.0, 0.0, 0.0])[2] += float(elements.mean()) * (adds * add + muls * mul)
    how = (f"Products: AC an addition, any other a MAC; biases an addition; a neuron's update {UPDATE[0]} additions and {UPDATE[1]} multiplication.",)
    return OperationsEnergy({k: (a, b, c) for k, (a, b, c) in found.items()}, profile, unpriced, 1.0 - activity.share_not_counted, how)


def sop_convention(activity: Activity, profile: Profile = fp32, *, first: Literal["once", "every step"] = "once",
                   integers: Literal["mac", "ac"] = "mac") -> OperationsEnergy:  # fmt: skip
    """`E = mac * FLOPs(first) + sum add * fr * T * FLOPs`: the convention of papers on spiking transformers.

    fr is the share of the layer's own inputs that are not zero (of an attention product: of all its factors), FLOPs are dense
    MACs with padding. Norms, biases, pooling, scaling and neurons are free, as in those papers.

    Args:
        activity: counts of the network, its layers in order of use.
        first: whether the first layer's analog input is charged once, as if its output were kept, or in every step.
        integers: whether inputs of other whole numbers (residual sums of spikes) are charged as dense MACs, or, as many
            papers do, as accumulations by their rate.

    Raises:
        ParameterError: another choice, or a chip in place of a profile.
    """
    _check(profile)
    if first not in ("once", "every step") or integers not in ("mac", "ac"):
        raise ParameterError(explain("sop_convention: no such choice.", f"first {first!r}   integers {integers!r}", cure="first: once or every step; integers: mac or ac."))
    products = [layer for layer in activity if layer.padded.any()]
    found = {}
    for i, layer in enumerate(products):
        dense = layer.padded / (activity.steps if i == 0 and first == "once" and not _spikes(layer, integers) else 1)
        pj = layer.padded * _rates(layer) * profile.add if _spikes(layer, integers) else dense * profile.mac
        found[layer.path] = (float(pj.mean()), 0.0, 0.0)
    how = ("SOP convention: input rate x dense MACs (padding included) x one addition; inputs that are no spikes: dense MACs.",
           f"The first layer, if its input is analog, is charged {first}; inputs of whole numbers above 1 count as {integers.upper()}. Norms, biases, "
           "pooling, scaling, softmax and neurons are free.")  # fmt: skip
    free = {name: float(sum(e.mean() for (_, n), e in activity.elementwise.items() if n == name)) for _, name in activity.elementwise}
    unpriced = free | {f"{name} at {path or '(model)'}": float(n.mean()) for (path, name), n in activity.not_counted.items()}
    return OperationsEnergy(found, profile, unpriced, 1.0 - activity.share_not_counted, how)


def _spikes(layer: LayerActivity, integers: str) -> bool:
    return layer.input_class in ("zero", "binary", "ternary") or (layer.input_class == "integer" and integers == "ac")


def _rates(layer: LayerActivity) -> np.ndarray:
    """Share of inputs that are not zero, by sample."""
    return layer.events / np.maximum(layer.inputs, 1)


def _check(profile: Profile) -> None:
    if not isinstance(profile, Profile):
        raise ParameterError(explain("operations: a chip has no prices for single operations.", cure="Take a Profile, such as fp32 or int8."))
