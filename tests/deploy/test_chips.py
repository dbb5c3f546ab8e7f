"""The chips' tables: every figure has a source and a standing, what is unknown is None and says so."""

from dataclasses import fields

import pytest

from neuro.deploy.chips import CHIPS, OPERATIONS, Chip, Fact, Shapes, chip
from neuro.errors import UnknownName

EVERY = pytest.mark.parametrize("name", sorted(CHIPS))


def facts_of(value):
    """Every Fact in a chip, with the path to it."""
    if isinstance(value, Fact):
        yield "", value
    elif isinstance(value, (Chip, Shapes)):
        for f in fields(value):
            yield from ((f".{f.name}{path}", fact) for path, fact in facts_of(getattr(value, f.name)))
    elif hasattr(value, "items"):
        for key, inner in value.items():
            yield from ((f"[{key}]{path}", fact) for path, fact in facts_of(inner))


@EVERY
def test_every_figure_has_a_source_and_a_standing(name):
    found = dict(facts_of(CHIPS[name]))
    assert len(found) > 30
    for path, fact in found.items():
        assert len(fact.source) > 2, path
        assert (fact.value is None) == (fact.standing == "unknown"), path
        assert ("unknown" in str(fact)) == (fact.value is None), path


WORKS = ("akida_examples", "arXiv 2504.00957", "open-neuromorphic.org", "Davies et al. 2018", "nengo-loihi", "lava-nc 0.10.0", "lava-dl", "Loihi 2 technology brief", "sinabs", "rockpool",
         "arXiv 2312.09084", "Nature Communications 15:4464", "arXiv 2406.15112")  # fmt: skip


@EVERY
def test_what_is_called_documented_names_where(name):
    """Anything else is recalled, inferred or unknown, and says so wherever it is shown."""
    loose = [f"{path}: {fact}" for path, fact in facts_of(CHIPS[name]) if fact.standing in ("documented", "secondary") and not any(work in fact.source for work in WORKS)]
    assert not loose


@EVERY
def test_the_table_is_whole(name):
    c = CHIPS[name]
    assert c.name == name and set(c.operations) == set(OPERATIONS) and c.lacks
    for resource, fact in c.core.items():
        if isinstance(fact.value, tuple):
            assert len(fact.value) == c.cores.value, resource
    assert all(isinstance(f.value, str) for f in c.operations.values())
    assert set(c.resets.value) <= {"zero", "subtract"} and c.steps.value in ("clocked", "none", "one")
    assert c.learning.value in ("any", "last binary dense", "none")


@EVERY
def test_a_table_cannot_be_changed(name):
    with pytest.raises(TypeError):
        CHIPS[name].core["neurons"] = Fact(1, "nowhere")
    with pytest.raises(AttributeError):
        CHIPS[name].cores = Fact(1, "nowhere")


def test_a_fact_without_source_or_with_a_value_that_is_unknown_is_refused():
    for value, source, standing in ((1, "", "documented"), (None, "x", "documented"), (1, "x", "unknown"), (1, "x", "guessed")):
        with pytest.raises(AssertionError):
            Fact(value, source, standing)


def test_a_chip_that_is_not_there_names_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean loihi2"):
        chip("lohi2")


def test_known_figures():
    """Against the sources, by hand: nengo-loihi's block.py, sinabs' tables, Akida's hardware constraints."""
    assert [CHIPS["loihi1"].core[r].value for r in ("neurons", "in_axons", "synapse_bits")] == [1024, 4096, 128 * 1024 * 8]
    assert sum(CHIPS["speck"].core["kernel_words"].value) == 272 * 1024 and sum(CHIPS["speck"].core["neuron_words"].value) == 320 * 1024
    assert CHIPS["akida"].cores.value == 20 * 4 and CHIPS["akida"].dense.inputs.value == 57334
