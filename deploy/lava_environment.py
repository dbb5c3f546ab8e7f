"""Finding, making and describing the Python 3.10 that runs Lava.

lava-nc 0.10.0 needs exactly Python 3.10 and numpy below 2, so it lives in an environment of its own. A candidate is never
judged by its name: each is started and asked (a pyenv shim may stand on PATH and fail).
"""

from __future__ import annotations

import glob
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuro.errors import LavaError, explain

VARIABLE = "NEURO_LAVA_PYTHON"
REQUIREMENTS = ("lava-nc==0.10.0", "numpy<2")
MARKER = "neuro-lava.json"      # written last: an environment without it was never finished
ASK = """
import json, sys
from importlib import metadata
def version(name):
    try: return metadata.version(name)
    except metadata.PackageNotFoundError: return ""
print(json.dumps({"python": list(sys.version_info[:3]), "lava": version("lava-nc"), "numpy": version("numpy")}))
"""
TRY = "import numpy; from lava.magma.core.run_configs import Loihi2SimCfg; from lava.proc.lif.models import PyLifModelBitAcc"
HOW = (f"Run `neuro lava install`, or set {VARIABLE} to a Python 3.10 with lava-nc 0.10.0 and numpy<2. "
       "Without Lava the twin runs everything; only the comparison is missing.")


@dataclass(frozen=True)
class Interpreter:
    """What a Python said of itself. `problem` is empty if it can run Lava."""

    path: str
    python: str = ""
    lava: str = ""
    numpy: str = ""
    problem: str = ""


def ask(path: str | Path, seconds: float = 60.0) -> Interpreter:
    """Start an interpreter and ask for its version and packages."""
    path = str(path)
    try:
        done = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True, timeout=seconds, check=False)
        said = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return Interpreter(path, problem=f"does not start: {error}")
    if said is None:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Interpreter(path, problem=f"does not start: exit status {done.returncode}, {last}")
    version = ".".join(map(str, said["python"]))
    problem = ""
    if said["python"][:2] != [3, 10]:
        problem = f"is Python {version}; lava-nc needs 3.10"
    elif not said["lava"]:
        problem = "has no lava-nc"
    elif not said["numpy"] or int(said["numpy"].split(".")[0]) >= 2:
        problem = f"has numpy {said['numpy'] or 'not at all'}; lava-nc needs numpy below 2"
    return Interpreter(path, version, said["lava"], said["numpy"], problem)


