"""The table over all models: a "no" has its reason, models of one small form share a result, and a fault is no "no"."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from neuro import models
from neuro.errors import GraphError

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("benchmark_models_table", FOLDER / "models_table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop(spec.name, None)


def test_a_model_fills_every_column_and_a_no_has_its_reason(bench, monkeypatch):
    monkeypatch.setattr(bench, "find_interpreter", lambda: None)
    name = "spikformer_nmnist"
    row = bench.examine(name, steps=2, batch=2, lava_seconds=1)
    assert set(row.cells) == set(bench.SMALL) and row.cells["traces"] == "yes" and row.cells["Lava"] == "not run"
    assert all(bool(row.reasons.get(c)) for c, cell in row.cells.items() if cell in ("no", "not run"))
    row.cells["chips"], row.reasons["akida"] = "none", "attention"
    text = bench.page({name: row}, 2, 2)
    assert f"`{name}`" in text and "1. " in text and all(why in text for why in row.reasons.values())


def test_what_needs_something_that_was_refused_says_so(bench, monkeypatch):
    def refuses(*_):
        raise GraphError("trace: a layer\n  that is not held.")

    monkeypatch.setattr(bench.neuro, "trace", refuses)
    row = bench.examine("spikformer_nmnist", steps=2, batch=2, lava_seconds=1)
    assert row.cells["traces"] == "no" and row.reasons["traces"] == "trace: a layer that is not held."
    assert {row.cells[c] for c in bench.SMALL[1:]} == {"needs 'traces'"}
    monkeypatch.setattr(bench.neuro, "trace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench.examine("spikformer_nmnist", steps=2, batch=2, lava_seconds=1)


def test_one_small_form_is_examined_once(bench):
    firsts = bench.same(models.names())
    assert set(firsts) == set(models.names()) and 1 < len(set(firsts.values())) < len(firsts)
    for name, first in firsts.items():
        with torch.device("meta"):
            assert models.small(name).config == models.small(first).config


def test_chips_name_those_that_hold_it_and_the_rules_that_refuse(bench):
    row = bench.chips("spikformer_nmnist")
    for chip in bench.CHIPS:
        assert (chip in row.cells["chips"]) != (chip in row.reasons), chip
    assert "attention" in row.reasons["loihi2"]
