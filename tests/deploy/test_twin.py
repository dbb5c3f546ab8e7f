"""The twin: equal to its definition in every integer, and its counts to brute force."""

import numpy as np
import pytest
import torch

from neuro.deploy import kernels
from neuro.deploy.examples import even, events, random_network, transformer
from neuro.deploy.network import Conv, Dense, Flatten, Input, IntegerNetwork, Readout
from neuro.deploy.reference import run_reference, stateless
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError, ParameterError, ShapeError


def assert_same(network, inputs, lengths=None):
    twin = run_twin(network, inputs, lengths, record=True)
    for b, steps in enumerate(twin.steps):
        trace = run_reference(network, inputs[:steps, b])
        np.testing.assert_array_equal(twin.acc[b], trace.acc)
        for node in network.lifs:
            name, count = node.name, twin.counts[node.name]
            np.testing.assert_array_equal(twin.spikes[name][:steps, b], trace.values[name], name)
            np.testing.assert_array_equal(twin.membranes[name][:steps, b], trace.membranes[name], name)
            assert not twin.spikes[name][steps:, b].any()
            assert (count.spikes[b], count.equal[b]) == (trace.values[name].sum(), trace.equal[name])
            assert count.updates[b] == steps * np.prod(network.shapes[name])
        for name, operations in trace.operations.items():
            xs, count = [trace.values[s] for s in network[name].inputs], twin.counts[name]
            assert count.operations[b] == operations, name
            assert count.events[b] == sum(np.count_nonzero(x) for x in xs), name
            assert count.graded[b] == sum((x > 1).sum() for x in xs), name
    return twin


