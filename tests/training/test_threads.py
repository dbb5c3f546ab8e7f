"""Numbers of threads: those that torch can have are taken, others refused before a run exists."""

from __future__ import annotations

import pytest
import torch

from neuro.cli import main
from neuro.errors import ParameterError
from neuro.models import recipes
from neuro.training.evaluate import evaluate
from neuro.training.threads import MOST, use_threads

NONE = [0, -1, -(2**40), MOST + 1, 10**6, 2**40]


@pytest.mark.parametrize("threads", NONE)
def test_no_number_of_threads_says_the_value_and_the_cure(threads):
    with pytest.raises(ParameterError, match=rf"threads={threads} (?s:.*)Give 1 \.\. "):
        use_threads(threads)


def test_threads_are_used():
    use_threads(2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("name", recipes.RECIPES)
@pytest.mark.parametrize("threads", [0, 10**6])
def test_every_recipe_refuses_them_before_anything_is_written(name, threads, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", name, "--out", str(tmp_path / "run"), f"--threads={threads}", *(["--data", str(tmp_path)] if name == "spikformer_nmnist" else [])])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and f"threads={threads} is not a number of threads" in said and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("option", "says"), [("--workers=-1", "workers=-1 is not a number of processes"), ("--devices=0", "devices=0 is not a number"), (f"--devices={MOST + 1}", "not a number of processes")])
def test_processes_that_cannot_be_are_refused_in_a_sentence(option, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "series_text", "--out", str(tmp_path / "run"), "--simulated=8", "--steps=4", "--width=4", "--epochs=1", option])
    assert stopped.value.code == 2 and says in capsys.readouterr().err


def test_evaluate_refuses_them_too(tmp_path):
    for how in ({"workers": -1}, {"batch_size": 0}):
        with pytest.raises(ParameterError, match="batch_size from 1, workers from 0"):
            evaluate(tmp_path, tmp_path, **how)
