"""Networks that answer at every step: the same answers in the definition, in the twin, in torch and in Lava."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import neuro
from neuro.commands.export import main as export
from neuro.datasets.loading import collate
from neuro.deploy.added_classes import add_classes
from neuro.deploy.agreement import compare, evaluate_quantized
from neuro.deploy.lava import compare as compare_with_lava
from neuro.deploy.lava import run_lava
from neuro.deploy.lava_probes import compare_probes, twin_probes
from neuro.deploy.lava_script import write_script
from neuro.deploy.network import Dense, Input, IntegerNetwork, Readout, StepReadout
from neuro.deploy.netx import write_netx
from neuro.deploy.qat import QuantizationAware
from neuro.deploy.quantize import quantize
from neuro.deploy.reference import run_reference
from neuro.deploy.restored import graph_of
from neuro.deploy.twin import run_twin
from neuro.errors import GraphError, ParameterError, ShapeError
from neuro.layers import Flatten, Linear, MeanOverTime, Sequential, SumOverTime
from neuro.models import recipes
from neuro.neurons import IF, LIF, PLIF, Recurrent
from neuro.reset import subtract
from neuro.surrogate import ATan, Levels
from neuro.training.evaluate import evaluate, samples

STRICT = ATan(2.0, strict=True)


class TwoHeads(nn.Module):
    """Two heads whose currents are summed, one on the neurons and one on the input."""

    def __init__(self):
        super().__init__()
        self.fc, self.lif, self.head, self.short = Linear(5, 8), LIF(spike=STRICT), Linear(8, 4), Linear(5, 4, bias=False)

    def forward(self, x):
        return self.head(self.lif(self.fc(x))) + self.short(x)


ENDS = {
    "a dense layer": lambda: Sequential(Linear(5, 8), PLIF(shape=(8,), spike=STRICT), Linear(8, 4)),
    "a dense layer without bias": lambda: Sequential(Linear(5, 8), IF(spike=STRICT), Linear(8, 4, bias=False)),
    "spikes": lambda: Sequential(Linear(5, 4), LIF(spike=STRICT, reset=subtract)),
    "levels": lambda: Sequential(Linear(5, 4), LIF(decay=0.5, threshold=0.3, spike=Levels(4, unit=0.3, strict=True), reset=subtract)),
    "feedback": lambda: Sequential(Linear(5, 4), Recurrent(LIF(spike=STRICT), 4)),
    "two heads": TwoHeads,
}


def a_network(end, seed, steps=9, batch=3):
    """(model, counts, lengths) with weights at which spikes flow."""
    torch.manual_seed(seed)
    net = ENDS[end]().eval()
    for p in net.parameters():
        if p.dim() > 1:
            p.data += 0.3 * p.abs().mean()
    return net, torch.poisson(torch.full((steps, batch, 5), 0.6)), torch.tensor([steps, 1, 5][:batch])


@settings(max_examples=6, deadline=None)
@given(end=st.sampled_from(sorted(ENDS)), seed=st.integers(0, 999), bits=st.sampled_from([3, 8]), per_channel=st.booleans())
def test_definition_twin_and_torch_answer_the_same(end, seed, bits, per_channel):
    net, x, lengths = a_network(end, seed)
    network, report = quantize(net, x, lengths=lengths, message_bits=None, weight_bits=bits, per_channel=per_channel)
    assert isinstance(network.readout, StepReadout) and report.answers == 15 and report.samples == 3
    twin = run_twin(network, x.numpy().astype(int), lengths.numpy(), record=True)
    assert twin.acc.shape == twin.logits.shape == (9, 3, 4) and twin.predictions.shape == (9, 3)
    aware = QuantizationAware(net, x, message_bits=None, weight_bits=bits, per_channel=per_channel)
    with torch.no_grad():
        values = aware.values(x, lengths)
    for b, steps in enumerate(lengths.tolist()):
        trace = run_reference(network, x[:steps, b].numpy().astype(int))
        assert (trace.acc == twin.acc[:steps, b]).all() and (twin.predictions[:steps, b] == trace.acc.argmax(1)).all()
        assert not twin.acc[steps:, b].any() and (twin.predictions[steps:, b] == -1).all()
        for name, spikes in twin.spikes.items():
            assert (values[name][:steps, b].numpy() == spikes[:steps, b]).all(), name
    np.testing.assert_allclose(values[network.readout.name].numpy(), twin.logits, rtol=1e-12, atol=1e-12)
    assert torch.equal(aware.run(x, lengths), values[network.readout.name].float())
    again, same = quantize(aware, x, lengths=lengths)
    assert same.changed == 0 and same.agree == same.answers and same.score_error < 1e-6
    assert (run_twin(again, x.numpy().astype(int), lengths.numpy()).acc == twin.acc).all()


def test_each_answer_is_the_heads_of_that_step_alone():
    """By hand: nothing of an answer is left in the next one, and a score has the float model's units."""
    net = Sequential(Linear(2, 2))
    net[0].weight.data, net[0].bias.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]]), torch.tensor([0.25, 0.0])
    x = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 2.0]])[:, None]
    network, report = quantize(net, x)
    twin = run_twin(network, x.numpy().astype(int))
    assert twin.logits[:, 0] == pytest.approx(np.array([[3.25, 0], [0.25, 0], [0.25, -2]]), abs=0.02)
    assert report.score_error == pytest.approx(np.abs(twin.logits[:, 0] - net(x)[:, 0].detach().numpy()).max())


