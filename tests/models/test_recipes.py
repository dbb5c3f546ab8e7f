"""Recipes: each runs on the simulated twin of its data set, and reads, divides and judges real data as it says."""

import inspect
import json
import math
import pickle
import random
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from neuro.commands.export import main as export
from neuro.commands.train import main as train
from neuro.datasets import ArrayDataModule
from neuro.datasets.braille import Braille
from neuro.deploy.network import IntegerNetwork
from neuro.deploy.twin import run_twin
from neuro.errors import FormatError, NeuroError, ParameterError, ShapeError, UnknownName
from neuro.models import create, recipes, registry
from neuro.training import save_model
from neuro.training.evaluate import evaluate, predict, samples
from neuro.training.judging import Judged, Parts, judged_in, keep, recipe_of, train_and_judge
from neuro.training.runs import Run, load
from neuro.training.scores import one_each, scores

JUDGED = sorted(name for name in recipes.RECIPES if not name.startswith("spikformer"))
QUICK = {"conv_mnist": (160, 3), "conv_cifar10": (240, 4), "conv_objects": (40, 1), "series_digits": (160, 8), "series_text": (300, 4), "series_activities": (200, 10)}
REACHED = {"series_text": 0.3, "conv_objects": 0.0, "series_activities": 0.4}  # least accuracy there; elsewhere far above chance


def options(name, **changes):
    """The options of a recipe: its defaults with changes."""
    given = {k: p.default for k, p in inspect.signature(recipes.load(name).main).parameters.items()}
    return {**given, **changes}


@pytest.mark.parametrize("name", JUDGED)
def test_it_runs_without_data_and_leaves_everything_in_its_folder(name, tmp_path, capsys):
    examples, epochs = QUICK.get(name, (200, 12))
    small = {"width": 32, "steps": 32} if name == "series_text" else {}
    recipes.load(name).main(out=tmp_path / "run", simulated=examples, epochs=epochs, batch_size=16, **small)
    found = judged_in(tmp_path / "run")
    said = capsys.readouterr()
    printed = said.out
    assert f"no --data: {examples} simulated examples" in said.err
    assert f"{found['accuracy']:.4f}" in printed and all(f"{v:.4f}" in printed for v in found["others"].values())
    assert found["accuracy"] >= REACHED.get(name, 0.6) and found["others"]
    assert found["split"] == {k: v for k, v in json.loads((tmp_path / "run" / "split.json").read_text()).items() if k not in ("format", "version")}
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000 and Run.open(tmp_path / "run").recipe == name
    assert load(tmp_path / "run").preprocess is not None


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """A file of simulated letters, and a run trained on it."""
    folder = tmp_path_factory.mktemp("braille")
    made = Braille.simulated(150, seed=3)
    np.savez(folder / "letters.npz", spikes=made.x, label=np.array(made.labels, np.uint8))
    recipes.load("series_braille").main(out=folder / "run", data=folder, epochs=6)
    return folder


def test_evaluate_finds_the_part_that_was_judged(letters):
    found = judged_in(letters / "run")
    again = evaluate(letters / "run", letters)
    assert again.scores.accuracy == found["accuracy"] > 0.6 and again.scores.recordings == found["examples"] == found["split"]["test"]
    train = evaluate(letters / "run", letters / "letters.npz", split="train")
    assert train.scores.recordings == found["split"]["train"]
    assert not {a.name for a in train.answers} & {a.name for a in again.answers}


def test_predict_answers_an_array_as_evaluate_does(letters):
    answer = evaluate(letters / "run", letters).answers[0]
    np.save(letters / "one.npy", Braille(letters / "letters.npz").x[int(answer.name)])
    (given,) = predict(letters / "run", [letters / "one.npy"])
    assert given.given == answer.given and given.probability == pytest.approx(answer.probability, abs=1e-5)


