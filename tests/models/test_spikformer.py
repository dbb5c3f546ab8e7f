"""Spikformer: what the papers say that can be checked without training."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import neuro
from neuro import models
from neuro.layers import AttentionProduct, BatchNorm
from neuro.neurons import LIF
from neuro.surrogate import Sigmoid

NAMES = ["spikformer_4_256", "spikformer_2_256", "spikformer_v2_8_384"]  # every stem and option


@pytest.fixture(params=NAMES)
def model(request, make_exact):
    return make_exact(models.small(request.param))


def frames(model, steps=4, batch=3):
    c = model.config
    return torch.randint(0, 2, (steps, batch, c.channels, c.image, c.image)).float()


@torch.no_grad()
def outputs(model, x):
    """Every module's output in one forward."""
    seen = {}
    hooks = []
    for path, module in model.named_modules():
        hooks.append(module.register_forward_hook(lambda m, i, y, path=path: seen.update({path: y})))
    model(x)
    for hook in hooks:
        hook.remove()
    return seen


def millions(name):
    with torch.device("meta"):
        return sum(p.numel() for p in models.create(name).parameters()) / 1e6


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("spikformer_4_256", 4.15), ("spikformer_2_384", 5.76), ("spikformer_4_384", 9.32), ("spikformer_8_384", 16.81),
        ("spikformer_6_512", 23.37), ("spikformer_8_512", 29.68), ("spikformer_10_512", 36.01),
        ("spikformer_8_768", 66.34), ("spikformer_2_256", 2.57), ("spikformer_v2_8_384", 29.11), ("spikformer_v2_8_512", 51.55),
    ],
)  # fmt: skip
def test_sizes_are_the_published_ones(name, published):
    assert millions(name) == pytest.approx(published, abs=0.011)


@pytest.mark.parametrize(
    ("names", "heads", "scale"),
    [
        (["spikformer_4_256"], 8, 0.125), (["spikformer_2_384", "spikformer_4_384"], 12, 0.125),
        (["spikformer_8_384", "spikformer_6_512", "spikformer_8_512", "spikformer_10_512"], 8, 0.125),
        (["spikformer_8_768"], 12, 0.125), (["spikformer_2_256"], 16, 0.25),
    ],
)  # fmt: skip
def test_heads_and_scale_are_the_released_ones(names, heads, scale):
    """Neither shows in the number of parameters; the scale is fixed, whatever the width of a head."""
    for name in names:
        with torch.device("meta"):
            products = [m for m in models.create(name).modules() if isinstance(m, AttentionProduct)]
        assert products and {(p.heads, p.scale) for p in products} == {(heads, scale)}, name


@pytest.mark.parametrize("name", ["spikformer_motions", "spikformer_nmnist"])
def test_networks_of_ours_fire_as_the_chip_does(name):
    spiking = [m for m in models.small(name).modules() if isinstance(m, LIF)]
    assert spiking and all(m.spike.comparison == ">" for m in spiking)


def test_dense_weights_start_as_the_choice_says():
    published, torchs = (models.small("spikformer_4_256", dim=256, heads=8, init_std=std).head.weight.std().item() for std in (0.02, None))
    assert published == pytest.approx(0.02, rel=0.05) and torchs == pytest.approx((3 * 256) ** -0.5, rel=0.05)


def test_every_neuron_is_binary_and_nothing_is_a_softmax(model):
    seen = outputs(model, frames(model))
    for path, module in model.named_modules():
        if isinstance(module, LIF):
            assert torch.equal(seen[path], (seen[path] > 0).float()), path
        assert not isinstance(module, (nn.Softmax, nn.GELU, nn.LayerNorm))
    assert any(seen[path].any() for path in seen if path.endswith("product_lif"))


