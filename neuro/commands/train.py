"""`neuro train`: run a recipe, or go on with a run."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from neuro.cli import as_arguments, call
from neuro.errors import ParameterError, explain
from neuro.models import recipes
from neuro.training.runs import MAY_CHANGE, Run

USAGE = """usage: neuro train RECIPE --data FOLDER --out RUN ...     neuro train RECIPE --help lists its options
       neuro train MY_RECIPE.py ...                       a recipe of your own: a copy of one of ours
       neuro train --resume RUN                           go on with a run that was stopped
"""


def main(argv: list[str]) -> None:
    """Train by the recipe that the first argument names."""
    if not argv or argv[0] in ("-h", "--help"):
        print("\n".join([USAGE, *(f"  {name:<24}{line}" for name, line in recipes.RECIPES.items())]))
        return
    if argv[0].partition("=")[0] == "--resume":
        resume(argv)
        return
    if argv[0].startswith("-"):
        cure = "The recipe comes first: neuro train RECIPE --option value. Recipes: " + ", ".join(recipes.RECIPES)
        raise ParameterError(explain(f"neuro train: {argv[0]!r} is not a recipe.", cure=cure))
    call(recipes.load(argv[0]).main, argv[1:], prog=f"neuro train {argv[0]}")


def resume(argv: list[str]) -> None:
    """Call the recipe of a run again with the options of the run; some, such as the data folder, may be given anew."""
    _, equals, folder = argv[0].partition("=")
    rest = argv[1:] if equals else argv[2:]
    if not equals and len(argv) < 2:
        raise ParameterError(explain("neuro train --resume: which run?", cure="neuro train --resume RUN"))
    run = Run.open(folder if equals else argv[1])
    others = [a for a in rest if a.startswith("--") and a[2:].partition("=")[0] not in MAY_CHANGE]
    if others:
        cure = f"Only these may be given anew: {', '.join(MAY_CHANGE[:-1])}."
        raise ParameterError(explain(f"neuro train --resume: {others[0]} is settled by the run.", cure=cure))
    main = recipes.load(run.recipe).main
    if lacking := [name for name in ("resume", "out") if name not in inspect.signature(main).parameters]:
        cure = "Give main(..., out: Path, resume: bool = False), and hand resume to Run.create and to fit."
        raise ParameterError(explain(f"neuro train --resume: the recipe {run.recipe} cannot go on.", f"its main takes no {' and no '.join(lacking)}", cure=cure))
    print(f"going on with {run.folder}: recipe {run.recipe}, seed {run.seed}", file=sys.stderr)
    options = {**run.options, "out": str(Path(run.folder)), "resume": True}
    call(main, [*as_arguments(options), *rest], prog=f"neuro train {run.recipe}")
