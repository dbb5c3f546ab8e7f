"""The demo in miniature: what it writes, what it replaces, and what it leaves alone.

The network sees 16 recordings once and has learned next to nothing; the figures need only be of the right kind.
"""

import csv
import json
import math
import re

import numpy as np
import pytest

import neuro
from neuro.datasets.motions import CLASSES
from neuro.demo import main, task
from neuro.deploy.lava import find_interpreter
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.twin import run_twin
from neuro.errors import ParameterError
from neuro.training import Run

SIZES = {"train": 16, "val": 8, "test": 16, "epochs": 1}
FILES = {
    "summary.json", "metrics.csv", "layers.csv", "baselines.csv", "recipe.json", "versions.json", "model.safetensors", "model.json",
    "network.npz", "report.html",
}  # fmt: skip
FRACTIONS = ("accuracy", "accuracy_time_collapsed", "accuracy_bins_shuffled", "accuracy_bins_as_channels", "twin_accuracy", "spikes_per_neuron_per_step")
ENERGIES = ("energy_snn_uj", "energy_ann_dense_uj", "energy_ann_sparse_uj")
LAVA = ("lava_recordings", "lava_spikes_compared", "lava_spike_mismatches")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One run, through Lava where it is found: its folder and what `main` returned."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    return folder, main(folder, seed=3, lava_recordings=2, seconds_install=12.5, **SIZES)


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.slow
def test_the_summary_holds_every_figure(demo):
    folder, returned = demo
    summary = summary_of(folder)
    assert summary == returned
    assert {*FRACTIONS, *ENERGIES, *LAVA, "seconds_install", "seconds_demo"} <= set(summary)
    for name in FRACTIONS:
        assert isinstance(summary[name], float) and 0 <= summary[name] <= 1, name
    for name in ENERGIES:
        assert isinstance(summary[name], float) and 0 < summary[name] < math.inf, name
    assert summary["energy_ann_sparse_uj"] <= summary["energy_ann_dense_uj"]
    assert summary["seconds_install"] == 12.5 and 0 < summary["seconds_demo"] < 600
    assert all((summary[name] * SIZES["test"]).is_integer() for name in FRACTIONS if "accuracy" in name)


@pytest.mark.slow
def test_lava_differs_in_no_spike(demo):
    summary = summary_of(demo[0])
    if find_interpreter() is None:
        assert [summary[name] for name in LAVA] == [None] * 3
        pytest.skip("no interpreter with Lava: run `neuro lava install` or set NEURO_LAVA_PYTHON")
    network = IntegerNetwork.load(demo[0] / "network.npz")
    per_step = sum(int(np.prod(network.shapes[n.name])) for n in network.lifs)
    assert summary["lava_recordings"] == 2 and summary["lava_spikes_compared"] == 2 * task.BINS * per_step
    assert summary["lava_spike_mismatches"] == 0


@pytest.mark.slow
def test_every_file_is_there_and_can_be_used(demo):
    folder, summary = demo
    assert {p.name for p in folder.iterdir()} >= FILES
    assert not list(folder.rglob("*.part"))
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["recipe"] == "demo" and recipe["seed"] == 3 and {k: recipe["options"][k] for k in SIZES} == SIZES
    assert {"torch", "python"} <= set(json.loads((folder / "versions.json").read_text()))
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + SIZES["epochs"]
    with open(folder / "baselines.csv", newline="") as file:
        summed = [float(row["test_accuracy"]) for row in csv.DictReader(file) if "summed" in row["network"]]
    assert len(summed) == 2 and max(summed) == summary["accuracy_time_collapsed"]


@pytest.mark.slow
def test_the_files_give_the_figures_again(demo):
    """The model and the integer network, read from the folder, answer the test recordings as the summary says."""
    folder, summary = demo
    data = task.record(1, 1, SIZES["test"], 3, lambda n: None)
    model = neuro.load(folder)
    assert model.classes == CLASSES
    right = task.answers(model, data.test_frames).argmax(1).numpy() == data.test_labels
    assert right.mean() == summary["accuracy"]
    twin = run_twin(IntegerNetwork.load(folder / "network.npz"), data.test_frames.swapaxes(0, 1).astype(np.int32))
    assert (twin.predictions == data.test_labels).mean() == summary["twin_accuracy"]


