"""`neuro map` on small saved models and a few recordings: what is printed, what is written, what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch

from neuro import cli, layers, models, plots
from neuro.commands.map import write
from neuro.commands.mapped import Source, source_of
from neuro.datasets import NMNIST, DVSObjects, Frames, Sensor, WISDMWatch, make_events
from neuro.datasets.encoding import Accelerations
from neuro.datasets.formats.nmnist import write_nmnist
from neuro.deploy import examples
from neuro.deploy import nir as exchange
from neuro.deploy.chips import CHIPS
from neuro.deploy.mapping import estimated, firing_rates, map_network
from neuro.errors import ParameterError, ShapeError
from neuro.models import registry
from neuro.models.recipes import conv_objects
from neuro.neurons import IF, LIF
from neuro.plots.placement import placement
from neuro.reset import subtract
from neuro.tracing import trace
from neuro.training import Preprocess, Run, load, save_model
from neuro.training.judging import made
from neuro.training.preprocess import PreprocessArray


def run_cli(capsys, *argv):
    """Exit code, output and errors of one command in this process."""
    try:
        cli.main([str(a) for a in argv])
        code = 0
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four recordings of two classes."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(4):
        n = 900
        events = make_events(rng.integers(0, 34, n), rng.integers(0, 34, n), np.sort(rng.integers(0, 300_000, n)), rng.integers(0, 2, n))
        (folder / f"test/{i % 2}").mkdir(parents=True, exist_ok=True)
        write_nmnist(events, folder / f"test/{i % 2}/{i:05d}.bin")
    return folder


@pytest.fixture
def run(tmp_path):
    """A run whose model is small; attention keeps it from every chip but SpiNNaker 2."""
    torch.manual_seed(0)
    folder = tmp_path / "run"
    Run.create(folder, recipe="spikformer_nmnist", options={"out": str(folder)}, seed=1)
    save_model(models.small("spikformer_nmnist", dim=16, heads=2, image=34, depth=1), folder, classes=NMNIST.classes, preprocess=Preprocess(Frames(bins=3), Sensor(34, 34)))
    return folder


def test_a_run_is_mapped_with_data_and_written(capsys, run, data):
    code, out, err = run_cli(capsys, "map", run, "--chip", "spinnaker2", "--data", data, "--samples", 2)
    assert (code, err) == (0, "") and "cores hold the network, each neuron once" in out and "at the measured rates" in out and "3 steps" in out
    document = json.loads((run / "map_spinnaker2.json").read_text())
    assert document["format"] == "neuro-mapping" and document["chip"] == "spinnaker2" and document["parts"] and not document["not_checked"]
    assert (run / "map_spinnaker2.png").read_bytes()[:4] == b"\x89PNG"
    page = (run / "map_spinnaker2.html").read_text()
    assert "blocks.0.mlp.up_lif" in page and ("<svg" in page or "data:image/png" in page) and "http" not in page.replace("http-equiv", "")


def test_rates_are_those_of_the_steps_that_are_asked_for(capsys, cnn, data):
    """Neurons charge up: of the first step of three the rates are other ones, and the estimate with them."""
    energy = {}
    for steps in (1, 3, 5):
        code, out, err = run_cli(capsys, "map", cnn, "--chip", "loihi1", "--data", data, "--steps", steps)
        assert (code, err) == (0, "")
        assert ("the first 1 are looked at" in out) == (steps == 1) and ("have 3 steps, fewer than the 5" in out) == (steps == 5)
        energy[steps] = next(e for e in json.loads((cnn / "map_loihi1.json").read_text())["estimates"] if e["what"] == "energy")["at_rates"]
    x = Source.recordings(source_of(cnn), data, 16).x
    mapped = map_network(trace(load(cnn), x[:1, :1]), "loihi1", input_bits=8, steps=1)
    expected = next(e for e in estimated(mapped, 1, firing_rates(mapped.graph, x[:1]), None).estimates if e.what == "energy")
    assert energy[1] == pytest.approx(expected.at_rates) and energy[1] < energy[3] / 3 * 0.98 and energy[5] == pytest.approx(energy[3] / 3 * 5)


def test_without_data_what_was_not_told_is_said(capsys, run, tmp_path):
    code, out, _ = run_cli(capsys, "map", run / "model.safetensors", "--chip", "spinnaker2", "--out", tmp_path / "elsewhere")
    assert code == 0 and "one step" in out and "not checked: bits of an input value" in out and "measured rates" not in out
    assert sorted(p.name for p in (tmp_path / "elsewhere").iterdir()) == ["map_spinnaker2.html", "map_spinnaker2.json", "map_spinnaker2.png"]


@pytest.mark.parametrize("chip", sorted(set(CHIPS) - {"spinnaker2"}))
def test_a_network_that_does_not_fit_is_refused_after_its_table(capsys, run, chip):
    code, out, err = run_cli(capsys, "map", run, "--chip", chip)
    assert code == 2 and "cannot be held" in out and "blocks.0.attention.product_lif" in out
    assert "the network does not fit" in err and ": cannot. " in err and "limit" in err and "Traceback" not in err
    document = json.loads((run / f"map_{chip}.json").read_text())
    assert document["verdict"] == "cannot" and document["refused"] in err and not (run / f"map_{chip}.html").exists()


def spiking_cnn():
    """Two convolutions and a dense layer, which every clocked chip holds after changes."""
    how = {"bias": False}
    return layers.Sequential(
        layers.Conv2d(2, 4, 3, padding=1, **how), layers.BatchNorm(4), LIF(threshold=0.2), layers.MaxPool2d(2),
        layers.Conv2d(4, 6, 3, padding=1, **how), LIF(threshold=0.2), layers.MaxPool2d(2), layers.Flatten(), layers.Linear(6 * 8 * 8, 10, **how), layers.MeanOverTime(),
    )  # fmt: skip


@pytest.fixture
def cnn(tmp_path, monkeypatch):
    """A run of a model that stands in the registry for this test only."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    folder = tmp_path / "cnn"
    model = models.register()(spiking_cnn)()
    Run.create(folder, recipe="cnn", options={"out": str(folder)}, seed=1)
    save_model(model, folder, classes=NMNIST.classes, preprocess=Preprocess(Frames(bins=3), Sensor(34, 34)))
    return folder