def examine(path: str | Path, seconds: float = 60.0) -> Interpreter:
    """`ask`, and then load Lava: a package whose files were deleted or do not fit still has its version."""
    found = ask(path, seconds)
    if found.problem:
        return found
    try:
        done = subprocess.run([str(path), "-I", "-c", TRY], capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return replace(found, problem=f"does not load Lava: {error}")
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return replace(found, problem=f"does not load Lava: {last}") if done.returncode else found


def environment() -> Path:
    """Where `install` puts Lava: $XDG_DATA_HOME/neuro/lava, else ~/.local/share/neuro/lava."""
    home = os.environ.get("XDG_DATA_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".local" / "share") / "neuro" / "lava"


def environment_python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def places() -> list[tuple[str, str]]:
    """(where it comes from, path) in the order in which they are tried."""
    found = []
    if os.environ.get(VARIABLE):
        found.append((VARIABLE, os.environ[VARIABLE]))
    if (environment() / MARKER).exists():
        found.append(("neuro lava install", str(environment_python(environment()))))
    if sys.version_info[:2] == (3, 10):
        found.append(("this interpreter", sys.executable))
    return found


def find_interpreter() -> Path | None:
    """The interpreter that runs Lava, or None.

    Raises:
        LavaError: NEURO_LAVA_PYTHON is set, but that interpreter cannot run Lava: an explicit choice is not passed over.
    """
    for origin, path in places():
        found = ask(path)
        if not found.problem:
            return Path(path)
        if origin == VARIABLE:
            raise LavaError(explain(f"{VARIABLE} cannot run Lava.", f"{path} {found.problem}.", cure=HOW))
    return None


def why_none() -> str:
    """One line that says why `find_interpreter` gave None: none was ever made, or what is wrong with the one that was."""
    broken = [f"{path} {examine(path).problem}" for origin, path in places() if origin == "neuro lava install"]
    return f"Lava's environment is broken: {broken[0]}; make it anew: neuro lava install" if broken else (
        "no Python 3.10 with Lava was found; get it: neuro lava install")


def base_pythons() -> list[str]:
    """Where a Python 3.10 may be: every python3.10 on PATH, then pyenv's."""
    names = [os.path.join(folder, "python3.10") for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for root in (os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv"):
        names += sorted(glob.glob(os.path.join(root, "versions", "3.10*", "bin", "python"))) if root else []
    return list(dict.fromkeys(name for name in names if os.path.exists(name)))


def find_base() -> str:
    """The first Python 3.10 that starts. Raises LavaError naming what was tried."""
    tried = []
    for path in base_pythons():
        found = ask(path)
        if found.python.startswith("3.10."):
            return path
        tried.append(f"{path} {found.problem or 'is ' + found.python}.")
    raise LavaError(explain("No Python 3.10 that starts was found.", *(tried or ["None on PATH, none of pyenv's."]),
                            cure="Install one (`pyenv install 3.10`, or your system's python3.10 with venv) and repeat."))


def run_step(act: str, command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise LavaError(explain(f"{act} failed.", " ".join(command), str(error))) from error
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-6:]
        raise LavaError(explain(f"{act} failed with exit status {done.returncode}.", " ".join(command), *last,
                                cure="Extra arguments for pip, such as an index, go into PIP_ARGS."))


def install(pip_args: Sequence[str] | None = None, say=print) -> Path:
    """Make the Lava environment, unless it is there already. Returns its interpreter.

    Args:
        pip_args: extra arguments of `pip install`; None: those in the variable PIP_ARGS.
        say: called with one line of progress at a time.

    Raises:
        LavaError: no Python 3.10 starts, or pip fails. Nothing unfinished is left.
    """
    folder = environment()
    python = environment_python(folder)
    if (folder / MARKER).exists():
        problem = examine(python).problem
        say(f"Lava is installed: {python}" if not problem else f"{python} {problem}. It is made anew.")
        if not problem:
            return python
    base = find_base()
    extra = list(shlex.split(os.environ.get("PIP_ARGS", "")) if pip_args is None else pip_args)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        say(f"Making {folder} with {base}")
        run_step("Making the environment", [base, "-m", "venv", str(folder)])
        say(f"Installing {', '.join(REQUIREMENTS)}")
        run_step("pip", [str(python), "-m", "pip", "install", *REQUIREMENTS, *extra])
        found = examine(python)
        if found.problem:
            raise LavaError(explain(f"The new environment {folder} {found.problem}."))
        (folder / MARKER).write_text(json.dumps({"version": 1, "base": base, "lava": found.lava, "numpy": found.numpy}))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    say(f"Lava is installed: {python}")
    return python


def doctor() -> str:
    """What was found, place by place, and what will be used.

    Raises:
        LavaError: with the same lines, where nothing runs Lava, or where the interpreter that the variable names does not.
    """
    looked = [(origin, path, examine(path)) for origin, path in places()]
    lines = [f"{origin}: {path} {found.problem or f'Python {found.python}, lava-nc {found.lava}, numpy {found.numpy}'}" for origin, path, found in looked]
    named = os.environ.get(VARIABLE)
    if not named:
        lines.insert(0, f"{VARIABLE} is not set")
    if not (environment() / MARKER).exists():
        lines.append(f"neuro lava install: nothing at {environment()}")
    chosen = next((path for _, path, found in looked if not found.problem), "")
    if named and looked[0][2].problem:
        cure = f"Lava is not run while {VARIABLE} names an interpreter that cannot: set it to another, or unset it" + (f", and {chosen} is taken." if chosen else ".")
        raise LavaError(explain(f"{VARIABLE} cannot run Lava.", *lines, cure=cure))
    if chosen:
        return "\n  ".join([f"Lava runs with {chosen}", *lines])
    bases = [f"possible base: {p} ({ask(p).python or 'does not start'})" for p in base_pythons()]
    raise LavaError(explain("Lava was not found.", *lines, *bases, cure=HOW))