@pytest.mark.parametrize(("name", "wrong"), [("gap", np.full((256, 12), np.nan)), ("wide", np.zeros((256, 13))), ("flat", np.zeros(256))])
def test_predict_names_the_file_that_it_cannot_use(letters, tmp_path, name, wrong):
    np.save(tmp_path / "good.npy", np.zeros((256, 12), np.uint8))
    np.save(tmp_path / f"{name}.npy", wrong)
    with pytest.raises((FormatError, ShapeError), match=rf"{name}\.npy cannot be used"):
        predict(letters / "run", [tmp_path / "good.npy", tmp_path / f"{name}.npy"])


def test_what_cannot_be_evaluated_is_said(letters, tmp_path):
    with pytest.raises(UnknownName, match="tset"):
        evaluate(letters / "run", letters, split="tset")
    with pytest.raises(FileNotFoundError, match="npz"):
        evaluate(letters / "run", tmp_path)
    alone = tmp_path / "model"
    alone.mkdir()
    for file in ("model.safetensors", "model.json"):
        (alone / file).write_bytes((letters / "run" / file).read_bytes())
    with pytest.raises(ParameterError, match=r"recipe\.json"):
        evaluate(alone / "model.safetensors", letters)
    with pytest.raises(NeuroError, match="left out"):
        evaluate(letters / "run", letters, skip_unreadable=True)
    (alone / "x.png").write_bytes(b"0")
    with pytest.raises(NeuroError, match=r"\.npy"):
        predict(letters / "run", [alone / "x.png"])


def test_a_run_that_goes_on_must_be_divided_as_before(letters, tmp_path):
    made = Braille.simulated(100, seed=4)
    np.savez(tmp_path / "other.npz", spikes=made.x, label=np.array(made.labels, np.uint8))
    with pytest.raises(NeuroError, match="split|recordings"):
        recipes.load("series_braille").main(out=letters / "run", data=tmp_path, epochs=6, resume=True)


@pytest.mark.parametrize("name", JUDGED)
def test_parts_of_simulated_examples_are_apart(name):
    parts = recipes.load(name).parts(options(name, simulated=50))
    assert len(parts.train) == (50 if name == "series_text" else 40) and len(parts.test) >= 10
    held = [{(e.events if hasattr(e, "events") else e[0]).tobytes() for e in part} for part in parts[:2]]
    assert not held[0] & held[1] and len(held[0]) == len(parts.train)


# --- real data ---

SIZES = {  # name: folder, training, test examples
    "conv_mnist": ("mnist", 60_000, 5_000), "conv_cifar10": ("cifar10_jpeg", 50_000, 5_000), "series_digits": ("fsdd", 2_700, 120),
    "series_braille": ("braille_tactile", 741, 186), "series_activities": ("wisdm_watch", 4_440, 1_440), "conv_objects": ("dvs128_objects", 2_554, 626),
    "series_text": ("text/tinyshakespeare_first95.txt", 7_449, 827),
}  # fmt: skip


@pytest.mark.parametrize("name", JUDGED)
def test_real_data_is_divided_as_stated(name, real_data):
    folder, train, test = SIZES[name]
    parts = recipes.load(name).parts(options(name, data=real_data / folder))
    assert (len(parts.train), len(parts.test)) == (train, test)
    tuned = recipes.load(name).parts(options(name, data=real_data / folder, tune=True))
    assert len(tuned.train) + len(tuned.test) == pytest.approx(train, abs=1)
    if name == "series_text":
        assert np.array_equal(parts.train.numbers[: len(tuned.train.numbers)], tuned.train.numbers)
        return
    inner = set(tuned.train.names) | set(tuned.test.names)
    assert inner == set(parts.train.names) and not inner & set(parts.test.names) and not set(tuned.train.names) & set(tuned.test.names)


