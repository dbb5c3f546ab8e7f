"""neuro.activity over the ways in which a network may compute: each is counted as loops count it, or listed; none is silently nothing."""

import itertools
import threading

import pytest
import torch
from torch import nn
from torch._higher_order_ops.while_loop import while_loop
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention
from torch.utils._python_dispatch import _disable_current_modes

import neuro
from neuro.errors import ShapeError
from neuro.layers import Linear, Sequential
from neuro.neurons import LIF

B, N, D = 2, 4, 8
X = (torch.rand(B, N, D, generator=torch.Generator().manual_seed(3)) < 0.4).float()
MAPS = (torch.rand(B, 2, 5, 6, generator=torch.Generator().manual_seed(4)) < 0.4).float()


given = []  # what Call gave; an attribute would be put back as it was after each count


class Call(nn.Module):
    """f(x, w, *layers) with a weight of D x D, of which some are zero."""

    def __init__(self, f, *layers):
        super().__init__()
        torch.manual_seed(0)
        self.f, self.layers = f, nn.ModuleList(layers)
        self.w = nn.Parameter(torch.rand(D, D) * (torch.rand(D, D) < 0.5))

    def forward(self, x):
        given.append(self.f(x, self.w, *self.layers))
        return given[-1]


def fan(x, outputs=D):
    """Every nonzero input meets every output."""
    return sum(outputs for v in x.flatten().tolist() if v)


def pairs(a, b):
    """[m, k] with [k, n]: both nonzero."""
    return sum(1 for i, j, k in itertools.product(range(len(a)), range(b.shape[1]), range(len(b))) if a[i, k] and b[k, j])


def powers(x, w, times):
    """x w w ...: the inputs of each product by loops."""
    found = 0
    for _ in range(times):
        found, x = found + fan(x), x @ w
    return found


