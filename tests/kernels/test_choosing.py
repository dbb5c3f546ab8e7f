"""The choice of a form: a function of sizes, events and a table, which is measured once, kept, and put into a run's folder."""

import itertools
import json
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import neuro
from neuro.errors import FormatError, ParameterError
from neuro.kernels import calibrating, choosing, costs, dense, planning
from neuro.kernels.bits import pack
from neuro.kernels.costs import MARGIN, VERSION, Costs, Work
from neuro.kernels.planning import plan

TABLE = Costs(
    dense_16=8e-11, dense_128=4e-11, dense_1024=2e-11, dense_conv=2e-11, linear_add=5e-11, linear_output=5e-10, conv_add=5e-11, conv_output=2e-9,
    linear_gradient_add=3e-11, linear_gradient_output=5e-10, conv_gradient_add=3e-11, conv_gradient_output=2e-9, weight=2e-10, pack=1e-10, unpack=1e-10, call=4e-5,
)  # fmt: skip
WIDE = Work("linear", 1024 * 512, 512 * 512, 1024 * 512, 1024, 512)


def test_few_events_are_preferred_and_many_are_not():
    chosen = [TABLE.prefers_events(WIDE, d * WIDE.inputs) for d in (0.0, 0.01, 0.05, 0.1, 0.3, 0.5, 1.0)]
    assert chosen == sorted(chosen, reverse=True) and chosen[2] and not chosen[-1]


def test_dense_rates_lie_between_those_measured():
    for rows, rate in ((1, 8e-11), (16, 8e-11), (128, 4e-11), (1024, 2e-11), (9999, 2e-11)):
        assert TABLE.dense(WIDE._replace(rows=rows)) == pytest.approx(WIDE.products * rate)
    assert TABLE.dense_128 > TABLE.dense(WIDE._replace(rows=300)) / WIDE.products > TABLE.dense_1024


@pytest.mark.parametrize(("inputs", "rate"), [(64, 3e-11), (256, 3e-11), (512, 4e-11), (1024, 5e-11), (4096, 5e-11)])
def test_additions_of_a_linear_layer_cost_what_was_measured_at_its_number_of_inputs(inputs, rate):
    work, table = WIDE._replace(inputs=WIDE.rows * inputs), replace(TABLE, linear_add_short=3e-11)
    assert table.events(work, 1000.0) - table.events(work, 0.0) == pytest.approx(1000 * work.fan * rate)
    assert TABLE.events(work, 1000.0) - TABLE.events(work, 0.0) == pytest.approx(1000 * work.fan * 5e-11)  # a table of before
    conv = work._replace(kind="conv")
    assert table.events(conv, 1000.0) == TABLE.events(conv, 1000.0)


def test_a_gradient_without_events_grows_with_inputs_too():
    table, conv = replace(TABLE, linear_gradient_pass=1e-12), WIDE._replace(kind="conv")
    assert table.gradient(WIDE, 10.0) - TABLE.gradient(WIDE, 10.0) == pytest.approx(WIDE.products * 1e-12)
    assert table.gradient(conv, 10.0) == TABLE.gradient(conv, 10.0)


def test_what_is_remembered_of_a_product_is_of_that_table_and_bounded(monkeypatch):
    monkeypatch.setattr(costs, "_REMEMBERED", 2)
    dear = replace(LOOKS, lookup_linear=1.0)
    for rows in (1024, 64, 16, 1024):
        work = WIDE._replace(rows=rows, inputs=512 * rows, outputs=512 * rows)
        counts = [0.5 * work.inputs]
        assert LOOKS.form(work, counts, looks=True) == 1 and dear.form(work, counts, looks=True) != 1
        assert LOOKS.known(work) is LOOKS.known(work) and len(LOOKS._known) <= 2


def spikes(density, *shape):
    return (torch.rand(shape) < density).float()