@pytest.mark.parametrize("seed", range(20))
def test_twin_is_the_definition(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    assert_same(network, events(rng, network, 5, 3, 0.3), np.array([5, 1, 3]))


def test_twin_is_the_definition_on_a_transformer():
    rng = np.random.default_rng(0)
    network = transformer(rng, 16, (8, 16), heads=2, blocks=2)
    twin = assert_same(network, events(rng, network, 4, 2))
    assert twin.counts["blocks.1.q.linear"].graded_input and not twin.counts["blocks.0.mlp2.linear"].graded_input
    assert twin.total("operations") == sum(int(c.operations.sum()) for c in twin.counts.values())


def test_a_recording_is_the_same_in_any_company(network):
    rng = np.random.default_rng(0)
    inputs, lengths = events(rng, network, 6, 5, 0.3), np.array([6, 2, 4, 6, 1])
    whole = run_twin(network, inputs, lengths, threads=3)
    for b, steps in enumerate(lengths):
        alone = run_twin(network, inputs[:steps, b:b + 1])
        np.testing.assert_array_equal(alone.logits[0], whole.logits[b])
        assert all((alone.counts[n].operations[0] == c.operations[b]).all() for n, c in whole.counts.items())
    assert (run_twin(network, inputs, lengths, threads=1).acc == whole.acc).all()
    np.testing.assert_array_equal(whole.logits, whole.acc * 0.25 / lengths[:, None])


def test_inputs_are_left_alone(network):
    inputs = events(np.random.default_rng(0), network, 3, 2)
    inputs.setflags(write=False)
    before = inputs.copy()
    first, second = run_twin(network, inputs), run_twin(network, inputs)
    assert (first.acc == second.acc).all() and (inputs == before).all()


@pytest.mark.parametrize("change, said", [
    (lambda x: x[..., :-1], "expected"), (lambda x: x * 1.0, "integers"), (lambda x: x - 1, "reach -1"),
    (lambda x: x + 100, "takes 0"), (lambda x: x[:, :0], "expected"),
])
def test_inputs_that_do_not_fit_are_refused(network, change, said):
    with pytest.raises(ShapeError, match=said):
        run_twin(network, change(events(np.random.default_rng(0), network, 3, 2)))


@pytest.mark.parametrize("lengths", [[1], [0, 1], [4, 1], [1.0, 1.0]])
def test_lengths_that_do_not_fit_are_refused(network, lengths):
    with pytest.raises(ShapeError, match="lengths"):
        run_twin(network, events(np.random.default_rng(0), network, 3, 2), np.array(lengths))


def head(*nodes, shape, size):
    return IntegerNetwork([Input("x", shape, 3), *nodes, Flatten("f", nodes[-1].name if nodes else "x"),
                           Dense("h", "f", even(np.random.default_rng(1), (7, size))), Readout("r", "h", np.arange(7))])


def test_readout_that_could_overflow_is_refused():
    network = IntegerNetwork([Input("x", (1,)), Dense("h", "x", np.array([[2]])), Readout("r", "h", np.array([2**30]))])
    run_twin(network, np.ones((1, 1, 1), int))
    with pytest.raises(GraphError, match="'r'"):
        run_twin(network, np.ones((2, 1, 1), int))


@pytest.mark.parametrize(("groups", "stride", "dilation"), [(1, (2, 1), (2, 1)), (2, (2, 1), (2, 1)), (1, (1, 1), (1, 1)), (2, (1, 1), (1, 1))])
def test_convolution_is_that_of_torch(groups, stride, dilation):
    rng = np.random.default_rng(groups)
    shape = dict(stride=stride, padding=(1, 2), dilation=dilation, groups=groups)
    weight, x = even(rng, (6, 4 // groups, 3, 2)), rng.integers(0, 8, (5, 2, 4, 9, 7))
    expected = torch.nn.functional.conv2d(torch.tensor(x.reshape(10, 4, 9, 7)).double(), torch.tensor(weight).double(), **shape)
    network = head(Conv("c", "x", weight, **shape), shape=(4, 9, 7), size=expected[0].numel())
    assert network.shapes["c"] == tuple(expected.shape[1:])
    found, _ = stateless(network["c"], network.shapes["c"], [x[0, 0].astype(np.int64)])
    np.testing.assert_array_equal(found, expected[0].numpy())
    flat = expected.flatten(1).double() @ torch.tensor(network["h"].weight).double().T      # as torch flattens a map
    np.testing.assert_array_equal(run_twin(network, x).acc, flat.reshape(5, 2, 7).sum(0).numpy() + 5 * np.arange(7))


@pytest.mark.parametrize("seed", range(12))
def test_convolution_by_rows_is_that_by_taps(seed):
    rng = np.random.default_rng(seed)
    C, D, kh, kw, H, W = (int(rng.integers(1, most)) for most in (5, 6, 5, 5, 9, 9))
    padding = (int(rng.integers(kh)), int(rng.integers(kw)))
    x = rng.integers(-2, 3, (3, H + kh, W + kw, C)).astype(np.int32)
    weight = rng.integers(-99, 99, (C, kh, kw, D)).astype(np.int16)
    taps = np.zeros((3, H + 2 * padding[0] + 1, W + 2 * padding[1] + 1, D), np.int32)
    rows = taps.copy()
    counts = kernels.conv(x, weight, taps, (1, 1), padding, (1, 1), 1)
    assert kernels.conv_by_rows(x, np.ascontiguousarray(weight[:, :, ::-1]), rows, padding) == counts
    np.testing.assert_array_equal(rows, taps)


def test_flattened_map_meets_the_weights_of_torch():
    x = np.random.default_rng(0).integers(0, 8, (1, 4, 3, 5, 2))
    network = head(shape=(3, 5, 2), size=30)
    expected = torch.tensor(x[0]).flatten(1) @ torch.tensor(network["h"].weight, dtype=torch.int64).T
    np.testing.assert_array_equal(run_twin(network, x).acc, expected.numpy() + np.arange(7))


@pytest.mark.parametrize("threads", [0, -3])
def test_no_threads_are_refused(threads):
    network = random_network(np.random.default_rng(0))
    with pytest.raises(ParameterError, match=rf"threads={threads} is not a number"):
        run_twin(network, np.zeros((2, 1, *network.input.shape), np.int32), threads=threads)