def test_changes_are_applied_compared_and_written(capsys, cnn, data):
    for lacking in (("--data", data), ("--dt", 0.1)):
        code, _, err = run_cli(capsys, "map", cnn, "--chip", "loihi1", "--apply", "true", *lacking)
        assert code == 2 and "--apply true needs --data and --dt" in err
    code, out, err = run_cli(capsys, "map", cnn, "--chip", "loihi1", "--data", data, "--samples", 4, "--apply", "true", "--dt", 0.1)
    assert (code, err) == (0, "") and "of 4 recordings get the same answer" in out and "fire where any input fires" in out
    document = json.loads((cnn / "map_loihi1.json").read_text())
    assert document["verdict"] == "fits after retraining" and any("input bits" in f["rule"] for f in document["layers"][0]["findings"])  # counts above 1
    loaded = exchange.load(cnn / "map_loihi1.nir")
    assert loaded(torch.zeros(2, 1, 2, 34, 34)).shape[-1] == 10
    before = {p: p.read_bytes() for p in cnn.iterdir() if p.name.startswith("model")}
    assert before and run_cli(capsys, "map", cnn, "--chip", "loihi2")[0] == 0 and all(p.read_bytes() == raw for p, raw in before.items())


def test_mistakes_are_named(capsys, run, tmp_path):
    for argv, said in [
        (("map", run, "--chip", "loihi9"), "Did you mean loihi"), (("map", tmp_path / "nothing", "--chip", "akida"), "nothing"),
        (("map", run, "--chip", "akida", "--weight-bits", 1), "no weights of 1 bits"), (("map", run, "--chip", "akida", "--steps", 0), "whole number from 1"),
        (("map", run, "--chip", "akida", "--dt", "-1"), "dt must be positive"), (("map", run, "--chip", "akida", "--data", tmp_path / "none"), "none"),
    ]:  # fmt: skip
        code, _, err = run_cli(capsys, *argv)
        assert code == 2 and said in err and "Traceback" not in err, argv


def test_the_picture(recwarn):
    parts = [(0, "a", 0.5), (0, "b", 0.25), (3, "b", 1.0)]
    for cores, given in ((4, parts), (1, [(0, "a", 0.0)]), (152, [(k, f"layer.{k // 2}.lif", 0.9) for k in range(60)]), (1024, parts), (9, [])):
        assert plots.to_png(placement(cores, given, totals={"neurons": 0.2, "memory bits": 1.0}))[:4] == b"\x89PNG"
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]
    with pytest.raises(ShapeError, match="core that there is not"):
        placement(3, parts)
    with pytest.raises(ParameterError, match="filled beyond its limit"):
        placement(4, [*parts, (3, "c", 0.1)])