def heads_attention(x, m, heads=2):
    """nn.MultiheadAttention: three products in, q k^T and its softmax with v in each head, one product out. Only x has zeros."""
    return fan(x, 3 * D) + heads * 2 * N * N * (D // heads) + N * D * D


def transposed(x, layer):
    """Taps that each nonzero input reaches inside the output map."""
    out = layer(x[None]).shape[2:]
    found = 0
    for place in itertools.product(*map(range, x.shape)):
        if x[place]:
            for taps in itertools.product(*map(range, layer.kernel_size)):
                to = [p * s - q + t * d for p, s, q, t, d in zip(place[1:], layer.stride, layer.padding, taps, layer.dilation, strict=True)]
                found += layer.weight.shape[1] * all(0 <= t < n for t, n in zip(to, out, strict=True))
    return found


def looped(f):
    """The weights and the inputs of one sample as they stand."""
    return lambda x, net: f(x, net.w.detach())


MHA = nn.MultiheadAttention(D, 2, batch_first=True)
UP = nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
LSTM, GRU, RNN, LSTMCELL, GRUCELL = nn.LSTM(D, 3), nn.GRU(D, 3), nn.RNN(D, 3), nn.LSTMCell(D, 3), nn.GRUCell(D, 3)


def attended(x, mask=None):
    seen = torch.ones(N, N) if mask is None else mask
    return pairs(x, x.T) + pairs(seen, x)


def recurrent(net, gates):
    """Each gate reads every input, and every state but the first, which is zero; N samples side by side, one step each is one sample."""
    def count(x, _):
        y, _ = net(x[:, None])
        return fan(x, gates * 3) + fan(y[:-1], gates * 3)
    return count


EXACT = {  # name: (function of (x, w), operations of one sample by loops)
    "matmul": (lambda x, w: x @ w, looped(lambda x, w: fan(x))),
    "einsum": (lambda x, w: torch.einsum("bni,io->bno", x, w), looped(lambda x, w: fan(x))),
    "einsum of two activations": (lambda x, w: torch.einsum("bni,bmi->bnm", x, x), looped(lambda x, w: pairs(x, x.T))),
    "tensordot": (lambda x, w: torch.tensordot(x, w, 1), looped(lambda x, w: fan(x))),
    "baddbmm": (lambda x, w: torch.baddbmm(x, x, w[None]), looped(lambda x, w: fan(x))),
    "addbmm": (lambda x, w: torch.addbmm(torch.zeros(N, D), x, w[None]), looped(lambda x, w: fan(x))),
    "inner": (lambda x, w: torch.inner(x, w), looped(lambda x, w: fan(x))),
    "dot": (lambda x, w: torch.dot(x[0, 0], w[0]), looped(lambda x, w: fan(x[0], 1))),
    "vdot": (lambda x, w: torch.vdot(x[0, 0], w[0]), looped(lambda x, w: fan(x[0], 1))),
    "mv": (lambda x, w: torch.mv(w, x[0, 0]), looped(lambda x, w: fan(x[0]))),
    "int8": (lambda x, w: torch._int_mm(x[0].repeat(5, 1).to(torch.int8), torch.ones(D, D, dtype=torch.int8)), looped(lambda x, w: 5 * pairs(x, torch.ones(D, D)))),
    "chain": (lambda x, w: torch.linalg.multi_dot([x[0], w, w]), looped(lambda x, w: powers(x, w, 2))),
    "vmap": (lambda x, w: torch.vmap(lambda a: a @ w)(x), looped(lambda x, w: fan(x))),
    "checkpoint": (lambda x, w: torch.utils.checkpoint.checkpoint(lambda a: a @ w, x, use_reentrant=False), looped(lambda x, w: fan(x))),
    "complex": (lambda x, w: torch.complex(x, 0 * x) @ torch.complex(w, w), looped(lambda x, w: 2 * fan(x))),
    "complex, both parts": (lambda x, w: torch.complex(x, x.flip(-1)) @ torch.complex(w, w), looped(lambda x, w: 4 * fan(x))),
    "sparse weight": (lambda x, w: torch.sparse.mm(w.to_sparse(), x[0].T), looped(lambda x, w: pairs(w, x.T))),
    "sparse activation": (lambda x, w: torch.sparse.mm(x[0].to_sparse(), w), looped(lambda x, w: fan(x))),
    "CSR activation": (lambda x, w: x[0].to_sparse_csr() @ w, looped(lambda x, w: fan(x))),
    "CSR weight": (lambda x, w: w.to_sparse_csr() @ x[0].T, looped(lambda x, w: pairs(w, x.T))),
    "CSR weight on the right": (lambda x, w: x[0] @ w.to_sparse_csr(), looped(lambda x, w: pairs(x, w))),
    "cond, taken": (lambda x, w: torch.cond(x.sum() > 0, lambda a: a @ w, lambda a: a + 1, (x,)), looped(lambda x, w: fan(x))),
    "cond, not taken": (lambda x, w: torch.cond(x.sum() < 0, lambda a: a + 1, lambda a: a @ w, (x,)), looped(lambda x, w: fan(x))),
    "while_loop": (lambda x, w: while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a @ w), (torch.zeros((), dtype=torch.int64), x))[1], looped(lambda x, w: powers(x, w, 3))),
    "scaled_dot_product_attention": (lambda x, w: F.scaled_dot_product_attention(x, x, x), looped(lambda x, w: attended(x))),
    "flex_attention": (lambda x, w: flex_attention(x[:, None], x[:, None], x[:, None]), looped(lambda x, w: attended(x))),
    "flex_attention, causal": (lambda x, w: flex_attention(x[:, None], x[:, None], x[:, None], score_mod=lambda s, b, h, q, k: torch.where(q >= k, s, -torch.inf)),
                               looped(lambda x, w: attended(x, torch.tril(torch.ones(N, N))))),
    "MultiheadAttention": (lambda x, w, m: m(x, x, x)[0], lambda x, net: heads_attention(x, MHA), MHA),
    "MultiheadAttention without weights": (lambda x, w, m: m(x, x, x, need_weights=False)[0], lambda x, net: heads_attention(x, MHA), MHA),
    "multi_head_attention_forward": (
        lambda x, w, m: F.multi_head_attention_forward(*[x.transpose(0, 1)] * 3, D, 2, m.in_proj_weight, m.in_proj_bias, None, None, False, 0.0, m.out_proj.weight, m.out_proj.bias)[0],
        lambda x, net: heads_attention(x, MHA), MHA),
    "LSTM": (lambda x, w, m: m(x.transpose(0, 1))[0], recurrent(LSTM, 4), LSTM),
    "GRU by forward": (lambda x, w, m: m.forward(x.transpose(0, 1))[0], recurrent(GRU, 3), GRU),
    "RNN": (lambda x, w, m: m(x.transpose(0, 1))[0], recurrent(RNN, 1), RNN),
    "LSTMCell": (lambda x, w, m: m(x[:, 0])[0], lambda x, net: fan(x[0], 12), LSTMCELL),
    "GRUCell": (lambda x, w, m: m(x[:, 0]), lambda x, net: fan(x[0], 9), GRUCELL),
    "Linear by forward": (lambda x, w, m: m.forward(x), lambda x, net: fan(x, 3), nn.Linear(D, 3)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*[Ss]parse (CSR|invariant)", "ignore:flex_attention called without")
@pytest.mark.parametrize("name", EXACT)
def test_counted_as_loops_count(name):
    f, count, *layers = EXACT[name]
    net = Call(f, *layers).eval()
    found = neuro.activity(net, X, batch_axis=0)
    assert found.total("effective").tolist() == [count(X[b], net) for b in range(B)] and min(found.total("effective")) > 0
    assert not found.not_counted, found
    watched = given[-1]  # of the last sample: what is counted is still what is computed
    with torch.no_grad():
        torch.testing.assert_close(watched, net(X[-1:]))


def test_a_complex_value_is_two_elements():
    """Of a product with a complex weight: four real products, but each element enters once, leaves once and is held once."""
    (found,) = neuro.activity(Call(lambda x, w: torch.complex(x, 3 * x) @ torch.complex(w, w)), X, batch_axis=0)
    ones = X.flatten(1).sum(1).long().tolist()
    assert found.inputs.tolist() == found.outputs.tolist() == [2 * N * D] * B and found.weights == 2 * D * D
    assert found.unit.tolist() == found.integer.tolist() == ones and found.real.tolist() == found.negative.tolist() == [0] * B
    assert found.ac.tolist() == found.graded.tolist() == [2 * D * n for n in ones] and found.dense.tolist() == [4 * N * D * D] * B


def test_two_activations_of_any_values_equal_loops():
    """AC where one of the two is +-1, graded where both are other whole numbers, MAC elsewhere."""
    generator = torch.Generator().manual_seed(5)
    values = torch.tensor([0.0, 1, -1, 2, -3, 0.5])
    a, b = (values[torch.randint(0, 6, shape, generator=generator)] for shape in ((B, 2, N, D), (B, 2, D, 3)))
    found = neuro.activity(Call(lambda x, w: x[..., : N * D].view(1, 2, N, D) @ x[..., N * D :].view(1, 2, D, 3)), torch.cat([a.flatten(2), b.flatten(2)], -1), batch_axis=0)
    for s in range(B):
        kinds = {"ac": 0, "graded": 0, "mac": 0}
        for h, i, j, k in itertools.product(range(2), range(N), range(3), range(D)):
            u, v = a[s, h, i, k].item(), b[s, h, k, j].item()
            if u and v:
                kinds["ac" if 1 in (abs(u), abs(v)) else "graded" if u == int(u) and v == int(v) else "mac"] += 1
        (layer,) = found
        assert {kind: getattr(layer, kind)[s] for kind in kinds} == kinds and min(kinds.values()) > 0
        assert layer.outputs[s] == 2 * N * 3 and layer.inputs[s] == 2 * (N * D + D * 3) and layer.dense[s] == 2 * N * D * 3


HEADS = {  # name: (function of (x, w), weights held)
    "one matrix for all heads": (lambda x, w: torch.bmm(x.expand(3, -1, -1), w.expand(3, -1, -1)), D * D),
    "the same on the left": (lambda x, w: torch.bmm(w.expand(3, -1, -1), x.mT.expand(3, -1, -1)), D * D),
    "one matrix for each head": (lambda x, w: torch.bmm(x.expand(3, -1, -1), torch.stack([w, 2 * w, 3 * w])), 3 * D * D),
    "rows of it": (lambda x, w: x @ w[:, :2], 2 * D),
}


@pytest.mark.parametrize("name", HEADS)
def test_weights_held_are_those_in_memory(name):
    f, held = HEADS[name]
    (found,) = neuro.activity(Call(f), X, batch_axis=0)
    assert found.weights == held
    assert found.ac.tolist() == [(2 if name == "rows of it" else 3 * D) * int(x.sum()) for x in X]


def test_a_constant_in_a_buffer_is_a_weight():
    """Present everywhere, its zeros too, as a parameter is; a tensor that nobody holds is an activation."""

    class Fixed(nn.Module):
        def __init__(self, held):
            super().__init__()
            if held:
                self.register_buffer("m", torch.eye(D))
            self.held = held

        def forward(self, x):
            return x @ (self.m if self.held else torch.eye(D))

    for held, fan_out in ((True, D), (False, 1)):
        found = neuro.activity(Fixed(held), X, batch_axis=0)
        assert found.total("effective").tolist() == [fan_out * int(x.sum()) for x in X] and found[""].weights == held * D * D


def test_what_only_trains_is_off():
    """Dropout in a network that is still in training mode: every input is there."""
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(D, 3)).train()
    assert neuro.activity(net, torch.ones(B, D), batch_axis=0).total("ac").tolist() == [3 * D] * B and net[0].training


