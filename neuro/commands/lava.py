"""`neuro lava`: the interpreter that runs Lava."""

from __future__ import annotations

import os
import shlex

from neuro.deploy.lava_environment import doctor as find_out
from neuro.deploy.lava_environment import install as make
from neuro.errors import LavaError


def install(pip_args: str | None = None, if_possible: bool = False) -> None:
    """Make the Python 3.10 environment that holds Lava, from the first Python 3.10 that starts.

    Args:
        pip_args: added to `pip install`, in one string; default: the environment variable PIP_ARGS.
        if_possible: say so and succeed where there is no Python 3.10.
    """
    extra = os.environ.get("PIP_ARGS", "") if pip_args is None else pip_args
    try:
        make(shlex.split(extra))
    except LavaError as error:
        if not if_possible:
            raise
        print(f"Lava is not installed, and the rest works without it: {error}")


def doctor() -> None:
    """Say which interpreters were looked at, which one runs Lava, and how to get it."""
    print(find_out())