def planned(x, keeps=True):
    found = plan(x, WIDE, keeps=keeps)
    names = {(0, 0): "events", (None, 0): "events in gradient", (0, None): "events in forward", (None, None): "dense, kept"}
    return None if found is None else (names[found.forward, found.gradient], found.packed.data.dtype)


def test_what_a_layer_does_over_densities_and_values():
    with choosing.deterministic(TABLE):
        assert planned(spikes(0.05, 1024, 512)) == ("events", torch.int64)
        assert planned(spikes(0.05, 1024, 512), keeps=False) == ("events in forward", torch.int64)
        assert planned(spikes(0.37, 1024, 512)) == ("events in gradient", torch.int64)  # its sums are cheaper
        assert planned(spikes(0.9, 1024, 512)) == ("dense, kept", torch.int64)
        assert planned(spikes(0.9, 1024, 512), keeps=False) is None
        assert planned(torch.rand(1024, 512)) is None
        hidden = spikes(0.05, 1024, 512)
        hidden[5, 100] = 0.5  # not in the sample
        assert planned(hidden) is None
        hidden[5, 100] = 100
        assert planned(hidden) == ("dense, kept", torch.uint8)
        expensive = replace(TABLE, pack=1e-6)
    with choosing.deterministic(expensive):
        assert planned(spikes(0.9, 1024, 512)) is None
    with choosing.deterministic("dense"):
        assert planned(spikes(0.05, 1024, 512)) is None


@pytest.mark.parametrize("density", [0.05, 0.9])
def test_a_layer_by_a_table_learns_as_a_dense_one(density):
    x, layer = spikes(density, 8, 128, 512), neuro.layers.Linear(512, 512)
    with torch.no_grad():
        layer.weight.copy_((layer.weight * 4096).round() / 4096)
        layer.bias.zero_()
    grad, found = torch.randint(-3, 4, (8, 128, 512)).float(), {}
    for choice in (TABLE, "dense"):
        with choosing.deterministic(choice):
            y = layer(x)
        found[choice] = (y, *torch.autograd.grad(y, list(layer.parameters()), grad))
    assert ("Spike" in found[TABLE][0].grad_fn.name()) and ("Spike" not in found["dense"][0].grad_fn.name())
    for a, b in zip(found[TABLE], found["dense"], strict=True):
        assert torch.equal(a, b)  # sums of multiples of 2^-12, exact


LOOKS = replace(TABLE, lookup_linear=5e-12, lookup_linear_gradient=6e-12, lookup_conv=7e-12, lookup_conv_gradient=8e-12)


@pytest.mark.parametrize(("densities", "form", "of_gradient"), [
    ([0.01], 0, 0), ([0.5], 1, 1), ([1.0], 1, 1), ([0.5, 0.01], 1, 1), ([0.5, 0.4], 2, 2), ([0.4, 0.4, 0.4, 0.4], None, None), ([0.0], 0, 0),
])  # fmt: skip
def test_dense_planes_are_looked_up_and_the_others_driven_by_events(densities, form, of_gradient):
    counts = [d * WIDE.inputs for d in densities]
    assert LOOKS.form(WIDE, counts, looks=True) == form and LOOKS.form_of_gradient(WIDE, counts, looks=True) == of_gradient
    assert LOOKS.form(WIDE, counts, looks=False) == TABLE.form(WIDE, counts, looks=True)  # of a table without lookup