def test_weights_held_are_those_of_the_sample_that_needs_most():
    some = torch.cat([torch.ones(1, N, D), torch.zeros(1, N, D)])
    (found,) = neuro.activity(Call(lambda x, w: x @ w if x.any() else x[..., :2] @ w[:2]), some, batch_axis=0)
    assert found.weights == D * D and found.dense.tolist() == [N * D * D, N * 2 * D]


def test_a_sum_over_a_batch_leaves_once():
    (found,) = neuro.activity(Call(lambda x, w: torch.addbmm(torch.ones(2, D), x.view(2, 2, D), torch.stack([w, w + 1]))), X, batch_axis=0)
    assert found.ac.tolist() == [D * int(x.sum()) for x in X] and found.dense.tolist() == [N * D * D] * B
    assert found.outputs.tolist() == found.biases.tolist() == [2 * D] * B and found.weights == 2 * D * D
    (found,) = neuro.activity(Call(lambda x, w: torch.baddbmm(torch.ones(1, N, D), x, w[None], beta=0)), X, batch_axis=0)
    assert found.outputs.tolist() == [N * D] * B and found.biases.tolist() == [0] * B


@pytest.mark.parametrize("causal", [False, True])
def test_a_fused_kernel_that_is_called_as_such(causal):
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    found = neuro.activity(Call(lambda x, w: kernel(x[:, None], x[:, None], x[:, None], 0.0, causal)[0]), X, batch_axis=0)
    mask = torch.ones(N, N).tril() if causal else torch.ones(N, N)
    assert found.total("ac").tolist() == [attended(x, mask) for x in X] and not found.not_counted


