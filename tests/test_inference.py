"""A compiled network answers as the folded graph does: the same spikes, in one call or in chunks, alone or in a batch."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import neuro
from neuro import layers, neurons
from neuro.errors import GraphError, ParameterError, ShapeError, StateError
from neuro.inference import Compiled, compile_inference
from neuro.models import small
from neuro.reset import ToValue, none, subtract, to_zero
from neuro.surrogate import ATan

NEURONS = {
    "LIF": lambda **how: neurons.LIF(decay=0.5, **how),
    "IF": lambda **how: neurons.IF(**how),
    "CUBALIF": lambda **how: neurons.CUBALIF(decay=0.5, current_decay=0.5, **how),
    "ALIF": lambda **how: neurons.ALIF(decay=0.5, adapt_decay=0.5, adapt_step=0.25, **how),
}


def exact(model, seed=0):
    """The model with weights that are multiples of 2^-8 and norms that are identities, so that sums have no rounding."""
    dice = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, layers.BatchNorm):
            module.eps = 0.0
        elif isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv1d)):
            for p in module.parameters(recurse=False):
                p.data = torch.randint(-128, 193, p.shape, generator=dice) / 256
        elif isinstance(module, neurons.Recurrent):
            module.weight.data = torch.randint(-64, 65, module.weight.shape, generator=dice) / 256
    return model.eval()


def spikes(*shape, density=0.3, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < density).float()


def conv_net(make=NEURONS["LIF"], **how):
    return layers.Sequential(
        layers.Conv2d(2, 8, 3, padding=1, bias=False), layers.BatchNorm(8), make(**how), layers.MaxPool2d(2),
        layers.Conv2d(8, 12, 3, stride=2, padding=1), make(**how), layers.Flatten(), layers.Linear(12 * 3 * 2, 10), make(**how),
    )  # fmt: skip


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Conv2d(3, 3, 3, padding=1), layers.Conv2d(3, 3, 1)
        self.lif, self.lif_b, self.head = NEURONS["LIF"](), NEURONS["LIF"](), layers.Linear(3 * 5 * 7, 4)
        self.flatten, self.mean = layers.Flatten(), layers.MeanOverTime()

    def forward(self, x):
        x = self.lif(self.a(x))
        x = x + self.lif_b(self.b(x))
        return self.mean(self.head(self.flatten(x + self.lif(self.a(x)))))  # two modules are called twice


def assert_same(fast, model, x, **how):
    """Equal to the model and to the folded graph, whole, in chunks and one step at a time."""
    y, state = neuro.run(fast, x, **how)
    with torch.no_grad():
        expected, after = neuro.run(model, x, **how)
    assert expected.abs().sum() > 0, "a silent network shows nothing"
    assert torch.equal(y, expected) and torch.equal(fast.graph.run(x, how.get("lengths")), expected)
    found = fast.state_to(state)
    assert set(found) == set(after) and all(torch.equal(found[k], after[k]) for k in after)
    assert torch.equal(fast.state_from(after)["#0"], state["#0"])
    if not how:
        assert_chunks(fast, x, y, state)


def assert_chunks(fast, x, y, state):
    for cuts in ([1] * x.shape[0], [2, x.shape[0] - 2]):
        parts, now = [], None
        for part in x.split(cuts):
            given = None if now is None else {k: v.clone() for k, v in now.items()}
            out, after = neuro.run(fast, part, now)
            assert now is None or all(torch.equal(now[k], given[k]) for k in now), "a state given is left alone"
            parts.append(out)
            now = after
        whole = torch.cat(parts) if y.dim() == x.dim() or fast.graph.output.timed else parts[-1]
        assert torch.equal(whole, y) and all(torch.equal(now[k], state[k]) for k in state)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("reset", [to_zero, subtract, none, ToValue(-0.5)], ids=str)
@pytest.mark.parametrize("name", NEURONS)
def test_conv_net_with_every_neuron_and_reset(name, reset, batch):
    model = exact(conv_net(NEURONS[name], reset=reset, spike=ATan(strict=name == "IF")))
    x = spikes(5, batch, 2, 12, 8)
    fast = compile_inference(model, x)
    assert not fast.left_to_torch
    assert_same(fast, model, x)


@pytest.mark.parametrize("reset", [to_zero, subtract], ids=str)
def test_delayed_reset(reset):
    model = exact(conv_net(reset=type(reset)(delayed=True)))
    assert_same(compile_inference(model, spikes(2, 1, 2, 12, 8)), model, spikes(5, 2, 2, 12, 8))


@pytest.mark.parametrize("shape", [(), (4,), (3, 4)])
def test_plif_with_a_time_constant_per_layer_feature_or_neuron(shape):
    model = exact(layers.Sequential(layers.Linear(6, 4), neurons.PLIF(shape=shape), layers.Linear(4, 2), neurons.LIF(decay=0.5)))
    with torch.no_grad():
        model[1].w.fill_(0.0)  # tau 2
        if shape:
            model[1].w.view(-1)[0] = 40.0  # sigmoid is exactly 1
    x = spikes(5, 2, *((3, 6) if len(shape) == 2 else (6,)), density=0.6)
    assert_same(compile_inference(model, x), model, x)


def test_plif_per_channel_of_a_map():
    model = exact(layers.Sequential(layers.Conv2d(2, 3, 3), neurons.PLIF(shape=(3, 1, 1)), layers.Flatten(), layers.Linear(12, 3), neurons.IF()))
    with torch.no_grad():
        model[1].w[1] = 40.0
    assert_same(compile_inference(model, spikes(3, 1, 2, 4, 4)), model, spikes(6, 3, 2, 4, 4, density=0.6))


@given(
    channels=st.sampled_from([(1, 1, 1), (2, 8, 1), (3, 21, 1), (4, 6, 2), (6, 6, 6), (4, 40, 4), (5, 137, 1)]), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)), padding=st.tuples(st.integers(0, 2), st.integers(0, 2)), dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    size=st.tuples(st.integers(5, 8), st.integers(5, 9)), density=st.sampled_from([0.0, 0.03, 0.3, 1.0]), plain=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_convolutions_of_every_kind(channels, kernel, stride, padding, dilation, size, density, plain, seed):
    inputs, outputs, groups = channels
    if plain:
        stride = dilation = (1, 1)
    conv = layers.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups)
    model = exact(layers.Sequential(conv, neurons.IF()), seed)
    x = spikes(3, 2, inputs, *size, density=density, seed=seed) * (1 + seed % 3)  # also graded spikes
    fast = compile_inference(model, x)
    assert not fast.left_to_torch and torch.equal(fast(x), model(x))
    bare = compile_inference(model[:1], x)
    assert torch.equal(bare(x), model[:1](x))


@given(
    sizes=st.tuples(st.integers(1, 90), st.integers(1, 170)), rows=st.sampled_from([(), (3,), (41,)]), steps=st.integers(1, 5),
    density=st.sampled_from([0.0, 0.05, 0.4, 1.0]), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_dense_layers_at_every_density(sizes, rows, steps, density, seed):
    model = exact(layers.Sequential(layers.Linear(*sizes)), seed)
    x = spikes(steps, 2, *rows, sizes[0], density=density, seed=seed) * (1 + seed % 3)
    assert torch.equal(compile_inference(model, x)(x), model(x))


def test_the_order_of_sums_does_not_depend_on_density():
    torch.manual_seed(0)
    fast = compile_inference(layers.Sequential(layers.Linear(64, 96)), torch.zeros(1, 1, 64))
    sparse = spikes(8, 1, 64, density=0.1)
    sparse[1] = 1
    together = sparse.clone()
    together[2:] = 1  # now most inputs are active, and the block is taken densely
    assert torch.equal(fast(sparse)[:2], fast(together)[:2])


@given(
    pool=st.sampled_from([layers.MaxPool2d, layers.AvgPool2d]), channels=st.sampled_from([1, 8, 11]), kernel=st.integers(1, 4), stride=st.integers(1, 3),
    padding=st.integers(0, 2), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_pooling(pool, channels, kernel, stride, padding, seed):
    layer = pool(kernel, stride, min(padding, kernel // 2))
    x = torch.randint(-8, 9, (3, 2, channels, 6, 7), generator=torch.Generator().manual_seed(seed)).float()
    fast = compile_inference(layers.Sequential(layer), x)
    assert not fast.left_to_torch and torch.allclose(fast(x), layer(x), rtol=1e-6, atol=0)
    if pool is layers.MaxPool2d:
        x[1, 0, 0, 2, 3] = torch.nan
        assert torch.equal(fast(x).isnan(), layer(x).isnan())


def test_residual_sums_modules_called_twice_and_the_mean_over_time():
    model = exact(Residual())
    x = spikes(6, 2, 3, 5, 7)
    fast = compile_inference(model, x[:1, :1])
    assert_same(fast, model, x)
    assert "lif#1" in fast.state_to(neuro.run(fast, x)[1])


def test_lengths():
    model, x = exact(Residual()), spikes(6, 3, 3, 5, 7)
    fast = compile_inference(model, x)
    assert_same(fast, model, x, lengths=torch.tensor([6, 1, 3]))
    spiking = exact(conv_net())
    assert_same(compile_inference(spiking, spikes(2, 1, 2, 12, 8)), spiking, spikes(6, 3, 2, 12, 8), lengths=torch.tensor([6, 1, 3]))
    y, state = neuro.run(fast, x[:4], lengths=torch.tensor([4, 1, 3]))
    y, _ = neuro.run(fast, x[4:], state, lengths=torch.tensor([2, 0, 0]))
    assert torch.equal(y, neuro.run(fast, x, lengths=torch.tensor([6, 1, 3]))[0])


def test_recurrent():
    for bias in (False, True):
        model = exact(layers.Sequential(layers.Linear(5, 9), neurons.Recurrent(NEURONS["CUBALIF"](), 9, bias=bias), layers.Linear(9, 3), NEURONS["LIF"]()))
        x = spikes(7, 2, 5, density=0.7)
        fast = compile_inference(model, x)
        assert not fast.left_to_torch
        assert_same(fast, model, x)
        assert torch.equal(neuro.run(fast, x, lengths=torch.tensor([7, 2]))[0], neuro.run(model, x, lengths=torch.tensor([7, 2]))[0])


def test_convolution_over_one_axis_and_a_flattened_map():
    model = exact(layers.Sequential(layers.Fold(nn.Conv1d(3, 5, 3, 2, 1)), neurons.IF(), layers.Flatten(), neurons.IF(), layers.Linear(20, 4), neurons.IF()))
    x = spikes(4, 3, 3, 8, density=0.6)
    fast = compile_inference(model, x)
    assert not fast.left_to_torch
    assert_same(fast, model, x)


@pytest.mark.parametrize("output", range(1, 7))
def test_every_layer_may_be_the_last(output):
    model = exact(layers.Sequential(layers.Conv2d(2, 8, 3, padding=1), neurons.IF(), layers.AvgPool2d(2), layers.Conv2d(8, 16, 3), neurons.IF(), layers.Flatten()))[:output]
    x = spikes(3, 2, 2, 8, 10)
    assert torch.equal(compile_inference(model, x)(x), model(x))


@pytest.mark.parametrize("name", ["spikformer_nmnist", "spikformer_motions", "spikformer_v2_8_384"])
def test_spikformer(name):
    changes = {"tau": 2.0, "depth": 2}
    model = exact(small(name, **changes))
    side = model.config.image
    x = spikes(4, 2, model.config.channels, side, side)
    fast = compile_inference(model, x[:1, :1])
    assert not fast.left_to_torch
    assert_same(fast, model, x)


def test_random_weights_part_from_the_float_model_only_at_the_threshold():
    torch.manual_seed(3)
    model = small("spikformer_nmnist").eval()
    for module in model.modules():
        if isinstance(module, layers.BatchNorm):
            module.weight.data.uniform_(1, 3)
            module.bias.data.uniform_(-0.2, 0.8)
    x = spikes(6, 2, 2, 32, 32)
    fast = compile_inference(model, x)
    expected, found = fast.graph.values(x), fast.values(x)
    for node in fast.graph.nodes:
        if node.kind == "Neuron" and not torch.equal(found[node.name], expected[node.name]):
            v = node.membrane(expected[node.inputs[0]])
            differs = found[node.name] != expected[node.name]
            first = differs & (differs.cumsum(0) == 1)
            assert (v[first] - node.params.threshold).abs().max() < 1e-4
            return  # beyond this layer the inputs differ
        assert torch.allclose(found[node.name], expected[node.name], rtol=1e-4, atol=1e-5), node.name


def test_every_value_inside_equals_the_graph():
    model, x = exact(small("spikformer_motions")), spikes(3, 2, 2, 16, 16)
    fast = compile_inference(model, x)
    expected, found = fast.graph.values(x), fast.values(x)
    assert set(found) == set(expected) and all(torch.equal(found[n], expected[n]) for n in expected)


@pytest.mark.parametrize("left", [{"2"}, {"4", "5"}, {"1"}, {"0", "7"}])
def test_nodes_left_to_torch(left):
    model = exact(conv_net())
    names = [n.name for n in neuro.trace(model, spikes(1, 1, 2, 12, 8))]
    left = frozenset(left & set(names))
    made = compile_inference(model, spikes(1, 1, 2, 12, 8))
    fast = Compiled(made.graph, made.keys, left & {n.name for n in made.graph})
    assert set(fast.left_to_torch) == left & {n.name for n in made.graph}
    assert all(name in repr(fast) for name in fast.left_to_torch)
    assert_same(fast, model, spikes(5, 2, 2, 12, 8))
    assert neuro.run(fast, spikes(5, 2, 2, 12, 8), lengths=torch.tensor([5, 2]))[0].equal(neuro.run(model, spikes(5, 2, 2, 12, 8), lengths=torch.tensor([5, 2]))[0])


@pytest.mark.parametrize("left", ["mean", "lif_2", "head"])
def test_a_readout_or_a_second_call_left_to_torch(left):
    model = exact(Residual())
    made = compile_inference(model, spikes(1, 1, 3, 5, 7))
    fast = Compiled(made.graph, made.keys, frozenset({left}))
    assert set(fast.left_to_torch) == {left}
    assert_same(fast, model, spikes(6, 2, 3, 5, 7))
    assert_same(fast, model, spikes(6, 2, 3, 5, 7), lengths=torch.tensor([6, 2]))


def test_a_recurrent_layer_left_to_torch():
    model = exact(layers.Sequential(layers.Linear(5, 9), neurons.Recurrent(NEURONS["ALIF"](), 9), layers.Linear(9, 3), NEURONS["LIF"](), layers.SumOverTime()))
    made = compile_inference(model, spikes(1, 1, 5))
    assert_same(Compiled(made.graph, made.keys, frozenset({"1"})), model, spikes(7, 2, 5, density=0.7))
    assert_same(made, model, spikes(7, 2, 5, density=0.7))


class Odd(neurons.LIF):
    """A neuron whose step no kernel covers: it sorts."""

    @staticmethod
    def step(x, state, p, *, spike, reset):
        v = p.decay * state.v + p.gain * x.sort(-1).values
        s = spike(v - p.threshold)
        return s, type(state)(reset(v, s, p.threshold))


def test_a_neuron_without_a_kernel_is_left_to_torch_and_named():
    model = exact(layers.Sequential(layers.Linear(4, 6), Odd(decay=0.5), layers.Linear(6, 3), NEURONS["LIF"]()))
    x = spikes(5, 2, 4, density=0.7)
    with pytest.warns(RuntimeWarning, match="plain torch loop"):
        fast = compile_inference(model, x)
    assert fast.left_to_torch == {"1": "its step has no kernel"} and "left to torch: 1 (Neuron)" in repr(fast)
    assert_same(fast, model, x)


def test_many_steps_are_taken_in_pieces_that_fit_the_buffers(monkeypatch):
    model, x = exact(Residual()), spikes(9, 2, 3, 5, 7)
    fast = compile_inference(model, x)
    whole = neuro.run(fast, x, lengths=torch.tensor([9, 5]))
    monkeypatch.setattr("neuro.inference._ROOM", 2 * max(p.room for p in fast.lowered.steps))
    again = neuro.run(fast, x, lengths=torch.tensor([9, 5]))
    assert torch.equal(whole[0], again[0]) and torch.equal(whole[1]["#0"], again[1]["#0"])


def test_threads_do_not_change_the_result(monkeypatch):
    model, x = exact(conv_net()), spikes(4, 7, 2, 12, 8)
    fast = compile_inference(model, x)
    alone = fast(x)
    monkeypatch.setattr("neuro.inference._SECONDS", 1.0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(fast(x), alone)
    finally:
        torch.set_num_threads(before)


def test_several_threads_may_call_it_at_once():
    model = exact(conv_net())
    fast = compile_inference(model, spikes(1, 1, 2, 12, 8))
    inputs = [spikes(3 + k % 2, 1 + k % 3, 2, 12, 8, seed=k) for k in range(12)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda x: neuro.run(fast, x)[0], inputs * 3))
    assert all(torch.equal(y, model(x)) for y, x in zip(found, inputs * 3, strict=True))


def test_what_it_was_made_from_is_left_alone_and_it_is_a_value_of_its_own():
    model = exact(conv_net()).train()
    before = copy.deepcopy(model.state_dict())
    x = spikes(4, 2, 2, 12, 8)
    fast = compile_inference(model, x)
    assert model.training and not fast.training
    y = fast(x)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with torch.no_grad():
        model[0].weight.zero_()
    for twin in (fast, copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(twin(x), y)
    assert list(fast.parameters()) == [] and not y.requires_grad


def test_inside_another_module_its_state_is_named_by_its_path():
    inner = compile_inference(exact(conv_net()), spikes(1, 1, 2, 12, 8))
    outer = nn.Sequential(inner)
    x = spikes(4, 2, 2, 12, 8)
    _, state = neuro.run(outer, x)
    assert set(state) == {"0#0"} and torch.equal(neuro.run(outer, x, state)[0], neuro.run(inner, x, {"#0": state["0#0"]})[0])


def test_operators_are_seen_by_who_watches_them():
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    seen = []
    model, x = exact(conv_net()), spikes(3, 2, 2, 12, 8)
    fast = compile_inference(model, x)
    with Watch():
        y = fast(x)
    assert torch.equal(y, fast(x)) and sum("convolution" in name for name in seen) == 2


def test_whole_numbers_and_half_precision_enter_as_float32():
    model, x = exact(conv_net()), spikes(3, 2, 2, 12, 8)
    fast = compile_inference(model, x)
    for dtype in (torch.uint8, torch.bool, torch.float16, torch.int64):
        assert torch.equal(fast(x.to(dtype)), fast(x))
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert not strided.is_contiguous() and torch.equal(fast(strided), fast(x))


@pytest.mark.parametrize("model", [conv_net(), layers.Sequential(layers.Linear(5, 4), neurons.LIF(tau=3.0), layers.MeanOverTime())], ids=["conv", "dense"])
def test_torchs_defaults_are_nothing_to_it(model, recwarn):
    x = spikes(3, 2, 2, 12, 8) if isinstance(model[0], layers.Conv2d) else spikes(3, 2, 5)
    y, state = neuro.run(exact(model), x)
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        fast = compile_inference(model, x)
        found, after = neuro.run(fast, x)
        again, _ = neuro.run(fast, x, fast.state_from(state))
        fast.values(x)
        fast.latency(x[:1, :1])
    finally:
        torch.set_default_dtype(dtype)
    assert not fast.left_to_torch and not [w for w in recwarn if "plain torch loop" in str(w.message)]
    assert found.dtype == torch.float32 and torch.equal(found, y)
    assert torch.equal(again, neuro.run(model, x, state)[0]) and all(torch.equal(v, state[k]) for k, v in fast.state_to(after).items())


def test_errors():
    model, x = exact(conv_net()), spikes(3, 2, 2, 12, 8)
    fast = compile_inference(model, x)
    with pytest.raises(GraphError, match="'1' is a ReLU"):
        compile_inference(layers.Sequential(layers.Linear(3, 2), nn.ReLU()), torch.zeros(2, 1, 3))
    with pytest.raises(ParameterError, match="float64"):
        compile_inference(layers.Sequential(layers.Linear(3, 2)).double(), torch.zeros(2, 1, 3, dtype=torch.float64))
    for wrong in (torch.inf, torch.nan):
        broken = layers.Sequential(layers.Linear(3, 2))
        broken[0].weight.data[0, 0] = wrong
        with pytest.raises(ParameterError, match="'0.weight' holds infinite numbers or NaN"):
            compile_inference(broken, torch.zeros(2, 1, 3))
    with pytest.raises(ShapeError, match="compiled for"):
        fast(x[..., :7])
    with pytest.raises(ShapeError, match="float64"):
        fast(x.double())
    with pytest.raises(ParameterError, match="gradient"):
        fast(x.clone().requires_grad_())
    with pytest.raises(StateError, match="batch size changed"):
        neuro.run(fast, x[:, :1], neuro.run(fast, x)[1])
    with pytest.raises(StateError, match="not a state of the compiled model"):
        fast.state_from({"0#0": x})


def test_the_table_is_written_as_it_is_read():
    from neuro import tables
    from neuro.kernels import table as loops
    from neuro.kernels.active_loops import LISTED

    columns = "KIND OUT IN IN_2 IN_3 SIZE STRIDE WEIGHT BIAS STATE".split()
    assert [getattr(loops, n) for n in columns] == list(range(len(tables._FIELDS)))
    assert loops.FIRST == len(columns) and loops.COLUMNS >= loops.FIRST + 16 and LISTED == tables.LISTED


def test_latency_is_measured_and_printed():
    fast = compile_inference(exact(conv_net()), spikes(1, 1, 2, 12, 8))
    found = fast.latency(spikes(2, 1, 2, 12, 8))
    assert found.step > 0 and all(row.microseconds > 0 for row in found.rows)
    assert {row.name for row in found.rows} == {n.name for n in fast.graph if n.kind != "Flatten"}
    assert f"T=2, B=1: {found.step:.1f} us per step" in str(found)
    part = Compiled(fast.graph, fast.keys, frozenset({"2"})).latency(spikes(1, 1, 2, 12, 8))
    assert "Neuron (torch)" in str(part) and np.isfinite(part.operations)
