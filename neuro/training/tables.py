"""A CSV table that grows by rows, and can be cut back to the moment of a checkpoint."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuro.files import refused, replacing


class Table:
    """Rows of named columns in a CSV file. `step`, one of the columns, says after how many training steps a row holds.

    A row is written whole or, on a full disk, not at all. `cut` drops what a killed run wrote after its last checkpoint,
    so that a resumed run neither repeats nor loses a row.
    """

    def __init__(self, path: str | Path, columns: Sequence[str]):
        self.path, self.columns = Path(path), list(columns)

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Add rows; columns that a row does not name stay empty."""
        lines = [[_cell(row.get(name)) for name in self.columns] for row in rows]
        size = self.path.stat().st_size if self.path.exists() else 0
        text = _csv(lines if size else [self.columns, *lines])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab", buffering=0) as file:
                try:
                    if file.write(text) != len(text):
                        raise OSError("only a part of the row could be written")
                except OSError:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise refused(self.path, error) from error

    def rows(self) -> list[dict[str, str]]:
        """The complete rows, as text. A last line without its end is not a row."""
        if not self.path.exists():
            return []
        text = self.path.read_bytes().decode(errors="replace")
        lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
        if not lines or lines[0] != self.columns:
            return []
        return [dict(zip(self.columns, line, strict=True)) for line in lines[1:] if len(line) == len(self.columns)]

    def cut(self, step: int) -> None:
        """Drop the rows of later steps than `step`."""
        if self.path.exists():
            kept = [row for row in self.rows() if int(row["step"]) <= step]
            with replacing(self.path) as file:
                file.write(_csv([self.columns, *([row[name] for name in self.columns] for row in kept)]))

    def sync(self) -> None:
        """Have every row on the disk before a checkpoint claims that it was written."""
        if self.path.exists():
            handle = os.open(self.path, os.O_RDWR)
            try:
                os.fsync(handle)
            except OSError as error:
                raise refused(self.path, error) from error
            finally:
                os.close(handle)


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file whole or not at all."""
    with replacing(path) as file:
        file.write(_csv([list(columns), *([_cell(value) for value in row] for row in rows)]))


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def _csv(lines: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()