def test_persons_and_speakers_held_out_are_not_trained_on(real_data):
    parts = recipes.load("series_activities").parts(options("series_activities", data=real_data / "wisdm_watch"))
    who = [{name.split("/")[0] for name in part.names} for part in parts[:2]]
    assert not who[0] & who[1] and len(who[1]) == 10
    parts = recipes.load("series_digits").parts(options("series_digits", data=real_data / "fsdd", unseen="theo"))
    assert {name.split("_")[1] for name in parts.test.names} == {"theo"} and "theo" not in {name.split("_")[1] for name in parts.train.names}


def test_what_is_printed_says_by_which_part(letters, tmp_path, capsys):
    recipes.load("series_braille").main(out=tmp_path / "run", data=letters, epochs=1, tune=True)
    assert "examples, held out of the training part:" in capsys.readouterr().out
    assert judged_in(tmp_path / "run")["split"]["of"] == judged_in(letters / "run")["split"]


def test_of_several_processes_the_first_writes(letters, tmp_path, monkeypatch):
    found = scores([0, 1], [0, 1], ["a", "b"])
    judged = Judged(Run(tmp_path, "x", {}, 0), torch.nn.Identity(), found, {}, 0.0, 0.0, "x")
    monkeypatch.setenv("RANK", "1")
    keep(judged, {"name": "x"}, 1)
    assert not list(tmp_path.iterdir())


# --- a recipe of one's own ---


def test_a_copy_of_a_recipe_is_what_its_run_goes_on_with_from_any_folder(letters, tmp_path, monkeypatch):
    text = Path(recipes.load("series_braille").__file__).read_text()
    (tmp_path / "mine.py").write_text(text.replace("dropout=dropout)", "dropout=dropout, width=24)").replace("Binned(steps)", "Binned(2 * steps)"))
    monkeypatch.chdir(tmp_path)
    train(["mine.py", "--out", "run", "--data", str(letters), "--epochs", "2"])
    assert Run.open("run").recipe == str(tmp_path / "mine.py")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = tmp_path / "run"
    (run / "model.safetensors").unlink()
    train(["--resume", str(run)])
    assert load(run).head[1].weight.shape == (7, 24) and evaluate(run, letters).scores.accuracy == judged_in(run)["accuracy"]
    (tmp_path / "mine.py").unlink()
    with pytest.raises(ParameterError, match="still lie where"):
        evaluate(run, letters)


def test_recipes_of_ours_are_told_by_name(tmp_path):
    assert [recipe_of(recipes.load(name).__file__) for name in JUDGED] == JUDGED
    assert recipe_of(str(tmp_path / "series_braille.py")) == str(tmp_path / "series_braille.py")


@dataclass(frozen=True)
class Mine:
    """An input coding that a model's file cannot hold."""

    def __call__(self, x, rng=None):
        return x.astype(np.float32)


def test_what_could_not_be_saved_is_refused_before_training(tmp_path):
    made = Braille.simulated(20)
    data = ArrayDataModule(made, test=made, encode=Mine(), classes=Braille.classes)
    run = Run.create(tmp_path / "run", recipe="x", options={})
    with pytest.raises(ParameterError, match="Mine cannot be written"):
        train_and_judge(torch.nn.Identity(), data, run, {"name": "x"}, epochs=1)
    assert not run.begun


@pytest.mark.parametrize("changes", [{"seed": -1}, {"simulated": 0}, {"simulated": -5}])
@pytest.mark.parametrize("name", ["series_braille", "series_text"])
def test_what_cannot_be_simulated_is_said(name, changes):
    with pytest.raises(ParameterError, match="nothing can be simulated"):
        recipes.load(name).parts(options(name, **changes))


@pytest.mark.parametrize("name", ["series_braille", "conv_mnist"])
@pytest.mark.parametrize("change", [{"dropout": 1.5}, {"dropout": -0.1}, {"width": 0}, {"depth": 0}, {"classes": 0}], ids=str)
def test_sizes_outside_their_range_are_refused_by_name(name, change):
    with pytest.raises(ParameterError, match="{}={}".format(*next(iter(change.items())))):
        create(name, **change)


# --- answers at every step ---


