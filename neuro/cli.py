"""The `neuro` command: a table of commands, each a typed function whose arguments are its options.

Nothing heavy is imported before a command is chosen, so `neuro --help` answers at once.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from neuro.errors import NeuroError, explain, unknown
from neuro.memory import keep_memory


class Command(NamedTuple):
    """Where a command's function is, what it does, and which of its arguments stand without `--name`."""

    function: str  # module:function
    help: str
    bare: tuple[str, ...] = ()


COMMANDS: dict[str, Command] = {
    "demo": Command("neuro.demo:main", "the whole path once on synthetic events: train, count, quantise, deploy, report"),
    "train": Command("neuro.commands.train:main", "train by a recipe: neuro train RECIPE --data FOLDER --out RUN"),
    "evaluate": Command("neuro.commands.evaluate:main", "figures of a run on recordings: neuro evaluate RUN --data FOLDER", ("run",)),
    "predict": Command("neuro.commands.predict:main", "the class of recordings: neuro predict RUN FILE ...", ("run", "files")),
    "energy": Command("neuro.commands.energy:main", "operations and energy per recording: neuro energy RUN", ("run",)),
    "export": Command("neuro.commands.export:main", "write a run's integer network, network.npz: neuro export RUN", ("run",)),
    "learn": Command("neuro.commands.learn:main", "add new classes to a run's integer network from a few recordings: neuro learn RUN --data FOLDER --shots N", ("run",)),
    "map": Command("neuro.commands.map:main", "a run on a neuromorphic chip: what fits, what must change, which core holds what: neuro map RUN --chip NAME", ("run",)),
    "models": Command("neuro.commands.models:main", "the models by name, with their numbers of parameters"),
    "lava": Command("", "the chip's simulator and lava-dl's files: neuro lava install | doctor | run | script | netx | read"),
    "data": Command("", "event files: neuro data info | view | convert"),
    "nir": Command("", "NIR files: neuro nir check FILE | export RUN"),
}
LAVA: dict[str, Command] = {
    "install": Command("neuro.commands.lava:install", "make the Python 3.10 environment that holds Lava"),
    "doctor": Command("neuro.commands.lava:doctor", "say which interpreter runs Lava, and whether it works"),
    "run": Command("neuro.commands.lava:run", "run recordings in Lava and compare with the twin: neuro lava run FILE --inputs FILE.npy", ("file",)),
    "script": Command("neuro.commands.lava:script", "write a network file as a folder that Lava's users run without us: neuro lava script FILE", ("file",)),
    "netx": Command("neuro.commands.lava:netx", "write a network file as lava-dl's netx: neuro lava netx FILE [--expand true] [--round-bias true]", ("file",)),
    "read": Command("neuro.commands.lava:read", "read a netx file into a network file: neuro lava read FILE", ("file",)),
}
NIR: dict[str, Command] = {
    "check": Command("neuro.commands.nir:check", "what a NIR file holds, whether it runs here, who misreads it: neuro nir check FILE", ("file",)),
    "export": Command("neuro.commands.nir:export", "write a run's network as NIR, checked: neuro nir export RUN --data FOLDER --dt SECONDS", ("run",)),
}
DATA: dict[str, Command] = {
    "info": Command("neuro.commands.data:info", "counts, rate, sensor, hot pixels, header of an event file: neuro data info FILE --plot PICTURE", ("file",)),
    "convert": Command("neuro.commands.data:convert", "write a recording in another format: neuro data convert SOURCE TARGET", ("source", "target")),
    "view": Command("neuro.commands.view:main", "a recording as a strip, an animation or a page: neuro data view FILE --out FILE.gif", ("file",)),
}
TABLES = {"data": DATA, "lava": LAVA, "nir": NIR}  # commands that have commands of their own
COMPUTING = ("train", "evaluate", "demo")  # commands that run a network step after step
OWN_ARGUMENTS = ("train",)  # commands that read their arguments themselves


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point. Exit code 0: done, 1: the reader of our output went away, 2: a user's error, 130: stopped by Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the core to others; read when torch loads
    warnings.formatwarning = lambda message, *rest, **more: f"warning: {message}\n"
    code: Any = None
    try:
        dispatch(argv)
    except SystemExit as stop:  # of the parser: help was asked for, or the arguments are wrong
        code = stop.code
    except KeyboardInterrupt:
        resume = " The run goes on with: neuro train --resume RUN" if argv[:1] == ["train"] else ""
        print(f"\nneuro: stopped.{resume}", file=sys.stderr)
        code = 130
    except (NeuroError, OSError) as error:  # of the system: no such file, no permission, no space
        code = 2
        if isinstance(error, BrokenPipeError) and not _heard("\n"):
            code = 1
        else:
            print(f"neuro: {said(error)}", file=sys.stderr)
    if not _heard():
        code = code or 1
    if code is not None:
        raise SystemExit(code)