def test_an_integer_network_file_is_mapped_as_it_is(capsys, run, data, tmp_path):
    assert run_cli(capsys, "export", run, "--data", data, "--samples", 2)[0] == 0
    code, out, err = run_cli(capsys, "map", run / "network.npz", "--chip", "spinnaker2", "--data", data, "--samples", 2)
    assert (code, err) == (0, "") and "integers as they are" in out and "at the measured rates" in out
    assert "rounded to" not in out and "not checked: bits" not in out and "holds float32" not in out
    document = json.loads((run / "map_spinnaker2.json").read_text())
    assert document["notes"] and {p["layer"] for p in document["parts"]} >= {"blocks.0.mlp.up_lif", "readout"}
    alone = tmp_path / "alone.npz"
    alone.write_bytes((run / "network.npz").read_bytes())
    assert run_cli(capsys, "map", alone, "--chip", "spinnaker2")[0] == 0 and (tmp_path / "map_spinnaker2.png").exists()
    code, _, err = run_cli(capsys, "map", alone, "--chip", "spinnaker2", "--data", data)
    assert code == 2 and "does not say how recordings become its input" in err
    alone.write_bytes(alone.read_bytes()[:-500])
    code, _, err = run_cli(capsys, "map", alone, "--chip", "spinnaker2")
    assert code == 2 and "alone.npz" in err and "Traceback" not in err


