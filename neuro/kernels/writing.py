"""What the writers of CPU and GPU kernels share: lines of Python, and which gradients a backward kernel is for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

MARK = "@translated"  # before a function that `translating.py` compiles


class Ends(NamedTuple):
    """Which gradients a backward call is given and asked for.

    y: outputs with a gradient. after: whether the states afterwards have one (else it is zero). before: whether that of the states before
    is asked for.
    """

    y: tuple[bool, ...]
    after: bool
    before: bool


class Text:
    """Lines of Python with their indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Lines under a head, which goes where there are none: a step without states keeps none, and so on."""
        self(head)
        before = len(self.lines)
        self.depth += 1
        yield
        self.depth -= 1
        if len(self.lines) == before:
            self.lines.pop()