@pytest.mark.slow
def test_the_report_stands_alone(demo):
    page = (demo[0] / "report.html").read_text()
    fetched = re.findall(r"""(?:\b(?:src|href|action|poster|srcset)\s*=\s*["']?|url\(\s*["']?|@import\s+["']?)([^"'\s>)]+)""", page)
    assert fetched and all(f.startswith(("data:", "#")) for f in fetched), [f[:80] for f in fetched if not f.startswith(("data:", "#"))]
    for words in ("What the camera saw", "Learning", "Spikes", "Energy", "integers", "Lava"):
        assert words in page
    assert page.count("<svg") + page.count("data:image/png") >= 8 and page.count("data:image/gif") >= 2


@pytest.mark.slow
def test_a_second_demo_replaces_the_first(demo, tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    for file in FILES:
        (folder / file).write_bytes((demo[0] / file).read_bytes())
    (folder / "left over").write_text("of the first")
    summary = main(folder, seed=4, lava_recordings=0, **SIZES)
    assert not (folder / "left over").exists() and {p.name for p in folder.iterdir()} >= FILES
    assert summary_of(folder) == summary and json.loads((folder / "recipe.json").read_text())["seed"] == 4
    assert [summary[name] for name in LAVA] == [None] * 3 and summary["seconds_install"] is None
    assert (folder / "model.safetensors").read_bytes() != (demo[0] / "model.safetensors").read_bytes()


@pytest.mark.parametrize("files", [{"notes.txt": "mine"}, {"recipe.json": '{"format": "neuro-run", "recipe": "spikformer_nmnist"}'}, {"recipe.json": "{"}])
def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        main(tmp_path, **SIZES)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == files


def test_a_run_of_another_recipe_is_refused_and_left_alone(tmp_path):
    neuro.training.Run.create(tmp_path / "run", recipe="spikformer_nmnist")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(ParameterError, match="something else than a demo(.|\n)*--out"):
        main(tmp_path / "run", **SIZES)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


def test_shuffling_reorders_the_bins_of_each_recording():
    frames = np.random.default_rng(0).integers(0, 5, (12, task.BINS, 2, 4, 4)).astype(np.uint8)
    before, mixed = frames.copy(), task.shuffled_bins(frames, 1)
    assert np.array_equal(frames, before) and mixed.shape == frames.shape and mixed.dtype == frames.dtype
    orders = set()
    for whole, shuffled in zip(frames, mixed, strict=True):
        places = [next(t for t in range(task.BINS) if np.array_equal(whole[t], bin_)) for bin_ in shuffled]
        assert sorted(places) == list(range(task.BINS))
        orders.add(tuple(places))
    assert len(orders) > 10  # each recording has an order of its own
    assert np.array_equal(mixed, task.shuffled_bins(frames, 1)) and not np.array_equal(mixed, task.shuffled_bins(frames, 2))


def test_parts_are_seeded_and_do_not_overlap():
    data, again = (task.record(8, 8, 8, seed=5, tick=lambda n: None) for _ in range(2))
    assert np.array_equal(data.test_frames, again.test_frames)
    seen = [r.events.tobytes() for part in (data.train, data.val, data.test) for r in part]
    assert len(set(seen)) == 24
    assert int(data.test_frames.sum()) == sum(len(r.events) for r in data.test)  # frames lose no event


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"test": 0}, {"train": -3}, {"lava_recordings": 801}])
def test_wrong_options_are_refused_before_an_earlier_demo_is_removed(tmp_path, wrong):
    Run.create(tmp_path / "demo", recipe="demo")
    (tmp_path / "demo/summary.json").write_text("{}")
    with pytest.raises(ParameterError, match="outside its range"):
        main(out=tmp_path / "demo", **wrong)
    assert (tmp_path / "demo/summary.json").exists()