def test_answers_at_every_step_are_counted_one_by_one():
    logits, label = torch.randn(5, 3, 4), torch.randint(0, 4, (3, 5))
    y, found = one_each(logits, label)
    assert torch.equal(y.view(3, 5, 4), logits.transpose(0, 1)) and torch.equal(found, label.flatten())
    y, found = one_each(logits, label, torch.tensor([5, 0, 2]))
    assert torch.equal(found, torch.cat([label[0], label[2, :2]])) and torch.equal(y[5:], logits[:2, 2])
    for bad in ((logits, label[:, 0]), (logits[0], label)):
        with pytest.raises(ShapeError, match="answers differ"):
            one_each(*bad)
    shares = torch.rand(3, 4)
    assert one_each(logits[0], shares)[1] is shares


def test_counted_text_is_certain_where_the_next_character_is(tmp_path):
    """In `abcabc...` each character tells the next; the counts are smoothed, so that a little doubt stays."""
    (tmp_path / "t.txt").write_text("abc" * 400)
    module = recipes.load("series_text")
    told = module.counted(module.parts(options("series_text", data=tmp_path, steps=8)))
    assert all(accuracy == 1.0 for accuracy, _ in told.values())
    assert all(0 < bits < 0.05 for _, bits in told.values())
    even = np.random.default_rng(0).choice(list("abcd"), 40_000)
    (tmp_path / "t.txt").write_text("".join(even))
    bits = [b for _, b in module.counted(module.parts(options("series_text", data=tmp_path, steps=8))).values()]
    assert all(abs(b - math.log2(4)) < 0.01 for b in bits) and all(a <= b + 0.01 for a, b in pairwise(bits))


def dense_counts(found: Parts):
    """`counted` with one table of all n^3 contexts."""
    n, s = len(found.train.vocabulary), found.train.numbers.astype(int)
    table = np.zeros((n, n, n))
    np.add.at(table, (s[:-2], s[1:-1], s[2:]), 1)
    even = table.sum((0, 1)) + 5 / n
    one = table.sum(0) + 5 * even / even.sum()
    one /= one.sum(-1, keepdims=True)
    two = table + 5 * one
    two /= two.sum(-1, keepdims=True)
    pairs = [(x, y, k) for x, y in found.test for k in range(len(x))]
    short, long = [one[x[k]] for x, _, k in pairs], [two[x[k - 1], x[k]] if k else one[x[0]] for x, _, k in pairs]
    y = np.array([y[k] for _, y, k in pairs])
    return [(np.mean(np.argmax(p, -1) == y), -np.mean(np.log2(np.array(p)[np.arange(len(y)), y]))) for p in (short, long)]


def test_counts_are_those_of_a_table_of_all_contexts(tmp_path):
    (tmp_path / "t.txt").write_text("to be or not to be, that is the question: whether it is nobler in the mind\n" * 9 + "to suffer, or to " * 12)
    module = recipes.load("series_text")
    parts = module.parts(options("series_text", data=tmp_path, steps=8))
    assert np.allclose(list(module.counted(parts).values()), dense_counts(parts))


def test_a_text_of_many_symbols_is_counted_without_a_table_of_all_contexts(tmp_path):
    (tmp_path / "t.txt").write_text("".join(chr(0x4E00 + k % 3000) for k in range(8000)))  # each tells the next; the table would hold 2.7e10 numbers
    module = recipes.load("series_text")
    told = module.counted(module.parts(options("series_text", data=tmp_path, steps=8)))
    assert all(accuracy == 1.0 for accuracy, _ in told.values())


def test_a_text_of_other_symbols_is_not_evaluated(tmp_path):
    (tmp_path / "t.txt").write_text("abcd" * 200)
    recipes.load("series_text").main(out=tmp_path / "run", data=tmp_path / "t.txt", epochs=1, steps=8, width=8)
    assert evaluate(tmp_path / "run", tmp_path / "t.txt").scores.accuracy == judged_in(tmp_path / "run")["accuracy"]
    (tmp_path / "u.txt").write_text("abce" * 200)  # as many, and so numbered without a word
    with pytest.raises(ParameterError, match=r"only there: 'd'\n.*only here: 'e'"):
        evaluate(tmp_path / "run", tmp_path / "u.txt")


