"""Every registered model, by its entry: size and shape in full, everything else on its small twin.

NEURO_TEST_FULL=1 runs the small tests at full size (`make test-full`).
"""

import os
from itertools import pairwise

import pytest
import torch

import neuro
from neuro import models
from neuro.errors import NeuroError, ParameterError, UnknownName
from neuro.layers import BatchNorm
from neuro.neurons import Neuron, Recurrent

FULL = bool(os.environ.get("NEURO_TEST_FULL"))
STEPS, BATCH = 4, 3


def build(name):
    return models.create(name) if FULL else models.small(name)


def different():
    """One name for each small Config: models that differ in size alone have the same small twin."""
    firsts = {}
    for name in models.names():
        with torch.device("meta"):
            firsts.setdefault(name if FULL else repr(getattr(models.small(name), "config", name)), name)
    return list(firsts.values())


EVERY = pytest.mark.parametrize("name", models.names())
SMALL = pytest.mark.parametrize("name", different())


def example(model, steps=STEPS, batch=BATCH, device="cpu"):
    """Binary input that fits the model: what it says itself, or the frames of its Config."""
    if hasattr(model, "example_input"):
        return model.example_input(steps, batch).to(device)
    c = model.config
    return torch.randint(0, 2, (steps, batch, c.channels, c.image, c.image)).float().to(device)


def every_step(model):
    """Whether it answers at every step, [T, B, classes], instead of once, [B, classes]."""
    return getattr(model.config, "every_step", False)


@EVERY
def test_parameters_and_output_shape_at_full_size(name):
    with torch.device("meta"):
        model = models.create(name)
    assert sum(p.numel() for p in model.parameters()) == models.entry(name).parameters
    with torch.no_grad():
        y = model.eval()(example(model, 2, 2, "meta"))
    assert y.device.type == "meta" and y.shape == ((2,) if every_step(model) else ()) + (2, model.config.classes)


@EVERY
def test_small_cuts_sizes_only(name):
    small, whole = models.small(name), models.create(name) if FULL else None
    assert small.config.depth >= 2
    sizes = {"dim", "heads", "depth", "image", "vocabulary", "width", "context", "points"}
    assert set(models.entry(name).small) <= sizes
    if whole is not None:
        assert {type(m) for m in small.modules()} == {type(m) for m in whole.modules()}


@SMALL
def test_a_gradient_in_every_parameter(name, make_exact):
    model = make_exact(build(name)).train()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            torch.nn.init.constant_(module.bias, 2.0)  # the input at which a neuron fires at every step, so every layer fires
            module.eps = 1e-5
    model(example(model)).square().sum().backward()
    for key, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), key
        assert p.grad.any(), key


@SMALL
@pytest.mark.parametrize("cut", [1, 3])
def test_state_carried_across_a_cut_equals_one_run(name, cut, make_exact):
    model = make_exact(build(name))
    x = example(model)
    with torch.no_grad():
        whole, end = neuro.run(model, x)
        _, state = neuro.run(model, x[:cut])
        y, after = neuro.run(model, x[cut:], state)
    assert torch.equal(y, whole[cut:] if every_step(model) else whole) and whole.std() > 0
    assert after.keys() == end.keys() and all(torch.equal(after[k], end[k]) for k in end)
    assert len(end) >= sum(isinstance(m, (Neuron, Recurrent)) for m in model.modules())


@SMALL
def test_batch_order_and_composition_are_irrelevant(name, make_exact):
    model = make_exact(build(name))
    x = example(model)
    with torch.no_grad():
        y = model(x)
        assert torch.equal(model(x[:, [2, 0, 1]]), y[..., [2, 0, 1], :]) and torch.equal(model(x[:, 1:2]), y[..., 1:2, :])


@SMALL
def test_padding_is_left_out(name, make_exact):
    model = make_exact(build(name))
    x, lengths = example(model), torch.tensor([STEPS, 1, 2])
    with torch.no_grad():
        y, _ = neuro.run(model, x, lengths=lengths)
        for b, n in enumerate(lengths):
            there = y[:n, b : b + 1] if every_step(model) else y[b : b + 1]
            assert torch.equal(there, model(x[:n, b : b + 1]))


@SMALL
def test_every_neuron_answers_0_or_1_and_the_net_is_not_silent(name, make_exact):
    model, rates = make_exact(build(name)), {}
    for path, module in model.named_modules():
        if isinstance(module, (Neuron, Recurrent)):

            def note(module, inputs, y, path=path):
                rates[path] = (y.mean().item(), bool(((y == 0) | (y == 1)).all()))

            module.register_forward_hook(note)
    with torch.no_grad():
        model(example(model))
    assert all(binary for _, binary in rates.values())
    assert sum(rate > 0 for rate, _ in rates.values()) >= 0.8 * len(rates), rates


@EVERY
def test_it_says_what_it_is(name):
    make = models.entry(name).make
    assert make.__name__ == name and len(make.__doc__) > 20


def test_names_are_sorted_and_unique():
    names = models.names()
    assert names and all(a < b for a, b in pairwise(names))


def test_errors_name_what_was_meant():
    with pytest.raises(UnknownName, match=r"spikfromer_4_256(.|\n)*Did you mean(.|\n)*spikformer_4_256"):
        models.create("spikfromer_4_256")
    with pytest.raises(ParameterError, match="heads_count"):
        models.create("spikformer_2_256", heads_count=3)
    with pytest.raises(NeuroError, match="multiple"):
        models.create("spikformer_2_256", dim=100)