@pytest.mark.parametrize("end", ["a dense layer", "two heads", "spikes"])
def test_on_the_grid_the_answers_are_those_of_the_float_network(end):
    """Weights of few bits, thresholds that are whole: nothing is rounded, at any step."""
    net, x, lengths = a_network(end, 3)
    for m in net.modules():
        if isinstance(m, Linear):
            m.weight.data = torch.randint(-127, 128, m.weight.shape) / 64
            m.weight.data[0, 0] = 127 / 64
            if m.bias is not None:
                m.bias.data = torch.randint(-9, 10, m.bias.shape) / 64
        if isinstance(m, PLIF):
            m.w.data.zero_()  # decay 1/2
    _, report = quantize(net, x, lengths=lengths, message_bits=None)
    assert report.agree == report.answers and report.score_error < 1e-6 and report.changed <= 0.01


def test_padding_changes_no_answer():
    net, x, lengths = a_network("a dense layer", 1)
    network, whole = quantize(net, x, lengths=lengths, message_bits=None)
    graph = neuro.trace(net, x)
    parts = [compare(graph, network, x[:n, b : b + 1], None, whole.layers) for b, n in enumerate(lengths.tolist())]
    assert whole.agree == sum(p.agree for p in parts) and whole.answers == sum(p.answers for p in parts)
    assert whole.score_error == max(p.score_error for p in parts) and "15 answers" in whole.summary()


