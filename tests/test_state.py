"""State is a value: what `run`, `detach` and `checkpoint` promise. Outputs, keys and gradients each time."""

import copy
import gc
import threading
import weakref

import pytest
import torch
import torch.distributed as dist
from torch import nn

import neuro
from neuro.errors import NeuroError, ShapeError, StateError
from neuro.layers import BatchNorm, Conv2d, Flatten, LastStep, Linear, MaxPool2d, MeanOverTime, Sequential, SumOverTime
from neuro.neurons import ALIF, CUBALIF, LIF, PLIF, Recurrent


class Net(nn.Module):
    """Two neurons of several kinds, one of them used twice, and a readout."""

    def __init__(self):
        super().__init__()
        self.up = Linear(6, 8)
        self.lif = LIF(decay=0.5)
        self.mix = Linear(8, 8)
        self.cuba = CUBALIF(current_decay=0.5, decay=0.5)
        self.down = Linear(8, 4)
        self.readout = MeanOverTime()

    def forward(self, x):
        s = self.lif(self.up(x))
        s = s + self.lif(self.mix(s))
        return self.readout(self.down(self.cuba(s)))


KEYS = {"lif#0", "lif#1", "cuba#0.u", "cuba#0.v", "readout#0.sum", "readout#0.count"}


@pytest.fixture
def net(make_exact):
    return make_exact(Net())


@pytest.fixture
def x():
    return torch.randint(0, 2, (8, 4, 6)).float()


def gradients(output, *sources):
    return torch.autograd.grad(output.square().sum(), sources)