def _heard(text: str = "") -> bool:
    """Say this and what waits to be said. False where nobody reads our output any more, as behind `| head`; what follows then goes nowhere."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def said(error: Exception) -> str:
    """What an error says; of the system's, what it is about before why.

    >>> said(FileNotFoundError(2, "No such file or directory", "a.raw"))
    'a.raw: no such file or directory.'
    """
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}."
    return str(error)


def dispatch(argv: list[str]) -> None:
    """Run the command that `argv` names."""
    table, prog = COMMANDS, "neuro"
    if argv and argv[0] in TABLES:
        table, prog, argv = TABLES[argv[0]], f"neuro {argv[0]}", argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        print(usage(table, prog))
        return
    if argv[0] in ("-V", "--version"):
        import neuro

        print(neuro.__version__)
        return
    name, rest = argv[0], argv[1:]
    if name not in table:
        raise unknown("command", name, table)
    if table is COMMANDS and name in COMPUTING:
        keep_memory()
    command = table[name]
    function = found(command)
    if name in OWN_ARGUMENTS:
        function(rest)
    else:
        call(function, rest, prog=f"{prog} {name}", bare=command.bare)


def usage(table: Mapping[str, Command], prog: str) -> str:
    """The commands, one per line."""
    lines = [f"usage: {prog} COMMAND ...     {prog} COMMAND --help says more", ""]
    return "\n".join([*lines, *(f"  {name:<10}{command.help}" for name, command in table.items())])


def found(command: Command) -> Callable[..., Any]:
    """Import a command's function."""
    module, _, name = command.function.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        cure = "Install it with the rest of neuro: pip install neuro-snn"
        raise NeuroError(explain(f"this installation lacks {error.name}, which the command needs.", cure=cure)) from error


def call(function: Callable[..., Any], argv: Sequence[str], *, prog: str, bare: Sequence[str] = ()) -> Any:
    """Call a typed function with the arguments of a command line; its signature and docstring are the help.

    A wrong argument prints what is wrong and exits with 2.
    """
    import jsonargparse

    class Parser(jsonargparse.ArgumentParser):
        def format_help(self) -> str:
            return readable(super().format_help())

        def format_usage(self) -> str:
            return readable(super().format_usage())

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            super().error(of_options(message, [option for action in self._actions for option in action.option_strings]), ex)

    # without abbreviations: --epoch would be taken for --epochs today, and be another option tomorrow
    parser = Parser(prog=prog, allow_abbrev=False, description=(function.__doc__ or "").strip().split("\n\n")[0])
    names = parser.add_function_arguments(function, as_group=False, skip=set(bare))
    for name in bare:
        hint = function.__annotations__[name]
        several = "list" in str(hint)
        parser.add_argument(name, type=Path, help="one or more files" if several else "the file" if name in ("file", "source", "target") else "the folder of a run", **({"nargs": "+"} if several else {}))
    given = parser.parse_args(["--" + a[2:].split("=")[0].replace("-", "_") + a[len(a.split("=")[0]) :] if a[:2] == "--" else a for a in argv])
    return function(**{name: given[name] for name in (*names, *bare)})


def readable(text: str) -> str:
    """Help with hyphens in the names of options, and plain names of types.

    >>> readable("--batch_size N  of <class 'Path'>")
    '--batch-size N  of Path'
    """
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    return re.sub(r"--[a-z_]+", lambda option: option[0].replace("_", "-"), text)


def of_options(message: str, options: Sequence[str]) -> str:
    """What is wrong with a command line, in the names of its options, and the nearest option to one that is not known.

    >>> of_options('Parser key "batch_size":\\n  Expected a <class \\'int\\'>. Got value: x', [])
    '--batch-size: Expected an int. Got value: x'
    >>> of_options("unrecognized arguments: --epoch 3", ["--epochs", "--lr"])
    'unrecognized arguments: --epoch 3; did you mean --epochs?'
    >>> of_options("--steps: Does not validate against any of the Union subtypes\\nSubtypes: [<class 'int'>, <class 'NoneType'>]\\nErrors: ...\\nGiven value type: str\\nGiven value: x", [])
    '--steps: Expected an int. Got value: x'
    >>> of_options("--damaged: Expected a typing.Literal['refuse', 'prefix']. Got value: x", [])
    '--damaged: Expected refuse or prefix. Got value: x'
    >>> of_options("the following arguments are required: run, weight_bits", ["--weight_bits"])
    'the following arguments are required: run, --weight-bits'
    """
    message = re.sub(r'Parser key "([\w.]+)":\s*', r"--\1: ", message)
    message = re.sub(r"Does not validate against any of the Union subtypes\s+Subtypes: \[(.*?)(?:, (?:<class 'NoneType'>|NoneType))?\]\s.*Given value: (.*)", r"Expected a \1. Got value: \2", message, flags=re.DOTALL)
    message = re.sub(r"Expected a typing\.Literal\[(.*?)\]", lambda found: "Expected " + " or ".join(w.strip(" '") for w in found[1].split(",")), message)
    message = re.sub(r"Expected a (?=(<class ')?[aeiou])", "Expected an ", message)
    if (required := "arguments are required: ") in message:  # which are told by their keys
        start, _, names = message.partition(required)
        message = start + required + ", ".join(f"--{n}" if f"--{n}" in options else n for n in names.split(", "))
    unknown_options = re.findall(r"(?<!\S)--[\w-]+", message) if message.startswith("unrecognized") else []
    near = [n for name in unknown_options for n in difflib.get_close_matches(name.replace("-", "_"), [o.replace("-", "_") for o in options], n=1)]
    meant = f"; did you mean {' '.join('--' + n.lstrip('_') for n in near)}?" if near else ""
    return readable(message + meant)


def as_arguments(options: Mapping[str, Any]) -> list[str]:
    """A command line that gives these options; what is None is left out."""
    shown = {k: v if isinstance(v, str) else json.dumps(v) for k, v in options.items() if v is not None}
    return [f"--{name}={value}" for name, value in shown.items()]


if __name__ == "__main__":
    main()
