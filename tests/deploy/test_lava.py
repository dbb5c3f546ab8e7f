"""Lava itself, where an interpreter is found: twin and Lava agree, sabotage is found, our processes equal Lava's own."""

from dataclasses import replace

import numpy as np
import pytest

from neuro.deploy.examples import even, events, random_network, transformer
from neuro.deploy.lava import compare, run_lava
from neuro.deploy.network import (
    LIF,
    Add,
    Attention,
    Conv,
    Dense,
    Flatten,
    Input,
    IntegerNetwork,
    MaxPool,
    Readout,
    Tokens,
    TokenSum,
)
from neuro.deploy.network_file import checksum, describe, write
from neuro.deploy.twin import run_twin
from neuro.errors import LavaError, ShapeError

C, H, W, D = 12, 3, 4, 4
N = H * W


def relay(name, source, vth=1):
    """A LIF without memory that fires where its input is at least 2 * vth."""
    return LIF(name, source, 4096, vth)


def pick(part):
    """Weights [D, C] that take one of the three parts of the channels."""
    return 2 * np.eye(C, dtype=int)[part * D:(part + 1) * D]


def depthwise(value, kernel=1):
    return np.full((C, 1, kernel, kernel), value)


@pytest.fixture(scope="module")
def twofold(lava):
    """One run of a network that computes everything twice: by a process of ours, and by Lava's own Dense or Conv.

    Channels 4..11, from which k and v are taken, are constant in time, so that attention is a fixed matrix.
    """
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, (8, 1, C, H, W))
    x[:, :, D:] = x[:1, :, D:]
    tokens = x[0, 0].reshape(C, N).T
    k, v, heads = tokens[:, D:2 * D], tokens[:, 2 * D:], 2
    fixed = np.kron(np.eye(heads, dtype=int), np.ones((D // heads, D // heads), int)) * (k.T @ v)   # q -> out, [in, out]
    w, w5, w3 = even(rng, (8, C)), even(rng, (5, C)), even(rng, (6, C, 3, 3))
    network = IntegerNetwork([
        Input("x", (C, H, W)), Tokens("t", "x"), Flatten("flat", "t"),
        Dense("dense.a", "t", w), LIF("dense.ours", "dense.a", 1000, 90, 30),
        Dense("dense.b", "flat", np.kron(np.eye(N, dtype=int), w)), LIF("dense.lava", "dense.b", 1000, 90, 30),
        *[node for i, n in enumerate("qkv") for node in (Dense(n, "t", pick(i)), relay(f"{n}.lif", n))],
        Attention("att.a", "q.lif", "k.lif", "v.lif", heads, 2), LIF("att.ours", "att.a", 2048, 8, 3),
        Flatten("q.flat", "q.lif"), Dense("att.b", "q.flat", np.kron(np.eye(N, dtype=int), 2 * fixed.T)),
        LIF("att.lava", "att.b", 2048, 8, 3),
        MaxPool("pool", "x", (2, 3), (2, 1), (1, 1)), Conv("pool.a", "pool", depthwise(2), groups=C), relay("pool.ours", "pool.a"),
        Conv("pool.b", "x", np.full((C, 1, 2, 3), 2), (2, 1), (1, 1), groups=C), relay("pool.lava", "pool.b"),
        Conv("late", "x", depthwise(2), groups=C), relay("late.lif", "late"), Add("join", ("x", "late.lif")),
        Conv("join.a", "join", w3, padding=1), LIF("join.ours", "join.a", 2048, 150, 5),
        Conv("join.b", "x", 2 * w3, padding=1), LIF("join.lava", "join.b", 2048, 150, 5),
        TokenSum("sum", "t"), Dense("sum.a", "sum", w5), LIF("sum.ours", "sum.a", 2048, 200),
        Dense("sum.b", "flat", np.tile(w5, N)), LIF("sum.lava", "sum.b", 2048, 200),
        Readout("readout", "sum.a", np.arange(5)),
    ])
    return network, x, run_lava(network, x, unroll=10**9)


@pytest.mark.parametrize("what", ["dense", "att", "pool", "join", "sum"])
def test_our_process_equals_those_of_lava(twofold, what):
    _, _, lava = twofold
    ours, theirs = lava.spikes[f"{what}.ours"], lava.spikes[f"{what}.lava"]
    assert 0 < ours.sum() < ours.size
    np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs)
    np.testing.assert_array_equal(lava.membranes[f"{what}.ours"].reshape(theirs.shape), lava.membranes[f"{what}.lava"])


def test_twin_equals_lava_on_it(twofold):
    network, x, lava = twofold
    agreement = compare(run_twin(network, x, record=True), lava)
    assert agreement.exact and agreement.first_layer is None, str(agreement)


@pytest.mark.parametrize("seed", [100, 101])
def test_twin_equals_lava_on_random_networks(lava, seed):
    """Several recordings back to back: each starts from zero. Convolutions of two channel pairs and more as matrices."""
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    inputs = events(rng, network, 7, 3, 0.3)
    agreement = compare(run_twin(network, inputs, record=True), run_lava(network, inputs, unroll=2))
    assert agreement.exact and agreement.mismatches == 0, str(agreement)


@pytest.fixture(scope="module")
def residual(lava):
    """A small residual network, its inputs and what the twin makes of them."""
    rng = np.random.default_rng(8)
    network = transformer(rng, 8, (4, 8), heads=2, expansion=1, blocks=1)
    inputs = events(rng, network, 6, 2, 0.3)
    return network, inputs, run_twin(network, inputs, record=True)


def assert_found(residual, network_or_file, layer):
    _, inputs, twin = residual
    agreement = compare(twin, run_lava(network_or_file, inputs))
    assert agreement.first_layer == layer and layer in str(agreement)
    first = next(a for a in agreement.layers if a.name == layer)
    assert first.first is not None and not first.exact


def changed(network, name, **fields):
    return IntegerNetwork([replace(n, **fields) if n.name == name else n for n in network.nodes])


def test_one_changed_weight_is_found(residual):
    network, inputs, twin = residual
    node = network["stem.1.conv"]
    weight = node.weight.copy()
    weight[3, 1, 1, 1] += 2 if weight[3, 1, 1, 1] < 0 else -2
    assert_found(residual, changed(network, "stem.1.conv", weight=weight), "stem.1.lif")


def test_one_changed_threshold_is_found(residual):
    node = residual[0]["blocks.0.mlp1.lif"]
    assert_found(residual, changed(residual[0], node.name, vth=node.vth + 1), node.name)


def test_one_changed_delay_is_found(residual, tmp_path):
    document, arrays = describe(residual[0])
    edge = next(e for e in document["edges"] if e["to"] == "blocks.0.add1" and e["port"] == 0)
    assert edge["delay"] == 3
    edge["delay"] = 2
    document["checksum"] = checksum(document, arrays)
    assert_found(residual, write(tmp_path / "late.npz", document, arrays), "blocks.0.mlp1.lif")


def test_what_a_worker_raises_comes_back(residual, tmp_path):
    document, arrays = describe(residual[0])
    next(n for n in document["nodes"] if n["kind"] == "attention")["parameters"]["heads"] = 3
    document["checksum"] = checksum(document, arrays)
    with pytest.raises(LavaError, match=r"Traceback(.|\n)*cannot reshape"):
        run_lava(write(tmp_path / "broken.npz", document, arrays), residual[1], time_limit=60)


def test_the_runner_checks_the_file(residual, tmp_path):
    document, arrays = describe(residual[0])
    document["name"] = "other"
    with pytest.raises(LavaError, match="checksum"):
        run_lava(write(tmp_path / "broken.npz", document, arrays), residual[1], time_limit=60)


@pytest.mark.parametrize("change", [dict(name="../../outside"), dict(kind="keep")])
def test_the_runner_takes_no_paths_and_no_strange_kinds(residual, tmp_path, change):
    """Logs are written under the names of the nodes, and kinds call methods."""
    document, arrays = describe(residual[0])
    document["nodes"][0].update(change)
    document["checksum"] = checksum(document, arrays)
    with pytest.raises(LavaError, match="is no node"):
        run_lava(write(tmp_path / "broken.npz", document, arrays), residual[1], time_limit=60)


@pytest.mark.parametrize("spoil", [lambda x: x + 0.5, lambda x: x - 1, lambda x: x[..., :-1]])
def test_inputs_of_a_file_are_checked(residual, tmp_path, spoil):
    file = residual[0].save(tmp_path / "network.npz")
    with pytest.raises(LavaError, match="expected .*integers"):
        run_lava(file, spoil(residual[1]), time_limit=60)


def test_a_convolution_whose_positive_weights_meet_only_padding(lava):
    """As a matrix it has no positive weight, and Lava's Dense would read -256 as -255."""
    weight = np.full((2, 3, 3, 3), 2)
    weight[:, :, 1, 1] = -256
    network = IntegerNetwork([
        Input("x", (3, 1, 1)), Conv("conv", "x", weight, padding=1), LIF("lif", "conv", 2048, 5, np.array([4000, 3000]), 7),
        Flatten("flat", "lif"), Dense("head", "flat", np.array([[2, -2]])), Readout("readout", "head", np.array([1])),
    ])
    x = np.ones((3, 2, 3, 1, 1), np.int32)
    agreement = compare(run_twin(network, x, record=True), run_lava(network, x, unroll=1))
    assert agreement.exact, str(agreement)


def test_compare_needs_a_record(residual, twofold):
    network, inputs, twin = residual
    with pytest.raises(ShapeError, match="record=True"):
        compare(run_twin(network, inputs), twofold[2])
