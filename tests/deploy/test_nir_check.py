"""`neuro nir check`: what a file holds, a run, and remarks on readers; from Python and from the command line."""

import re
import warnings

import nir
import numpy as np
import pytest
import torch

import neuro
from neuro import cli, layers, neurons, reset
from neuro.datasets import NMNIST, Frames, Sensor, make_events
from neuro.datasets.formats.nmnist import write_nmnist
from neuro.deploy import nir as exchange
from neuro.deploy.nir_check import describe
from neuro.surrogate import ATan
from neuro.training import Preprocess, Run, save_model


def exported(model, x, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return exchange.export(model.eval(), x, **how)


@pytest.fixture
def file(tmp_path):
    torch.manual_seed(0)
    model = layers.Sequential(layers.Linear(3, 4), neurons.LIF(tau=4.0, reset=reset.subtract), layers.Linear(4, 2), neurons.IF(), layers.MeanOverTime())
    exported(model, torch.rand(9, 2, 3), dt=1e-3, soft_reset="stated", path=tmp_path / "a.nir")
    return tmp_path / "a.nir"


def test_a_file_is_described(file):
    text = describe(file)
    assert "6 nodes, 5 edges, 26 weights, dt = 0.001 s, written by neuro, readout: mean over time" in text
    assert "tau=0.004 (4)" in text and "[reset: subtract]" in text and "1 -> 2" in text
    assert "run here on random spikes, 50 steps, 4 samples" in text
    assert "snnTorch 1.0.0 takes dt for 1e-4 s: 1\n" in text
    assert "snnTorch 1.0.0 resets to zero: 1\n" in text
    assert "(with an error) refuses it unless r is 1/dt: 3" in text


def test_the_run_is_the_network_s(file):
    network = exchange.load(file)
    x = (torch.rand(50, 4, 3, generator=torch.Generator().manual_seed(7)) < 0.5).float()
    with torch.no_grad():
        rate = network.values(x)["1"].mean().item()
    assert f"  1: rate {rate:.4f}" in describe(file, seed=7)


def test_an_assumed_step_is_said():
    one = np.ones(2)
    graph = nir.NIRGraph.from_list(nir.Linear(np.eye(2)), nir.LIF(tau=2e-3 * one, r=one, v_leak=0 * one, v_threshold=one))
    assert "dt = 0.0001 s, assumed" in describe(graph)
    assert "assumed" not in describe(graph, dt=1e-3)
    assert "needs no time step" in describe(nir.NIRGraph.from_list(nir.Linear(np.eye(2)), nir.IF(r=one, v_threshold=one)))


def test_nothing_is_said_against_what_all_read_well():
    model = layers.Sequential(layers.Linear(3, 4), neurons.LIF(tau=4.0, spike=ATan(strict=True)))
    text = describe(exported(model, torch.rand(9, 2, 3), dt=1e-4))
    assert "snnTorch" not in text and "Norse" not in text


def test_the_command(file, capsys):
    cli.main(["nir", "check", str(file)])
    assert "6 nodes" in capsys.readouterr().out
    cli.main(["nir"])
    assert "check" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["nir", "check", str(file) + "x"])
    assert stop.value.code == 2 and "There is no file" in capsys.readouterr().err


def test_export_of_a_run_that_nir_cannot_hold(capsys, tmp_path, make_exact):
    model = make_exact(neuro.models.small("spikformer_nmnist", dim=16, heads=2, image=34, depth=1))
    events = make_events(np.arange(800) % 34, np.arange(800) % 31, np.arange(800) * 300, np.arange(800) % 2)
    (tmp_path / "data/0").mkdir(parents=True)
    write_nmnist(events, tmp_path / "data/0/00000.bin")
    Run.create(tmp_path / "run", recipe="spikformer_nmnist", options={}, seed=1)
    save_model(model, tmp_path / "run", classes=NMNIST.classes, preprocess=Preprocess(Frames(bins=3), Sensor(34, 34)))
    with pytest.raises(SystemExit) as stop:
        cli.main(["nir", "export", str(tmp_path / "run"), "--data", str(tmp_path / "data"), "--dt", "1e-3"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "NIR has no node for it" in said and "1x1" in said and "Traceback" not in said
    assert not list((tmp_path / "run").glob("*.nir"))


def test_export_of_a_run(capsys, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = layers.Sequential(layers.Flatten(), layers.Linear(2 * 34 * 34, 8), neurons.LIF(), layers.Linear(8, 10), layers.MeanOverTime()).eval()
    model[1].weight.data *= 20
    model.classes, model.preprocess = NMNIST.classes, Preprocess(Frames(bins=3), Sensor(34, 34))
    monkeypatch.setattr("neuro.commands.nir.load", lambda run: model)
    (tmp_path / "data/0").mkdir(parents=True)
    write_nmnist(make_events(np.arange(800) % 34, np.arange(800) % 31, np.arange(800) * 300, np.arange(800) % 2), tmp_path / "data/0/00000.bin")
    cli.main(["nir", "export", str(tmp_path), "--data", str(tmp_path / "data"), "--dt", "1e-3"])
    assert "neuro nir check" in capsys.readouterr().out
    x = torch.rand(5, 2, 2, 34, 34)
    torch.testing.assert_close(exchange.load(tmp_path / "network.nir")(x), model(x))


def test_remarks_follow_the_numbers():
    def silent(text):
        return [line.strip() for line in text.splitlines() if line.startswith("  snnTorch") and "(with an error)" not in line]

    model = layers.Sequential(layers.Linear(3, 4), neurons.PLIF(shape=(4,), spike=ATan(strict=True)))
    x = torch.rand(9, 2, 3)
    assert not silent(describe(exported(model, x, dt=1e-4)))
    model[1].w.data[:] = torch.linspace(-1, 1, 4)
    assert silent(describe(exported(model, x, dt=1e-4))) == ["snnTorch 1.0.0 takes the gain of one neuron for all: 1"]


def test_pools_and_delays_are_remarked_on():
    model = layers.Sequential(layers.Conv2d(1, 2, 3, padding=1), neurons.LIF(tau=4.0, spike=ATan(strict=True)), layers.MaxPool2d(2), layers.Delay(2), layers.Flatten())
    x = torch.rand(9, 2, 1, 4, 4)
    text = describe(exported(model, x, dt=1e-4))
    assert re.search(r"2\.sum +SumPool2d", text) and "tau=0.0002" in text and "  2: rate" in text and "2.sum: rate" not in text  # run as the pool it is
    assert "SpikingJelly 2.0.0 fires at the threshold already: 1\n" in text  # a pool's neuron never meets its threshold
    assert "snnTorch 1.0.0 (with an error) does not know it: 3" in text and "Norse 1.1.0 leaves it out" in text
    assert "does not know it: 2, 3" in describe(exported(model, x, dt=1e-4, max_pool="Threshold"))
