"""The report of a run: everything that its folder holds, drawn; what it does not hold, said."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neuro.errors import FormatError, explain
from neuro.plots import confusion, firing_rates, learning_curves, rate_history
from neuro.plots.columns import columns, number, numbers
from neuro.plots.curves import quantities
from neuro.report import Report


def describe_run(folder: str | Path) -> Report:
    """The report of a run's folder, not yet saved.

    Reads recipe.json, versions.json, summary.json, metrics.csv, layers.csv, classes.csv and confusion.csv. Each may be
    missing, damaged, or lack columns: its part of the report then says so.

    Raises:
        FormatError: the folder holds none of them.
    """
    folder = Path(folder)
    parts: dict[str, Callable[[Report, Path, list[str]], None]] = {
        "summary.json": _summary, "metrics.csv": _metrics, "layers.csv": _layers, "classes.csv": _classes,
        "confusion.csv": _confusion, "recipe.json": _recipe, "versions.json": _versions,
    }  # fmt: skip
    if not any((folder / name).exists() for name in parts):
        raise FormatError(explain(f"there is no run in {folder}.", f"none of {', '.join(parts)}", cure="Name the folder given as --out."))
    recipe = _mapping(folder / "recipe.json", [])
    report = Report(str(recipe.get("recipe", folder.resolve().name)), f"run {folder.resolve().name}, seed {recipe.get('seed', 'unknown')}")
    missing: list[str] = []
    for name, draw in parts.items():
        if (folder / name).exists():
            draw(report, folder / name, missing)
        elif name in ("metrics.csv", "layers.csv", "recipe.json"):
            missing.append(f"`{name}` is not there.")
    if missing:
        report.section("Missing").text("\n".join(f"- {line}" for line in missing))
    return report


def _summary(report: Report, path: Path, missing: list[str]) -> None:
    values = {k: v for k, v in _mapping(path, missing).items() if k not in ("format", "version")}
    facts = {k.replace("_", " "): _fact(k, v) for k, v in values.items() if not isinstance(v, (Mapping, list))}
    if facts:
        report.facts(facts)
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            report.table([{"": k, "value": v} for k, v in value.items()], name.replace("_", " "))


def _metrics(report: Report, path: Path, missing: list[str]) -> None:
    table = _table(path, missing)
    epochs = max((len(v) for v in table.values()), default=0)
    if not epochs:
        missing.append("`metrics.csv` holds no row yet.")
        return
    found = quantities(table)
    report.section("Learning").facts(_headlines(table, found, epochs))
    parts = ("train", "val") if _validated(path.parent) else ("train",)
    for name in ("loss", "accuracy"):
        missing += [f"`metrics.csv` has no figures in `{part}_{name}`." for part in parts if part not in found.get(name, {})]
    if any("" not in of or name == "lr" for name, of in found.items()):
        mark = "the circle marks the best validated epoch" if "val" in parts else "trained without validation"
        report.figure(learning_curves(table), f"Learning curves; {mark}.")
    report.table(_last(table), "The last epochs")


def _validated(folder: Path) -> bool:
    """Whether the run had a validation set; where its folder does not say, it should have had one."""
    sets = _mapping(folder / "data.json", []).get("sets") if (folder / "data.json").exists() else None
    return not isinstance(sets, Mapping) or "val" in sets


def _headlines(table: Mapping[str, list[Any]], found: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"epochs": epochs}
    accuracy = found.get("accuracy", {})
    for part, word in (("val", "validation"), ("test", "test"), ("train", "training")):
        if part in accuracy:
            y = accuracy[part][numbers(accuracy[part]) == numbers(accuracy[part])]
            facts[f"last {word} accuracy"] = f"{y[-1]:.1%}"
            if part == "val":
                facts["best validation accuracy"] = f"{y.max():.1%}"
    seconds = numbers(table.get("seconds", []))
    seconds = seconds[seconds == seconds]
    if len(seconds):
        facts["time"] = f"{seconds.sum() / 60:.1f} min" if seconds.sum() >= 120 else f"{seconds.sum():.1f} s"
    return facts


def _layers(report: Report, path: Path, missing: list[str]) -> None:
    table = _table(path, missing)
    lack = [name for name in ("step", "layer", "rate") if name not in table]
    if lack or not table["layer"]:
        missing.append(f"`layers.csv` has no {', '.join(f'`{name}`' for name in lack) or 'row'}.")
        return
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    last = max(number(row["step"]) for row in rows)
    now = [row for row in rows if number(row["step"]) == last]
    shares = [{str(r["layer"]): number(r[name]) for r in now} if name in table else None for name in ("silent", "always")]
    report.section("Firing").figure(
        firing_rates({str(r["layer"]): number(r["rate"]) for r in now}, *shares), f"Layers after step {last:.0f}."
    )
    if len({row["step"] for row in rows}) > 1:
        report.figure(rate_history(rows), "Firing rate of every layer during training.")
        if "silent" in table:
            report.figure(rate_history(rows, "silent"), "Share of neurons that never fired, during training.")
    missing += [f"`layers.csv` has no `{name}`." for name in ("silent", "always") if name not in table]


def _classes(report: Report, path: Path, missing: list[str]) -> None:
    table = _table(path, missing)
    if table:
        report.section("Classes").table({k: map(_rounded, v) for k, v in table.items()}, "Figures per class")


def _confusion(report: Report, path: Path, missing: list[str]) -> None:
    """A first column of true classes, then a column per answered class."""
    table = _table(path, missing)
    names = list(table)[1:]
    counts = [[number(table[n][k]) for n in names] for k in range(len(table[names[0]]))] if names else []
    if len(counts) == len(names) > 0 and all(v == v for row in counts for v in row):
        report.figure(confusion(counts, names), "Which class was taken for which.")
    else:
        missing.append("`confusion.csv` is not a square table of counts.")


def _recipe(report: Report, path: Path, missing: list[str]) -> None:
    options = _mapping(path, missing).get("options", {})
    if isinstance(options, Mapping) and options:
        report.section("Options").table([{"option": k, "value": v} for k, v in options.items()], "As resolved at the start")


def _versions(report: Report, path: Path, missing: list[str]) -> None:
    versions = _mapping(path, missing)
    if versions:
        report.section("Versions").table([{"": k, "version": v} for k, v in versions.items()])


def _last(table: Mapping[str, list[Any]], most: int = 10) -> list[dict[str, Any]]:
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    return [{name: _rounded(value) for name, value in row.items()} for row in rows[-most:]]


def _rounded(cell: str) -> str:
    """A number to four digits; whole numbers and words as they are."""
    value = number(cell)
    return cell if value != value or value.is_integer() else f"{value:.4g}"


def _fact(name: str, value: Any) -> Any:
    share = isinstance(value, float) and 0 <= value <= 1 and "accuracy" in name
    return f"{value:.1%}" if share else value


def _mapping(path: Path, missing: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        missing.append(f"`{path.name}` cannot be read.")
        return {}
    return value if isinstance(value, dict) else {}


def _table(path: Path, missing: list[str]) -> dict[str, list[Any]]:
    """Columns of a CSV file; lines that do not have a cell for every column are left out, and counted."""
    try:
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            head, *lines = list(csv.reader(file)) or [[]]
    except OSError:
        missing.append(f"`{path.name}` cannot be read.")
        return {}
    whole = [line for line in lines if len(line) == len(head)]
    if len(whole) < len(lines):
        missing.append(f"`{path.name}`: {len(lines) - len(whole)} incomplete lines were left out.")
    return columns({name: [line[k] for line in whole] for k, name in enumerate(head)})