def test_attention_is_weighed_as_torch_does():
    """Scores of 169 on the diagonal: scaled by the root of the width all weights are above zero, as they are only one is."""
    tokens = 13 * torch.eye(N, D)[None]
    for scale, seen in ((None, N * N), (1.0, N)):
        found = neuro.activity(Call(lambda x, w, scale=scale: F.scaled_dot_product_attention(x, x, x, scale=scale)), tokens, batch_axis=0)
        assert found.total("graded").tolist() == [N] and found.total("effective").tolist() == [N + seen]


def test_transposed_convolution_of_groups():
    found = neuro.activity(UP, MAPS, batch_axis=0)
    assert found.total("ac").tolist() == [transposed(x, UP) for x in MAPS] and not found.not_counted


LISTED = {  # name: (function, input, where it is listed, under which name)
    "embedding": (lambda x, w: F.embedding(x.long()[:, 0], w), X, "moved", "embedding"),
    "rows of an activation": (lambda x, w: x[:, torch.tensor([0, 2])], X, "moved", "index"),
    "interpolate nearest": (lambda x, w: F.interpolate(x, scale_factor=2), MAPS, "moved", "_unsafe_index"),
    "interpolate bilinear": (lambda x, w: F.interpolate(x, scale_factor=2, mode="bilinear"), MAPS, "elementwise", "upsample_bilinear2d"),
    "interpolate bicubic": (lambda x, w: F.interpolate(x, scale_factor=2, mode="bicubic"), MAPS, "elementwise", "upsample_bicubic2d"),
    "interpolate linear": (lambda x, w: F.interpolate(x, scale_factor=2, mode="linear"), X, "elementwise", "upsample_linear1d"),
    "interpolate area": (lambda x, w: F.interpolate(x, scale_factor=2, mode="area"), MAPS, "elementwise", "_adaptive_avg_pool2d"),
    "scatter_add": (lambda x, w: torch.zeros(1, N, D).scatter_add(1, torch.zeros(1, N, D, dtype=torch.int64), x), X, "elementwise", "scatter_add"),
    "a product by hand": (lambda x, w: (x[..., None] * w).sum(-2), X, "elementwise", "mul"),
    "outer": (lambda x, w: torch.outer(x[0, 0], x[0, 1]), X, "elementwise", "mul"),
    "fft": (lambda x, w: torch.fft.fft(x).abs(), X, "not_counted", "_fft_r2c"),
    "fft2 of complex": (lambda x, w: torch.fft.fft2(torch.complex(x, x)).abs(), X, "not_counted", "_fft_c2c"),
    "Bilinear": (lambda x, w: F.bilinear(x, x, w[None]), X, "not_counted", "_trilinear"),
    "cdist": (lambda x, w: torch.cdist(x, w[None]), X, "not_counted", "_cdist_forward"),
    "grid_sample": (lambda x, w: F.grid_sample(x, torch.zeros(1, 3, 3, 2), align_corners=False), MAPS, "not_counted", "grid_sampler_2d"),
    "EmbeddingBag": (lambda x, w: F.embedding_bag(x.long()[:, 0], w), X, "not_counted", "_embedding_bag"),
    "solve": (lambda x, w: torch.linalg.solve(w + torch.eye(D), x[0].T), X, "not_counted", "_linalg_solve_ex"),
    "NumPy": (lambda x, w: torch.from_numpy(x.detach().numpy() @ w.detach().numpy()), X, "not_counted", "numpy"),
}