def test_a_registered_model_is_mapped_by_name(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, chip in [("conv_mnist", "loihi2"), ("series_braille", "spinnaker2")]:
        code, out, err = run_cli(capsys, "map", name, "--chip", chip)
        assert (code, err) == (0, "") and "not trained" in out and (tmp_path / f"map_{chip}.html").exists()
    code, _, err = run_cli(capsys, "map", "conv_mnits", "--chip", "akida")
    assert code == 2 and "looked for a folder, a file, and a registered model" in err and "Did you mean conv_mnist" in err
    (tmp_path / "notes.txt").write_text("none")
    code, _, err = run_cli(capsys, "map", "notes.txt", "--chip", "akida")
    assert code == 2 and "is no network" in err


def made_run(folder, recipe, preprocess, classes, simulated=20):
    """An untrained run of a recipe, on simulated examples."""
    torch.manual_seed(0)
    Run.create(folder, recipe=recipe, options={"out": str(folder), "data": None, "simulated": simulated, "seed": 0, "tune": False}, seed=0)
    save_model(models.create(recipe), folder, classes=classes, preprocess=preprocess)
    return folder


@pytest.fixture
def series(tmp_path):
    """A run of currents: accelerations, below 0 as often as above."""
    return made_run(tmp_path / "series", "series_activities", PreprocessArray(Accelerations()), WISDMWatch.classes)


def test_a_run_of_arrays_is_mapped_with_its_own_part_and_real_values_are_said(capsys, series, tmp_path):
    code, out, _ = run_cli(capsys, "map", series, "--chip", "spinnaker2", "--out", tmp_path, "--samples", 3)
    assert code == 0 and "the test part of the simulated examples" in out and "no count of events: values -" in out and "at the measured rates" in out
    document = json.loads((tmp_path / "map_spinnaker2.json").read_text())
    assert len(document["notes"]) == 2 and any("bits of an input value" in line for line in document["not_checked"])
    energy = document["estimates"][0]
    assert 0 < energy["low"] <= energy["at_rates"] <= energy["high"]
    assert "no count of events" in (tmp_path / "map_spinnaker2.html").read_text()


def test_own_data_that_are_gone_or_unknown_are_an_error_with_its_cure(capsys, series, tmp_path):
    shutil.copytree(series, tmp_path / "run")
    recipe = json.loads((tmp_path / "run/recipe.json").read_text())
    (tmp_path / "run/recipe.json").write_text(json.dumps({**recipe, "options": {**recipe["options"], "data": str(tmp_path / "gone.npz")}}))
    code, _, err = run_cli(capsys, "map", tmp_path / "run", "--chip", "loihi1")
    assert code == 2 and "are not where they were" in err and "Give --data" in err
    (tmp_path / "run/recipe.json").unlink()
    code, _, err = run_cli(capsys, "map", tmp_path / "run/model.safetensors", "--chip", "loihi1")
    assert code == 2 and "does not say what its input is worth" in err and "recipe.json" in err and not list((tmp_path / "run").glob("map_*"))


def test_events_of_a_recipe_are_read_as_its_run_reads_them(capsys, tmp_path, monkeypatch):
    """Recordings in other files than LABEL/SAMPLE.bin: what the recipe's `parts` makes of --data is looked at."""
    run, asked = made_run(tmp_path / "run", "conv_objects", Preprocess(conv_objects.frames(5), DVSObjects.sensor), DVSObjects.classes), []

    def parts(options):
        asked.append(options["data"])
        return made(DVSObjects, 12, 0)

    monkeypatch.setattr(conv_objects, "parts", parts)
    code, out, _ = run_cli(capsys, "map", run, "--chip", "spinnaker2", "--data", tmp_path, "--samples", 2, "--out", tmp_path / "maps")
    assert code == 0 and asked == [tmp_path] and "5 steps" in out and "at the measured rates" in out and "no count" not in out


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other zip", "safetensors"])
@pytest.mark.parametrize("chip", ["akida", "xylo"])
def test_a_damaged_network_is_refused_in_a_sentence(capsys, tmp_path, damage, chip):
    path = tmp_path / ("model.safetensors" if damage == "safetensors" else "network.npz")
    if damage == "cut":
        examples.transformer(np.random.default_rng(0), 16, (4, 8, 16), blocks=1).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "other zip":
        np.savez(path, a=np.zeros(3))
    else:
        path.write_bytes({"empty": b"", "text": b"not a network", "safetensors": b"\x08\0\0\0\0\0\0\0{broken}"}[damage])
    code, out, err = run_cli(capsys, "map", path, "--chip", chip)
    assert code == 2 and path.name in err and "Traceback" not in err + out and not list(tmp_path.glob("map_*"))


def fitting(chip):
    """A small network that this chip holds, an example of its input, and its steps."""
    how, soft = {"bias": False}, {"reset": subtract}
    if chip == "xylo":
        return layers.Sequential(layers.Linear(8, 20, **how), LIF(**soft), layers.Linear(20, 4, **how), LIF(**soft)), (8,), 5
    if chip == "speck":
        return layers.Sequential(layers.Conv2d(2, 4, 3, padding=1, **how), IF(**soft), layers.Flatten(), layers.Linear(4 * 64, 5, **how), IF(**soft)), (2, 8, 8), 5
    readout = (layers.Flatten(), layers.Linear(4 * 64, 5, **how), layers.MeanOverTime())
    return layers.Sequential(layers.Conv2d(3, 4, 3, padding=1, **how), LIF(), *readout), (3, 8, 8), 1 if chip == "akida" else 5


@pytest.mark.parametrize("chip", sorted(CHIPS))
def test_every_chip_shows_fill_energy_time_power_and_a_picture(chip, tmp_path, capsys):
    """Each with its range and where it stands, or the word unknown."""
    torch.manual_seed(0)
    net, shape, steps = fitting(chip)
    x = (torch.rand(steps, 2, *shape) < 0.3).float()
    told = {"steps": steps, "input_bits": 1}
    first = map_network(trace(net, x[:, :1]), chip, **told)
    mapped = map_network(trace(net, x[:, :1]), chip, **told, rates=firing_rates(first.graph, x), seconds=0.1)
    shares = [used / most for used, most in mapped.utilisation().values() if most]
    assert shares and all(0 <= s <= 1 for s in shares) and max(shares) > 0
    whats = [e.what for e in mapped.estimates]
    assert {"energy", "time", "power"} <= set(whats)
    for e in mapped.estimates:
        assert (e.low is None and "unknown" in str(e)) or (e.low <= e.high and (e.at_rates is None or e.low <= e.at_rates <= e.high)), e
        assert e.low is None or "[" in e.why or "over 0.1 s" in e.why, e  # of a figure its standing, or from which it follows
    write(mapped, mapped.compatibility, tmp_path, [], Source("a test", tmp_path, lambda x: mapped.graph))
    assert (tmp_path / f"map_{chip}.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / f"map_{chip}.html").exists()
    document = json.loads((tmp_path / f"map_{chip}.json").read_text())
    assert [e["what"] for e in document["estimates"]] == whats and document["utilisation"] and document["lacks"]
    assert sum(p["stop"] - p["start"] for p in document["parts"]) == sum(row["neurons"] for row in document["placed"])