def assert_same(a, b, exactly=True):
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, **({"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-5, "atol": 1e-6}))


# ---- the value


def test_a_plain_call_remembers_nothing(net, x):
    first = net(x)
    assert torch.equal(net(x), first)
    _, state = neuro.run(net, x)
    assert torch.equal(net(x), first) and torch.equal(neuro.run(net, x)[0], first)
    assert_same(gradients(net(x), *net.parameters()), gradients(neuro.run(net, x)[0], *net.parameters()))
    assert first.abs().sum() > 0 and state["lif#0"].abs().sum() > 0


def test_keys_name_path_call_and_field(net, x):
    _, state = neuro.run(net, x)
    assert set(state) == KEYS and {value.shape[0] for value in state.values()} == {4}
    assert set(neuro.run(LIF(), x)[1]) == {"#0"} and set(neuro.run(ALIF(), x)[1]) == {"#0.v", "#0.a"}


def test_a_module_used_twice_has_two_states(x):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = LIF(decay=0.5)

        def forward(self, x):
            return self.lif(x), self.lif(0.5 * x)

    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = LIF(decay=0.5), LIF(decay=0.5)

        def forward(self, x):
            return self.a(x), self.b(0.5 * x)

    (a, b), twice = neuro.run(Twice(), x)
    (c, d), apart = neuro.run(Apart(), x)
    assert_same((a, b), (c, d))
    assert_same(twice.values(), apart.values())
    assert list(twice) == ["lif#0", "lif#1"] and list(apart) == ["a#0", "b#0"]


@pytest.mark.parametrize("cut", [1, 5])
def test_chunks_equal_one_run(net, x, cut):
    whole, end = neuro.run(net, x)
    _, state = neuro.run(net, x[:cut])
    last, after = neuro.run(net, x[cut:], state)
    assert torch.equal(last, whole)
    assert_same([after[k] for k in KEYS], [end[k] for k in KEYS])
    assert_same(gradients(last, *net.parameters()), gradients(whole, *net.parameters()), exactly=False)


def test_step_by_step_equals_one_run(net, x):
    state = None
    for x_t in x:
        y, state = neuro.run(net, x_t[None], state)
    assert torch.equal(y, net(x))


def test_detach_cuts_the_history(net, x):
    first = x[:4].clone().requires_grad_()
    _, state = neuro.run(net, first)
    y, _ = neuro.run(net, x[4:], state)
    assert torch.autograd.grad(y.sum(), first)[0].abs().sum() > 0
    cut = neuro.detach(state)
    z, _ = neuro.run(net, x[4:], cut)
    assert torch.equal(y, z) and not any(value.requires_grad for value in cut.values())
    assert torch.autograd.grad(z.sum(), first, allow_unused=True)[0] is None


def test_a_state_is_saved_moved_and_sliced(net, x, tmp_path):
    _, state = neuro.run(net, x[:4])
    torch.save(state, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    whole = net(x)
    assert torch.equal(neuro.run(net, x[4:], loaded)[0], whole)
    some = {key: value[1:3] for key, value in state.items()}
    assert torch.equal(neuro.run(net, x[4:, 1:3], some)[0], whole[1:3])
    swapped = {key: value.flip(0) for key, value in state.items()}
    assert torch.equal(neuro.run(net, x[4:].flip(1), swapped)[0], whole.flip(0))


def test_the_given_state_is_left_alone(net, x):
    _, state = neuro.run(net, x[:4])
    before = {key: value.clone() for key, value in state.items()}
    neuro.run(net, x[4:], state)
    assert_same(state.values(), before.values())


# ---- nesting, exceptions, threads


def test_run_inside_run_is_independent(net, x):
    class Outer(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.lif = LIF(decay=0.5)
            self.inner = [inner]  # not a submodule

        def forward(self, x):
            s = self.lif(x)
            y, state = neuro.run(self.inner[0], s[:3])
            y, _ = neuro.run(self.inner[0], s[3:], state)
            return y, self.lif(s)

    outer = Outer(net)
    (y, s), state = neuro.run(outer, x)
    assert set(state) == {"lif#0", "lif#1"}
    spikes = LIF(decay=0.5)(x)
    assert torch.equal(y, net(spikes)) and torch.equal(s, LIF(decay=0.5)(spikes))
    assert_same(gradients(y, *net.parameters()), gradients(net(spikes), *net.parameters()), exactly=False)


def test_after_an_exception_the_next_call_is_fresh(net, x):
    expected = net(x)
    hook = net.down.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        neuro.run(net, x, neuro.run(Net().eval(), x)[1])
    hook.remove()
    assert torch.equal(net(x), expected) and neuro.state.lengths() is None
    assert torch.equal(neuro.run(net, x)[0], expected)


def test_an_exception_inside_a_nested_run_leaves_the_outer_one(x):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = LIF(decay=0.5)

        def forward(self, x):
            with pytest.raises(NeuroError):
                neuro.run(LIF(), x[0])
            return self.lif(x)

    assert set(neuro.run(Outer(), x)[1]) == {"lif#0"}


def test_two_threads_at_once(net, x):
    expected = {flip: neuro.run(net, x.flip(1) if flip else x) for flip in (False, True)}
    inside, right = threading.Barrier(2, timeout=20), []
    hook = net.mix.register_forward_pre_hook(lambda *_: (inside.wait(), None)[1])  # both are inside run now

    def work(flip):
        for _ in range(10):
            y, state = neuro.run(net, x.flip(1) if flip else x)
            right.append(torch.equal(y, expected[flip][0]) and all(torch.equal(state[k], v) for k, v in expected[flip][1].items()))

    threads = [threading.Thread(target=work, args=(flip,)) for flip in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    hook.remove()
    assert len(right) == 20 and all(right)


# ---- torch.compile


@pytest.mark.parametrize("make", [Net, lambda: Sequential(Linear(6, 8), PLIF(), Recurrent(ALIF(), 8), LastStep())], ids=["net", "recurrent"])
def test_compile_in_one_graph(make, x, make_exact):
    model = make_exact(make())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected, end = neuro.run(model, x[:4])
    y, state = neuro.run(compiled, x[:4])
    assert list(state) == list(end)
    assert_same([y, *state.values()], [expected, *end.values()])
    assert torch.equal(compiled(x), model(x))
    expected, y = neuro.run(model, x[4:], neuro.detach(end))[0], neuro.run(compiled, x[4:], neuro.detach(state))[0]
    assert torch.equal(y, expected)
    assert_same(gradients(y, *model.parameters()), gradients(expected, *model.parameters()), exactly=False)


def test_compile_of_a_part(net, x):
    whole = copy.deepcopy(net)
    net.cuba = torch.compile(net.cuba, fullgraph=True, backend="aot_eager")
    y, state = neuro.run(net, x)
    assert set(state) == KEYS and torch.equal(y, whole(x))


def test_compile_with_inductor(x):
    model = Sequential(Linear(6, 4), LIF(decay=0.5))
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        expected, end = neuro.run(model, x[:2])
        try:
            y, state = neuro.run(compiled, x[:2])
        except torch._inductor.exc.InductorError as error:
            pytest.skip(f"no working compiler for inductor: {str(error)[:80]}")
    assert torch.equal(y, expected) and list(state) == list(end)
    torch.testing.assert_close(state["1#0"], end["1#0"])


# ---- data parallel


def test_ddp_wrapper_leaves_paths_alone(net, x, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(net)
        y, state = neuro.run(wrapped, x[:4])
        y, _ = neuro.run(wrapped, x[4:], state)
    finally:
        dist.destroy_process_group()
    assert set(state) == KEYS and torch.equal(y, net(x))


ONE_OF_TWO = """
import gc, sys, torch, neuro
from neuro.layers import Linear, MeanOverTime, Sequential
from neuro.neurons import LIF

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt", weights_only=True)
model = Sequential(Linear(6, 8), LIF(decay=0.5), Linear(8, 4), MeanOverTime())
if rank == 0:
    model.load_state_dict(given["weights"])
wrapped = torch.nn.parallel.DistributedDataParallel(model)
x = given["x"][:, 2 * rank : 2 * rank + 2]
_, state = neuro.run(wrapped, x[:3])
y, state = neuro.run(wrapped, x[3:], neuro.detach(state))
y.square().mean().backward()
grads = {name: p.grad for name, p in model.named_parameters()}
torch.save({"y": y.detach(), "state": neuro.detach(state), "grads": grads}, f"{folder}/{rank}.pt")
torch.distributed.barrier()  # neither leaves while the other still needs it
del wrapped  # it holds the process group, whose threads must have ended before the process does,
gc.collect()  # and is held by itself
torch.distributed.destroy_process_group()
"""


def test_ddp_of_two_processes_equals_one(x, tmp_path, make_exact, run_processes):
    model = make_exact(Sequential(Linear(6, 8), LIF(decay=0.5), Linear(8, 4), MeanOverTime()))
    torch.save({"weights": model.state_dict(), "x": x}, tmp_path / "given.pt")
    run_processes(ONE_OF_TWO, 2, tmp_path)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    _, state = neuro.run(model, x[:3])
    y, state = neuro.run(model, x[3:], neuro.detach(state))
    y.square().mean().backward()
    assert torch.equal(torch.cat([part["y"] for part in parts]), y)
    for key, value in state.items():
        assert torch.equal(torch.cat([part["state"][key] for part in parts]), value)
    for name, p in model.named_parameters():
        for part in parts:
            torch.testing.assert_close(part["grads"][name], p.grad, rtol=1e-5, atol=1e-6)


# ---- checkpoint


class Checkpointed(nn.Module):
    """A middle part, with a neuron used before, twice inside and after it, that is recomputed as `how` says."""

    def __init__(self, how):
        super().__init__()
        self.how, self.norm, self.lif, self.mix, self.last = how, BatchNorm(6, axis=-1), LIF(decay=0.5), Linear(6, 6), MeanOverTime()

    def middle(self, x):
        return self.lif(self.norm(self.mix(self.lif(x))))

    def forward(self, x):
        return self.last(self.lif(self.how(self.middle, self.lif(x)) * 1.5))


def plain(f, *args):
    return f(*args)


def twice(f, *args):
    return neuro.checkpoint(lambda *xs: neuro.checkpoint(f, *xs), *args)


@pytest.mark.parametrize("how", [neuro.checkpoint, twice])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("lengths", [None, [4, 2, 1, 3]])
def test_checkpoint_equals_the_plain_call(how, given, lengths, x):
    answers = []
    for f in (plain, how):
        torch.manual_seed(3)
        model, now = Checkpointed(f), (x[4:] * 1.5).requires_grad_()
        state = neuro.run(model, x[:4] * 0.7)[1] if given else None
        y, after = neuro.run(model, now, state, lengths=None if lengths is None else torch.tensor(lengths))
        assert list(after) == ["lif#0", "lif#1", "lif#2", "lif#3", "last#0.sum", "last#0.count"]
        loss = y.square().sum() + sum(v.sum() for v in after.values())
        grads = torch.autograd.grad(loss, [now, *model.parameters()])
        answers.append([y, *after.values(), *grads, model.norm.running_mean, model.norm.running_var])
    assert_same(*answers)
    assert answers[0][0].abs().sum() > 0


@pytest.mark.parametrize("how", [neuro.checkpoint, twice])
def test_checkpoint_outside_run(how, x):
    answers = []
    for f in (plain, how):
        torch.manual_seed(3)
        model, now = Checkpointed(f), (x * 1.5).requires_grad_()
        y = model(now)
        answers.append([y, *gradients(y, now, *model.parameters()), model.norm.running_mean, model.norm.running_var])
    assert_same(*answers)


def test_checkpoint_leaves_the_frame_of_the_caller(x):
    """Backward inside another forward: the recomputation must not disturb the run that is under way."""
    model = Checkpointed(neuro.checkpoint)
    earlier = neuro.run(model, x)[0].square().sum()

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = LIF(decay=0.5)

        def forward(self, x):
            y = self.lif(x)
            earlier.backward()
            return y + self.lif(x)

    y, state = neuro.run(Outer(), x)
    assert list(state) == ["lif#0", "lif#1"] and torch.equal(y, 2 * LIF(decay=0.5)(x))
    assert not neuro.state.recomputing() and model.mix.weight.grad is not None


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("inside", [False, True])
def test_plain_checkpoint_inside_run_is_refused(use_reentrant, inside, x):
    def plain_checkpoint(f, x):
        return torch.utils.checkpoint.checkpoint(f, x, use_reentrant=use_reentrant)

    how = (lambda f, x: neuro.checkpoint(lambda x: plain_checkpoint(f, x), x)) if inside else plain_checkpoint
    model = Checkpointed(how)
    with pytest.raises(StateError, match=r"torch.utils.checkpoint(.|\n)*neuro.checkpoint"):
        neuro.run(model, x.clone().requires_grad_())
    model(x.clone().requires_grad_()).sum().backward()  # outside it is right


# ---- errors


def test_another_batch_size_says_so(net, x):
    _, state = neuro.run(net, x)
    with pytest.raises(StateError, match=r"state lif#0 \[B=4, N=8\](.|\n)*\[B=2, N=8\](.|\n)*batch size changed(.|\n)*slice"):
        neuro.run(net, x[:, :2], state)


def test_another_size_says_so(x):
    _, state = neuro.run(LIF(), x)
    with pytest.raises(StateError, match="another size"):
        neuro.run(LIF(), x[..., :3], state)
    with pytest.raises(StateError, match="another size"):
        neuro.run(LIF(), x[..., None], state)


def test_another_dtype_or_device_says_so(x):
    _, state = neuro.run(LIF(), x)
    with pytest.raises(StateError, match=r"float64 on cpu(.|\n)*float32 on cpu"):
        neuro.run(LIF(), x, {key: value.double() for key, value in state.items()})
    with pytest.raises(StateError, match="on meta"):
        neuro.run(LIF(), x, {key: value.to("meta") for key, value in state.items()})
    with pytest.raises(StateError, match="is a list, not a tensor"):
        neuro.run(LIF(), x, {"#0": [1.0]})


def test_missing_and_unknown_keys_are_named(net, x):
    _, state = neuro.run(net, x)
    with pytest.raises(StateError, match="no entry 'cuba#0.u'"):
        neuro.run(net, x, {key: value for key, value in state.items() if key != "cuba#0.u"})
    with pytest.raises(StateError, match="unused lif#2"):
        neuro.run(net, x, {**state, "lif#2": state["lif#0"]})
    with pytest.raises(StateError, match="no entry"):
        neuro.run(net, x, {})


def test_a_model_that_looks_ahead_has_no_state_to_continue_from(x):
    class Backwards(nn.Module):
        causal = False

        def __init__(self):
            super().__init__()
            self.lif = LIF()

        def forward(self, x):
            return self.lif(x.flip(0))

    model = Sequential(Backwards(), LIF())
    _, state = neuro.run(model, x)
    with pytest.raises(StateError, match="0 looks ahead"):
        neuro.run(model, x, state)


def test_a_module_made_during_the_forward_is_refused(x):
    class Careless(nn.Module):
        def forward(self, x):
            return LIF()(x)

    with pytest.raises(StateError, match="not part of the model"):
        neuro.run(Careless(), x)


PLAIN = [
    nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4),
    nn.Conv1d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv3d(4, 4, 1), nn.ConvTranspose2d(4, 4, 1), nn.MaxPool1d(2), nn.MaxPool2d(2),
    nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Unflatten(1, (2, 2)), nn.Upsample(2), nn.Dropout2d(),
]  # fmt: skip


@pytest.mark.parametrize("layer", PLAIN, ids=lambda layer: type(layer).__name__)
def test_plain_layers_that_misread_time_are_refused(layer):
    model = nn.Sequential(LIF(), layer)
    with pytest.raises(ShapeError, match=rf"1 is a torch.nn.{type(layer).__name__}(.|\n)*Fold"):
        neuro.run(model, torch.zeros(3, 4, 4))


def test_layers_that_read_the_last_axis_are_not(x):
    neuro.run(nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Dropout(), nn.ReLU(), LIF()), x)


# ---- lengths


@pytest.mark.parametrize("readout", [MeanOverTime, SumOverTime, LastStep])
def test_a_padded_sample_equals_the_sample_alone(readout, make_exact):
    model = make_exact(Sequential(Conv2d(2, 4, 3, padding=1), BatchNorm(4), LIF(decay=0.5), MaxPool2d(2), Flatten(), Linear(16, 5), readout()))
    x, lengths = torch.randint(0, 2, (6, 3, 2, 4, 4)).float(), torch.tensor([6, 2, 4])
    y, state = neuro.run(model, x, lengths=lengths)
    for b, n in enumerate(lengths):
        alone, end = neuro.run(model, x[:n, b : b + 1])
        assert torch.equal(y[b : b + 1], alone) and state.keys() == end.keys()
        assert_same([state[k][b : b + 1] for k in end], end.values())
        assert_same(gradients(neuro.run(model, x, lengths=lengths)[0][b : b + 1], *model.parameters()), gradients(alone, *model.parameters()), False)


def test_padding_does_not_enter_training_statistics():
    x, lengths = torch.randn(6, 3, 5), torch.tensor([6, 2, 4])
    net, plain = Sequential(BatchNorm(5, axis=-1)), nn.BatchNorm1d(5)
    valid = torch.arange(6)[:, None] < lengths
    y, _ = neuro.run(net, torch.where(valid[..., None], x, 1e3), lengths=lengths)
    expected = plain(x[valid])
    torch.testing.assert_close(y[valid], expected, rtol=1e-5, atol=1e-5)
    assert_same((net[0].running_mean, net[0].running_var), (plain.running_mean, plain.running_var), exactly=False)
    assert_same(gradients(y[valid], *net.parameters()), gradients(expected, *plain.parameters()), exactly=False)


@pytest.mark.parametrize("readout", [MeanOverTime, SumOverTime, LastStep])
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_lengths_go_on_over_chunks(readout, cut, x, make_exact):
    model, lengths = make_exact(Sequential(Linear(6, 8), LIF(decay=0.5), readout())), torch.tensor([8, 3, 1, 5])
    whole, end = neuro.run(model, x, lengths=lengths)
    _, state = neuro.run(model, x[:cut], lengths=lengths.clamp(max=cut))
    y, after = neuro.run(model, x[cut:], state, lengths=(lengths - cut).clamp(min=0))
    assert torch.equal(y, whole)
    assert_same([after[k] for k in end], end.values())


@pytest.mark.parametrize(
    "lengths", [[8, 8, 8], [9, 8, 8, 8], [0, 8, 8, 8], [8.0, 8.0, 8.0, 8.0], [[8, 8, 8, 8]]], ids=["few", "long", "none", "float", "rank"]
)
def test_lengths_that_do_not_fit_are_refused(lengths, net, x):
    with pytest.raises(ShapeError, match=r"lengths do not fit(.|\n)*T=8, B=4"):
        neuro.run(net, x, lengths=torch.tensor(lengths))


def test_full_lengths_are_none(net, x):
    """All steps count: the same bits as without lengths, also where padding is joined in another order."""
    seen = []

    class Notes(nn.Module):
        def forward(self, x):
            seen.append(neuro.state.lengths())
            return x

    full, none = (neuro.run(Sequential(Notes(), BatchNorm(6, axis=-1)), x, lengths=n)[0] for n in (torch.tensor([8, 8, 8, 8]), None))
    assert seen == [None, None] and torch.equal(full, none)


def test_lengths_are_gone_after_run(net, x):
    neuro.run(net, x, lengths=torch.tensor([8, 3, 1, 5]))
    assert neuro.state.lengths() is None and neuro.state.valid_steps(x) is None


# ---- no registry


def test_deepcopy_after_a_forward_with_gradients(net, x):
    y, state = neuro.run(net, x.clone().requires_grad_())
    y.sum().backward()
    twin = copy.deepcopy(net)
    assert torch.equal(twin(x), net(x))
    twin.up.weight.data.zero_()
    assert net.up.weight.any()


def test_a_deleted_model_is_freed(x):
    model = Net()
    y, state = neuro.run(model, x)
    gone = [weakref.ref(m) for m in model.modules()] + [weakref.ref(p) for p in model.parameters()]
    state = neuro.detach(state)
    del model, y
    gc.collect()
    assert all(ref() is None for ref in gone) and set(state) == KEYS


def test_models_do_not_touch_each_other(x):
    a, b = LIF(decay=0.5), LIF(decay=0.5)
    _, state = neuro.run(a, x)
    neuro.run(b, 3 * x)
    assert torch.equal(neuro.run(a, x, state)[0], a(torch.cat([x, x]))[8:])


def test_state_dict_holds_parameters_only(net, x):
    before = set(net.state_dict())
    neuro.run(net, x)
    assert set(net.state_dict()) == before and not any("lif" in key or "cuba" in key for key in before)


@pytest.mark.parametrize("layer", [nn.LocalResponseNorm(2), nn.PReLU(3), nn.FeatureAlphaDropout()])
def test_layers_that_take_the_batch_for_channels_are_refused(layer):
    with pytest.raises(ShapeError, match="time axis"):
        neuro.run(nn.Sequential(layer, LIF()), torch.rand(2, 3, 3))
    neuro.run(nn.Sequential(nn.PReLU(), LIF()), torch.rand(2, 3, 3))  # one slope for all


def test_a_memory_outside_the_state_is_not_continued():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.lif = nn.LSTM(3, 3), LIF()

        def forward(self, x):
            return self.lif(self.lstm(x)[0])

    net = Net()
    _, state = neuro.run(net, torch.rand(2, 1, 3))
    with pytest.raises(StateError, match="lstm is a torch.nn.LSTM"):
        neuro.run(net, torch.rand(2, 1, 3), state)


def test_a_state_that_is_no_dict_and_lengths_of_no_sequence(net, x):
    with pytest.raises(StateError, match="list"):
        neuro.run(net, x, [1])
    with pytest.raises(ShapeError, match="sequence"):
        neuro.run(net, torch.rand(3), lengths=torch.tensor([1]))


class OverTime(nn.Module):
    """Attention of torch along axis 0: every step sees the steps that come."""

    def __init__(self):
        super().__init__()
        self.attention, self.lif = nn.MultiheadAttention(4, 2), LIF()

    def forward(self, x):
        return self.lif(self.attention(x, x, x, need_weights=False)[0])


def test_attention_over_time_cannot_go_on_from_a_state():
    net, x = OverTime().eval(), torch.randn(4, 2, 4)
    y, state = neuro.run(net, x)
    assert torch.equal(y, net(x))
    with pytest.raises(StateError, match=r"attention looks ahead in time"):
        neuro.run(net, x, state)