@pytest.mark.parametrize("name", LISTED)
def test_listed_in_elements(name):
    f, x, where, operator = LISTED[name]
    found = neuro.activity(Call(f), x, batch_axis=0)
    listed = {n: v for (_, n), v in getattr(found, where).items()}
    assert operator in listed and (listed[operator] > 0).all(), found
    assert found.total("effective").tolist() == [0] * B
    assert (found.share_not_counted > 0) == (where == "not_counted")
    assert operator in repr(found)


def test_elements_of_work_are_those_of_the_largest_tensor():
    """A sum has fewer outputs than inputs, a sum of two shapes more; a table's rows are those that were read."""
    cases = (("sum", lambda x, w: x.sum(-1), N * D), ("add", lambda x, w: x[:, :, None] + x[:, None], N * N * D), ("index_select", lambda x, w: torch.index_select(w, 0, torch.tensor([1, 5])), 2 * D))
    for name, f, elements in cases:
        found = neuro.activity(Call(f), X, batch_axis=0)
        assert {n: v.tolist() for (_, n), v in (found.elementwise | found.moved).items()} == ({name: [elements] * B}), name


def in_a_thread(x, w):
    made = []
    worker = threading.Thread(target=lambda: made.append(x @ w))
    worker.start()
    worker.join()
    return made[0]