def test_samples_of_a_run_have_names(letters):
    found = samples(load(letters / "run"), letters / "run", letters)
    assert found[0].x.shape == (64, 12) and len(found.examples.names) == len(found)


def test_a_run_is_exported_with_its_first_layers_on_the_host(letters, capsys):
    export(letters / "run", letters, host_front=True, samples=10)
    assert "on the host: layers.0, layers.1, layers.2" in capsys.readouterr().out
    spikes = np.load(letters / "run" / "network_inputs.npy")
    assert spikes.shape == (64, 10, 128) and spikes.dtype == np.uint8 and spikes.max() == 1
    given = run_twin(IntegerNetwork.load(letters / "run" / "network.npz"), spikes.astype(np.int32)).predictions
    found = evaluate(letters / "run", letters).answers
    model = [found[i * len(found) // 10].given for i in range(10)]
    assert sum(Braille.classes[k] == label for k, label in zip(given, model, strict=True)) >= 9


def test_a_recipe_of_ones_own_may_define_classes_and_have_any_name(tmp_path):
    (tmp_path / "random.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import KW_ONLY, dataclass\n\n@dataclass\nclass Mine:\n    a: int\n    _: KW_ONLY\n    b: int = 2\n\ndef main():\n    return Mine(1, b=3)\n"
    )
    module = recipes.load(str(tmp_path / "random.py"))
    assert (module.main().a, module.main().b) == (1, 3)
    assert pickle.loads(pickle.dumps(module.main())) == module.main()
    assert sys.modules["random"] is random and recipes.load(str(tmp_path / "random.py")) is not module


MINE = """
from neuro import models
from neuro.layers import Linear, Sequential
from neuro.neurons import LIF

@models.register()
def my_own_model(width=3):
    return Sequential(Linear(4, width), LIF())

def main():
    pass
"""


@pytest.fixture
def registered_elsewhere(tmp_path, monkeypatch):
    """A run of a model that a recipe of one's own registers, as another process finds it: the name is not known."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    recipe = tmp_path / "my work" / "mine.py"
    recipe.parent.mkdir()
    recipe.write_text(MINE)
    Run.create(tmp_path / "run", recipe=recipe_of(str(recipe)), options={})
    save_model(recipes.load(str(recipe)).my_own_model(width=5), tmp_path / "run")
    del registry._entries["my_own_model"]
    return recipe, tmp_path / "run"


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_a_model_that_the_recipe_registers_is_found_by_the_run(registered_elsewhere, file):
    _, run = registered_elsewhere
    assert load(run / file)[0].weight.shape == (5, 4)


def test_where_the_recipe_is_gone_or_came_with_the_run_the_way_out_is_told(registered_elsewhere):
    recipe, run = registered_elsewhere
    about = json.loads((run / "recipe.json").read_text())
    recipe.rename(run / "mine.py")
    with pytest.raises(UnknownName, match=r"'my_own_model' is not known(?s:.*)no longer at (?s:.*)neuro train FILE.py"):
        load(run)
    (run / "recipe.json").write_text(json.dumps({**about, "recipe": str(run / "mine.py")}))
    with pytest.raises(UnknownName, match="in the run's own folder"):
        load(run)
    (run / "recipe.json").unlink()
    with pytest.raises(UnknownName, match="Import what registers it"):
        load(run)


def test_a_recipe_that_cannot_go_on_says_what_its_main_lacks(registered_elsewhere):
    with pytest.raises(ParameterError, match=r"cannot go on.\n  its main takes no resume and no out"):
        train(["--resume", str(registered_elsewhere[1])])