@settings(max_examples=60, deadline=None)
@given(
    densities=st.lists(st.floats(0, 1), min_size=1, max_size=5).map(lambda d: sorted(d, reverse=True)),
    work=st.sampled_from([WIDE, Work("conv", 64 * 64 * 400, 64 * 64 * 9, 64 * 64 * 400, 64, 576)]), gradient=st.booleans(),
)  # fmt: skip
def test_the_form_is_the_cheapest_of_all(densities, work, gradient):
    """By brute force over how many planes are looked up."""
    counts, plane = [d * work.inputs for d in densities], LOOKS.lookup(work, gradient=gradient)
    driven = LOOKS.gradient if gradient else LOOKS.events
    most = MARGIN * (LOOKS.dense(work) + (LOOKS.unpack * work.inputs if gradient else 0))
    start = LOOKS.call + (0 if gradient else LOOKS.pack * work.inputs)
    costs = [driven(work, sum(counts))] + [k * plane + (driven(work, sum(counts[k:])) if sum(counts[k:]) else start) for k in range(1, len(counts) + 1)]
    found = (LOOKS.form_of_gradient if gradient else LOOKS.form)(work, counts, looks=True)
    assert found == (costs.index(min(costs)) if min(costs) < most else None)


def test_lanes_come_in_blocks():
    few, more = WIDE._replace(rows=1, inputs=512, outputs=512), WIDE._replace(rows=64, inputs=64 * 512, outputs=64 * 512)
    assert LOOKS.lookup(few) == pytest.approx(LOOKS.lookup(more)) and LOOKS.lookup(WIDE) < 17 * LOOKS.lookup(more)


def test_small_layers_ask_nothing(monkeypatch):
    monkeypatch.setattr(choosing, "_from_environment", lambda: None)
    monkeypatch.setattr(choosing, "_of_machine", lambda threads: pytest.fail("a table was asked for"))
    neuro.layers.Linear(32, 32)(spikes(0.1, 4, 2, 32))
    neuro.layers.Conv2d(4, 16, 3)(spikes(0.1, 4, 2, 4, 8, 8))


def test_the_table_is_measured_once_and_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NEURO_CACHE", str(tmp_path))
    monkeypatch.setattr(choosing, "_measured", {})
    monkeypatch.setattr(choosing, "_from_environment", lambda: None)
    asked = []
    monkeypatch.setattr(calibrating, "measure", lambda: asked.append(1) or TABLE)
    assert choosing.current() == choosing.current() == TABLE and len(asked) == 1
    assert capsys.readouterr().err.count("measuring what products with spikes cost") == 1
    (file,) = tmp_path.glob("products-*.json")
    choosing._measured.clear()  # as in another process
    assert choosing.current() == TABLE and len(asked) == 1
    torch.set_num_threads(4)  # the same table, shared by four
    assert choosing.current() == TABLE.on(4) and len(asked) == 1
    assert (TABLE.on(4).dense_conv, TABLE.on(4).call) == (TABLE.dense_conv / 4, TABLE.call)
    torch.set_num_threads(1)
    file.write_text("damaged")
    choosing._measured.clear()
    assert choosing.current() == TABLE and len(asked) == 2 and Costs.load(file) == TABLE


def test_measuring_gives_a_table():
    torch.set_num_threads(2)
    found = calibrating.measure()
    assert torch.get_num_threads() == 2
    assert all(v >= 0 for v in asdict(found).values()) and found.call > 0 and found.dense_1024 > 0


def test_measuring_where_a_first_product_may_stand(monkeypatch):
    """Inside an inference mode no gradient can be timed, and a default of float64 would mix types."""

    def once(calls, before=None):
        for call in calls.values():
            call()
        return dict.fromkeys(calls, 1.0)

    monkeypatch.setattr(calibrating, "_in_turns", once)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            assert calibrating.measure().dense_conv > 0
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("choice", [TABLE, "dense", "events", "lookup"])
def test_a_run_goes_on_with_its_own_choice(choice, tmp_path):
    path = tmp_path / "products.json"
    with choosing.deterministic(choice), choosing.kept_in(path):
        pass
    with choosing.deterministic(replace(TABLE, call=1.0)), choosing.kept_in(path):
        assert choosing.current() == choice
    with choosing.deterministic(choice), choosing.kept_in(tmp_path / "other.json", write=False):
        assert not (tmp_path / "other.json").exists()