class Operators(TorchDispatchMode):
    """The names of all operators that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__.strip("_"))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_blocks_run_no_softmax_exp_or_division(model):
    with Operators() as ran:
        model.blocks(torch.randint(0, 3, (4, 2, 16, model.config.dim)).float())
    assert {"bmm", "mul", "native_batch_norm"} <= ran.names, ran.names
    assert not {n for n in ran.names if "softmax" in n} | ran.names & {"exp", "div", "reciprocal", "sigmoid", "tanh", "gelu", "native_layer_norm"}


def test_attention_is_equal_in_both_orders(model):
    x, answers = frames(model.double(), steps=2).double(), []
    for order in ("qk_first", "kv_first"):
        for module in model.modules():
            if isinstance(module, AttentionProduct):
                module.order = order
        y = model(x)
        answers.append([y, *torch.autograd.grad(y.square().sum(), list(model.parameters()))])
    assert torch.equal(answers[0][0], answers[1][0])
    for a, b in zip(*answers, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_the_stream_counts_spikes(model):
    seen = outputs(model, frames(model))
    for n in range(model.config.depth):
        stream = seen[f"blocks.{n}"]
        assert torch.equal(stream, stream.round()) and stream.min() >= 0
        assert stream.max() <= 2 + 2 * (n + 1)
    assert seen[f"blocks.{model.config.depth - 1}"].max() > 1


def test_a_block_adds_its_spikes_to_the_stream(model):
    seen = outputs(model, frames(model))
    stream = seen["tokens"]
    for n in range(model.config.depth):
        attention, mlp = seen[f"blocks.{n}.attention"], seen[f"blocks.{n}.mlp"]
        assert torch.equal(seen[f"blocks.{n}"], stream + attention + mlp), n
        stream = seen[f"blocks.{n}"]
    assert attention.any() and mlp.any() and seen["tokens"].any()


def test_the_first_step_is_the_model_at_one_step(model):
    x = frames(model)
    with torch.no_grad():
        assert torch.equal(outputs(model, x[:1])["head"], outputs(model, x)["head"][:1])


def test_the_order_of_equal_frames_is_irrelevant(model):
    x = frames(model)[:1].expand(4, -1, -1, -1, -1)
    with torch.no_grad():
        assert torch.equal(model(x[[2, 0, 3, 1]]), model(x))


def test_an_empty_frame_shows_the_biases_of_the_norms_only(model):
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    silent = outputs(model, torch.zeros_like(frames(model)))
    assert not any(silent[path].any() for path, m in model.named_modules() if isinstance(m, LIF))
    norm = next(m for m in model.modules() if isinstance(m, BatchNorm))
    nn.init.constant_(norm.bias, 2.0)
    first = outputs(model, torch.zeros_like(frames(model)))
    lif = next(path for path, m in model.named_modules() if isinstance(m, LIF))
    assert first[lif].all()  # x = 2 fires at every step
    elsewhere = outputs(model, torch.zeros_like(frames(model, batch=1)))
    assert all(torch.equal(first[path][:, :1], elsewhere[path]) for path in first if first[path].dim() > 2)


def test_blocks_do_not_know_the_position_of_a_token(model):
    d, n = model.config.dim, 16
    tokens, order = torch.randint(0, 3, (4, 2, n, d)).float(), torch.randperm(n)
    with torch.no_grad():
        y = model.blocks(tokens)
        assert torch.equal(model.blocks(tokens[:, :, order]), y[:, :, order])


def test_the_stem_knows_it(model):
    x = frames(model)
    with torch.no_grad():
        assert not torch.equal(model.stem(x.flip(-1)).flip(-1), model.stem(x))


def test_constant_input():
    """x = 1 stays at 1 - 2^-t, x = 2 fires at every step, x = 1.5 at every second."""
    neuron = models.small("spikformer_4_256").config.neuron(1.0)
    x = torch.tensor([1.0, 2.0, 1.5]).expand(16, 1, 3)
    y, state = neuro.run(neuron, x)
    assert y.sum(0).tolist() == [[0, 16, 8]] and y[1::2, 0, 2].all() and state["#0"][0, 0] == 1 - 2**-16


def test_surrogate_is_1_at_threshold_and_the_reset_passes_no_gradient():
    config = models.small("spikformer_4_256").config
    assert config.spike == Sigmoid(4.0) and config.reset.detach
    x = torch.tensor([2.0, 1.0]).view(2, 1, 1).requires_grad_()
    y = config.neuron(1.0)(x)  # v = 1: fires at threshold, resets to 0; then v = 0.5
    now, later = torch.autograd.grad(y[0].sum(), x, retain_graph=True)[0], torch.autograd.grad(y[1].sum(), x)[0]
    assert now.flatten().tolist() == [0.5, 0]  # gain 1/2 times alpha/4
    assert later[0].item() == 0  # through a reset that passes gradient it would not be


def test_dropout_stands_before_the_head():
    model = models.small("spikformer_4_256", dropout=1.0)
    torch.nn.init.normal_(model.head.bias)
    x = frames(model)
    torch.testing.assert_close(model.train()(x), model.head.bias.expand(3, -1))


def test_changes_reach_every_layer():
    model = models.small("spikformer_4_256", tau=4.0, classes=7, dropout=0.5)
    assert model.head.out_features == 7 and model.dropout.p == 0.5
    assert all(m.decay == 0.75 for m in model.modules() if isinstance(m, LIF))
    with pytest.raises(neuro.errors.ShapeError, match="expected C=3, H=32|expected C=3"):
        model(torch.zeros(4, 2, 2, 32, 32))


def test_cml_pools_what_the_neurons_would_have_taken():
    """ConvBN-MaxPooling-LIF: the same weights, in stages put together by hand; the order is another function."""
    torch.manual_seed(0)
    model = models.small("spikformer_2_256", cml=True, init_std=None)
    stem = model.stem
    x = y = frames(model, steps=3, batch=2)
    for stage, pool in zip(stem.stages, stem.pools, strict=True):
        y = stage.lif(pool(stage.norm(stage.conv(y))))
    y = y + stem.position(y)
    assert torch.equal(stem(x), y) and y.sum() > 0
    usual = models.small("spikformer_2_256", init_std=None)
    usual.load_state_dict(model.state_dict())
    assert not torch.equal(usual.stem(x), y) and usual.stem(x).shape == y.shape
    (stem(x) * torch.rand(y.shape)).sum().backward()
    assert all(stage.conv.weight.grad.abs().sum() > 0 for stage in stem.stages)


def test_cml_needs_a_stem_that_pools():
    with pytest.raises(neuro.errors.ParameterError, match="no pooling"):
        models.small("spikformer_v2_8_384", cml=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x[0], "has 4 axes"), (lambda x: x[None], "has 6 axes"), (lambda x: x.movedim(2, -1), "expected C="),
        (lambda x: x.movedim(0, 2), "expected C="), (lambda x: x[..., :-1], "expected W="), (lambda x: x[..., :-1, :], "expected H="),
    ],
    ids=["no time", "one more", "channels last", "time behind batch", "narrow", "low"],
)  # fmt: skip
def test_wrong_rank_and_swapped_axes_are_refused(model, change, says):
    with pytest.raises(neuro.errors.ShapeError, match=says):
        model(change(frames(model, steps=4)))