def test_calibration_and_training_take_it():
    net, x, lengths = a_network("a dense layer", 2, steps=20)
    plain, mended = (quantize(net, x, lengths=lengths, message_bits=None, weight_bits=3, calibrate=c)[1] for c in (False, True))
    assert plain.answers == mended.answers and plain.score_error != mended.score_error
    aware = QuantizationAware(net, x, message_bits=None, weight_bits=4)
    labels, optimizer, losses = torch.randint(0, 4, (20, 3)), torch.optim.Adam(aware.parameters(), 0.03), []
    for _ in range(15):
        loss = F.cross_entropy(aware(x).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in aware.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert quantize(aware, x)[1].changed == 0


def test_accuracy_and_loss_by_step():
    net, x, lengths = a_network("a dense layer", 4)
    network, _ = quantize(net, x, lengths=lengths, message_bits=None)
    labels = torch.randint(0, 4, (3, 9))
    found = evaluate_quantized(net, network, [(x, lengths, labels), (x[:, :1], None, labels[:1])])
    assert found.samples == 15 + 9 and "24 answers" in repr(found)
    with torch.no_grad():
        y = net(x)
    kept = [(y[t, b], labels[b, t]) for t in range(9) for b in range(3) if t < lengths[b]] + [(y[t, 0], labels[0, t]) for t in range(9)]
    expected = F.cross_entropy(torch.stack([k[0] for k in kept]).double(), torch.stack([k[1] for k in kept]))
    assert found.float_loss == pytest.approx(expected.item()) and found.float_accuracy == np.mean([int(a.argmax()) == int(b) for a, b in kept])
    rows = found.by_step()
    assert [r["step"] for r in rows] == list(range(9)) and [r["samples"] for r in rows] == [4, 3, 3, 3, 3, 2, 2, 2, 2]
    assert sum(r["samples"] * r["integer_accuracy"] for r in rows) == pytest.approx(24 * found.integer_accuracy)
    assert evaluate_quantized(net, network, [x]).by_step()[0]["float_accuracy"] is None
    with pytest.raises(ShapeError, match=r"labels \[3\]   answers \[9, 3\]"):
        evaluate_quantized(net, network, [(x, lengths, labels[:, 0])])
    with pytest.raises(ParameterError, match="1 of 2 batches"):
        evaluate_quantized(net, network, [(x, lengths, labels), x])
    foreign = evaluate_quantized(net, network, [(x, lengths, labels + 2)])
    assert foreign.integer_loss == np.inf and 0 <= foreign.integer_accuracy < 1
    once = Sequential(Linear(5, 4), MeanOverTime())
    with pytest.raises(ParameterError, match="answers once"):
        evaluate_quantized(once, quantize(once, x)[0], [x]).by_step()


def test_many_steps_do_not_overflow_what_is_not_summed():
    """2^20 a step: a sum over 4096 steps would pass 2^31 and is refused, an answer at every step is not."""
    head = [Input("x", (1,), 16), Dense("a", "x", np.array([[16]]))]
    x = np.full((4096, 1, 1), 2**16 - 1)
    with pytest.raises(GraphError, match="4096 steps"):
        run_twin(IntegerNetwork([*head, Readout("r", "a", np.array([0]))]), x)
    assert (run_twin(IntegerNetwork([*head, StepReadout("r", "a", np.array([1]))]), x).acc == 16 * (2**16 - 1) + 1).all()


def test_file_graph_and_what_cannot_take_it(tmp_path):
    net, x, _ = a_network("a dense layer", 5)
    network, _ = quantize(net, x, message_bits=None)
    back = IntegerNetwork.load(network.save(tmp_path / "n.npz"))
    assert isinstance(back.readout, StepReadout) and back.readout.scale == network.readout.scale
    graph = graph_of(network)
    scores = graph.run(x).numpy() * network.readout.scale
    assert scores.shape == (9, 3, 4) and np.abs(scores - net(x).detach().numpy()).mean() < 0.05
    with pytest.raises(GraphError, match="StepReadout.*(.|\n)*every step"):
        write_netx(network, tmp_path / "n.net")
    with pytest.raises(GraphError, match="answers at every step"):
        add_classes(network, x.numpy().astype(int), np.full(3, 4), new=1)
    with pytest.raises(GraphError, match="StepReadout(.|\n)*classes"):
        IntegerNetwork([*network.nodes[:-1], replace(network.readout, bias=np.zeros(3, int))])


def test_a_run_on_text_is_exported(tmp_path, capsys):
    """Trained, exported and run again from the file: the same share of right next characters as `neuro evaluate` finds, as nearly as the integers."""
    (tmp_path / "t.txt").write_text("abcd" * 300)
    recipes.load("series_text").main(out=tmp_path / "run", data=tmp_path / "t.txt", epochs=6, steps=8, width=32, batch_size=4, lr=0.03)
    export(tmp_path / "run", tmp_path / "t.txt", samples=9)
    out = capsys.readouterr().out
    assert "9 recordings, 72 answers" in out and "on these: 72 answers" in out and "accuracy float" in out
    model, network = neuro.load(tmp_path / "run"), IntegerNetwork.load(tmp_path / "run" / "network.npz")
    frames = samples(model, tmp_path / "run", tmp_path / "t.txt")
    x, lengths, labels = collate([frames[i] for i in range(len(frames))])
    found = evaluate_quantized(model, network, [(x, lengths, labels)])
    assert found.float_accuracy == pytest.approx(evaluate(tmp_path / "run", tmp_path / "t.txt").scores.accuracy)
    assert found.integer_accuracy > 0.5 and found.integer_loss == pytest.approx(found.float_loss, rel=0.05)


def test_maps_are_flattened_first():
    x = torch.ones(3, 1, 2, 4, 4)
    net = Sequential(Flatten(), Linear(32, 4), IF(), Linear(4, 2))
    assert run_twin(quantize(net, x)[0], x.numpy().astype(int)).acc.shape == (3, 1, 2)


def test_lava_sums_over_time(lava):
    net, x, _ = a_network("a dense layer", 6, steps=6, batch=2)
    network, _ = quantize(Sequential(*net, SumOverTime()), x, message_bits=None)
    twin, found = run_twin(network, x.numpy().astype(int), record=True), run_lava(network, x.numpy().astype(np.int32))
    assert compare_with_lava(twin, found).exact and (found.logits == twin.logits).all() and np.abs(twin.logits).max() > 0


@pytest.mark.parametrize("end", ["a dense layer", "feedback"])
def test_lava_answers_the_same_at_every_step(lava, end, tmp_path):
    """As a whole and step by step; recordings back to back, each from zero; the script too."""
    net, x, _ = a_network(end, 6, steps=6, batch=2)
    network, _ = quantize(net, x, message_bits=None)
    counts = x.numpy().astype(np.int32)
    twin = run_twin(network, counts, record=True)
    ran = [run_lava(network, counts), *([run_lava(network, counts, step_by_step=True)] if end != "feedback" else [])]
    for found in ran:
        agreement = compare_with_lava(twin, found, network.readout.name)
        assert agreement.exact and agreement.layers[-1].membranes == 6 * 2 * 4, str(agreement)
        assert (found.logits == twin.logits).all() and (found.predictions == twin.predictions).all()
    wrong = replace(ran[0], acc=ran[0].acc + (np.arange(6) == 4)[:, None, None])
    assert compare_with_lava(twin, wrong).layers[-1].first == (0, 4, (0,))
    if end == "feedback":
        return
    probe = [network.readout.name]
    assert not any(a.differ for a in compare_probes(twin_probes(network, counts, probe), run_lava(network, counts, probe=probe)))
    done = subprocess.run([str(lava), str(write_script(network, tmp_path))], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0 and "every membrane and score: equal" in done.stdout, done.stderr