@pytest.mark.parametrize("change", [{"version": VERSION + 1}, {"format": "x"}, {"seconds": {"pack": 1.0}}, {"seconds": asdict(replace(TABLE, pack=-1.0))}, {"seconds": None}])
def test_foreign_tables_are_refused(change, tmp_path):
    path = tmp_path / "t.json"
    TABLE.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FormatError):
        Costs.load(path)


def test_an_unknown_form_is_refused():
    with pytest.raises(ParameterError, match="no such form"):
        choosing.use("fast")


def test_deterministic_ends():
    before = choosing.asked()
    with pytest.raises(KeyError), neuro.deterministic("events"):
        assert choosing.asked() == "events"
        raise KeyError
    assert choosing.asked() == before


@pytest.mark.parametrize("leaving", list(itertools.permutations(range(3))))
def test_several_threads_that_enter_and_leave_in_any_order(leaving):
    before, forms = choosing.asked(), ["dense", "events", TABLE]
    inside = [neuro.deterministic(form) for form in forms]
    for form, one in zip(forms, inside, strict=True):
        one.__enter__()
        assert choosing.asked() == form
    left = set()
    for k in leaving:
        inside[k].__exit__(None, None, None)
        left.add(k)
        if 2 not in left:
            assert choosing.asked() == TABLE, "the last one that entered is still inside"
    assert choosing.asked() == before and not choosing._within


def test_a_deep_copy_trains():
    net = nn.Sequential(neuro.layers.Linear(16, 16))
    with neuro.deterministic("events"):
        net(spikes(0.5, 2, 3, 16)).sum().backward()
        import copy

        copy.deepcopy(net)(spikes(0.5, 2, 3, 16)).sum().backward()


def test_onednn_is_taken_where_the_table_says_that_it_is_faster():
    quick = replace(TABLE, onednn_1024=1e-11)
    assert quick.prefers_onednn(WIDE) and not TABLE.prefers_onednn(WIDE)  # an older table has no figure for it
    assert not quick.prefers_onednn(WIDE._replace(rows=100)) and not quick.prefers_onednn(WIDE._replace(kind="conv"))
    assert not replace(TABLE, onednn_1024=1.01 * TABLE.dense_1024).prefers_onednn(WIDE)
    assert quick.dense(WIDE) == pytest.approx(WIDE.products * 1e-11) and TABLE.dense(WIDE) == pytest.approx(WIDE.products * 2e-11)
    for table in (TABLE, quick):
        with choosing.deterministic(table):
            found = plan(spikes(0.9, 1024, 512), WIDE, keeps=True)
        assert found is not None and found.onednn == (table is quick)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_of_onednn_are_those_of_torch(dtype):
    x, w, b, g = (torch.randint(-8, 9, shape).to(dtype) / 8 for shape in ((3, 700, 40), (24, 40), (24,), (2100, 24)))
    for bias in (b, None):
        y = dense.product(x, w, bias, onednn=True)
        assert y.shape == (3, 700, 24) and torch.equal(y, nn.functional.linear(x, w, bias))  # multiples of 1/64, exact
    assert torch.equal(dense.input_gradient(g, w, onednn=True), g @ w)


def test_query_key_and_value_turn_their_input_into_bits_once(monkeypatch):
    packed = []
    monkeypatch.setattr(planning, "pack", lambda x, *values: packed.append(x) or pack(x, *values))
    attention, x = neuro.layers.SpikingSelfAttention(64, 2, lambda threshold: neuro.neurons.LIF(threshold=threshold)), spikes(0.3, 2, 2, 16, 64)
    with choosing.deterministic("events"):
        attention(x)
        assert sum(p.data_ptr() == x.data_ptr() for p in packed) == 1
        packed.clear()
        layer = neuro.layers.Linear(64, 8)
        before = layer(x)
        x.numpy()[:] = 1 - x.numpy()  # a change that torch does not see
        assert not torch.equal(layer(x), before) and len(packed) == 2