def test_what_another_thread_made_is_said():
    """Torch's modes belong to one thread: nothing of it was seen."""
    found = neuro.activity(Call(in_a_thread), X, batch_axis=0)
    assert {key: v.tolist() for key, v in found.not_counted.items()} == {("", "made out of sight"): [N * D] * B}
    assert "NOT COUNTED: made out of sight" in repr(found)


class Gives(nn.Module):
    """Gives its own weight, whatever comes."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.rand(D, D))

    def forward(self, x):
        return self.w


def test_what_was_handed_in_or_is_held_was_not_made_out_of_sight():
    found = neuro.activity(nn.Sequential(nn.Identity(), nn.Flatten(0, 1), nn.Linear(D, 3)), X, batch_axis=0)
    assert not found.not_counted and found.total("ac").tolist() == [3 * int(x.sum()) for x in X]
    found = neuro.activity(Call(lambda x, w, gives: x @ gives(x), Gives()), X, batch_axis=0)
    assert not found.not_counted and found.total("ac").tolist() == [D * int(x.sum()) for x in X]


def test_memory_that_was_freed_tells_nothing_of_what_lies_there_next():
    """What was computed from weights alone, and what an operator made, is often followed by something else at the same place."""

    def after_weights(x, w):
        for i in range(8):
            w.repeat(512, 1) + i  # as large as what comes next, and freed
            x.repeat(1, 1024, 1) @ w
        return x

    assert neuro.activity(Call(after_weights), X, batch_axis=0).total("ac").tolist() == [8 * 1024 * D * int(x.sum()) for x in X]

    class Unseen(nn.Module):
        def forward(self, x):
            x @ torch.ones(D, D)  # as large as what comes next, and freed
            with _disable_current_modes():
                return x @ torch.ones(D, D)

    found = neuro.activity(Call(lambda x, w, *layers: [layer(x) for layer in layers][-1] * 1, *(Unseen() for _ in range(4))), X, batch_axis=0)
    assert sum(n for (path, name), n in found.not_counted.items() if name == "made out of sight").tolist() == [4 * N * D] * B


class Direct(nn.Module):
    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.fc, self.lif, self.head = how, Linear(D, 5), LIF(), Linear(5, 3)

    def forward(self, x):
        if self.how == "forward":
            return self.head.forward(self.lif.forward(self.fc.forward(5 * x)))
        return self.head(self.lif(self.fc(5 * x)))


def test_modules_that_are_called_by_forward_count_as_called():
    """Hooks do not fire there: the neuron's updates and spikes would be missing."""
    x = X.transpose(0, 1)
    called, direct = (neuro.activity(Direct(how), x) for how in ("call", "forward"))
    assert [layer.path for layer in direct] == [layer.path for layer in called] == ["fc", "lif", "head"]
    for name in ("effective", "dense", "updates", "spikes", "steps"):
        assert direct.total(name).tolist() == called.total(name).tolist()
    assert direct["lif"].spikes.sum() > 0 and direct["lif"].updates.tolist() == [N * 5] * B
    assert direct.elementwise.keys() == called.elementwise.keys() == {("", "mul")}


class Steps(LIF):
    """Calls its own forward for each step."""

    def forward(self, x):
        if len(x) == 1:
            return super().forward(x)
        return torch.cat([self.forward(x_t[None]) for x_t in x])


def test_a_forward_that_calls_itself_is_one_call():
    found = neuro.activity(Sequential(Linear(D, 5), Steps()), X.transpose(0, 1))
    assert found["1"].updates.tolist() == [N * 5] * B and found["1"].steps.tolist() == [N] * B


def test_forwards_are_put_back_also_after_an_error():
    net, mine = Direct("call"), lambda x: 2 * x
    net.head.forward = mine
    neuro.activity(net, X.transpose(0, 1))
    with pytest.raises(ShapeError):
        neuro.activity(net, torch.zeros(N, B, D + 1))
    assert "forward" not in vars(net) | vars(net.fc) | vars(net.lif) and net.head.forward is mine
