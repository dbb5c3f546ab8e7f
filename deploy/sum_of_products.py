"""Learning rules as Loihi states them: what a synaptic variable gains is a sum of products of spikes, traces and synaptic variables.

    dw = "2^-2 * y0 * x1 - 2^-2 * x0 * y1"          pairwise STDP
    dw = "2^-6 * u0 * t * y2"                       what was tagged, times a third factor, in every epoch
    dt = "2^-1 * y0 * x1 - 2^-3 * u0 * t"           the tag: an eligibility that fades

The letters: x0, y0 a spike of the input and of the neuron; u0, u1, ... every epoch, every second one, every 2^k-th one; x1, x2 traces of the
input, y1, y2, y3 of the neuron; w the weight, t the tag. A product has one of x0, y0, u as its condition, the first that stands in it;
whole numbers and powers of two scale it, by mantissa * 2^exponent with a mantissa of 4 bits. A factor may be (x1 - 5) or sgn(w).

The grammar is that of Lava's Loihi2FLearningRule and Loihi3FLearningRule (lava-nc 0.10, lava/magma/core/learning), after Davies et al. 2018,
"Loihi: A Neuromorphic Manycore Processor with On-Chip Learning", section "Learning". Delays (d) are not learned: Lava does not apply them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from neuro.errors import ParameterError, explain

WIDTH = {"x0": 1, "y0": 1, "x1": 7, "x2": 7, "y1": 7, "y2": 7, "y3": 7, "w": 9, "t": 9}  # bits of a factor
MANTISSA, EXPONENT = (-8, 7), (-7, 8)
PRODUCT = 31 - 4  # bits of all factors together, beside a mantissa of 4, that 32 bits hold
TOKEN = re.compile(r"\s*(sgn|[xy][0-9]+|u[0-9]+|[wt]|[0-9]+|[-+*^()])")


class Factor(NamedTuple):
    """variable + constant, or the sign of it."""

    variable: str
    constant: int = 0
    sign: bool = False


@dataclass(frozen=True)
class Product:
    """mantissa * 2^exponent * factors, where the condition holds. every: k of u_k; None for other conditions."""

    condition: str  # x0, y0 or u
    mantissa: int
    exponent: int
    factors: tuple[Factor, ...]
    every: int | None = None

    @property
    def width(self) -> int:
        """Bits of the factors together."""
        return sum(WIDTH[f.variable] for f in self.factors)


def products(rule: str) -> tuple[Product, ...]:
    """The products of a rule.

    Raises:
        ParameterError: not such a sum, or numbers that Loihi cannot hold.

    >>> for p in products("2^-2 * y0 * x1 - 3 * x0 * (y1 + 4)"): print(p.condition, p.mantissa, p.exponent, p.factors[0])
    y0 1 -2 Factor(variable='x1', constant=0, sign=False)
    x0 -3 0 Factor(variable='y1', constant=4, sign=False)
    """
    reader = _Reader(rule)
    found = [reader.product(first=True)]
    while reader.token:
        found.append(reader.product(first=False))
    periods = {p.every for p in found} - {None}
    if len(periods) > 1:
        raise _wrong(rule, f"conditions {', '.join(f'u{k}' for k in sorted(periods))}", "One period for all products: u0, or u1, ...")  # type: ignore[type-var]
    return tuple(found)


class _Reader:
    """Reads one rule from left to right."""

    def __init__(self, rule: str) -> None:
        self.rule, self.tokens, at = rule, [], 0
        while at < len(rule.rstrip()):
            found = TOKEN.match(rule, at)
            if not found:
                raise _wrong(rule, f"{rule[at:].strip()!r} cannot be read", "Letters are x0 x1 x2 y0 y1 y2 y3 w t, u0 u1 ..., sgn.")
            self.tokens.append(found[1])
            at = found.end()

    @property
    def token(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self, *wanted: str) -> str:
        if not self.tokens or (wanted and self.token not in wanted):
            expected = f"; expected {' or '.join(wanted)}" if wanted else ""
            raise _wrong(self.rule, f"{self.token or 'the end'!r} stands where it cannot{expected}")
        return self.tokens.pop(0)

    def sign(self) -> int:
        return -1 if self.token in "+-" and self.token and self.take() == "-" else 1

    def number(self) -> int:
        sign, digits = self.sign(), self.take()
        if not digits.isdigit():
            raise _wrong(self.rule, f"{digits!r} stands where a number is expected")
        return sign * int(digits)

    def product(self, first: bool) -> Product:
        if not first and self.token not in ("+", "-"):
            raise _wrong(self.rule, f"{self.token!r} stands where + or - is expected")
        self.mantissa, self.exponent, self.factors, self.condition, self.every = self.sign(), 0, [], "", None  # type: ignore[var-annotated]
        self.part()
        while self.token == "*":
            self.take()
            self.part()
        return self.finished()

    def part(self) -> None:
        """One factor between *."""
        if self.token.isdigit():
            self.scale()
        elif self.token in ("(", "sgn"):
            self.bracket(sign=self.token == "sgn" and bool(self.take()))
        else:
            self.variable(self.take())

    def scale(self) -> None:
        base = int(self.take())
        if self.token != "^":
            self.mantissa *= base
            return
        self.take()
        if base != 2:
            raise _wrong(self.rule, f"{base}^", "Powers are of 2.")
        bracket = self.token == "(" and bool(self.take())
        self.exponent += self.number()
        if bracket:
            self.take(")")

    def bracket(self, sign: bool) -> None:
        self.take("(")
        turned = self.sign()
        if self.token.isdigit():
            self.scale()
            self.mantissa *= turned
        else:
            name = self.take()
            constant = turned * self.number() if self.token in ("+", "-") else 0
            if name not in WIDTH or (sign and (name not in ("w", "t") or turned < 0)):
                raise _wrong(self.rule, f"{name!r} in brackets", "(x1 - 5) is possible for traces, w and t, and sgn of w and t.")
            self.mantissa *= turned
            self.factors.append(Factor(name, constant, sign))
        self.take(")")

    def variable(self, name: str) -> None:
        condition = name in ("x0", "y0") or name[0] == "u"
        if condition and not self.condition:
            self.condition = name[0] if name[0] == "u" else name
            self.every = int(name[1:]) if name[0] == "u" else None
        elif name in WIDTH:
            self.factors.append(Factor(name))
        elif name[0] != "u" or int(name[1:]) != self.every:
            raise _wrong(self.rule, f"{name!r} stands where it cannot", "Letters are x0 x1 x2 y0 y1 y2 y3 w t, and u0, u1, ... as a condition.")

    def finished(self) -> Product:
        mantissa, exponent = self.mantissa, self.exponent
        while abs(mantissa) > 7 and mantissa % 2 == 0 and exponent < EXPONENT[1]:
            mantissa, exponent = mantissa // 2, exponent + 1
        found = Product(self.condition, mantissa, exponent, tuple(self.factors), self.every)
        if not self.condition:
            raise _wrong(self.rule, "a product without a condition", "Each has x0, y0 or u0: when it is added.")
        if not MANTISSA[0] <= mantissa <= MANTISSA[1] or not EXPONENT[0] <= exponent <= EXPONENT[1]:
            raise _wrong(self.rule, f"a scale of {mantissa} * 2^{exponent}", "A mantissa of -8 .. 7 and an exponent of -7 .. 8 are possible.")
        if found.width > PRODUCT:
            raise _wrong(self.rule, f"factors of {found.width} bits together", f"{PRODUCT} are possible: traces have 7, w and t 9, spikes 1.")
        return found


def _wrong(rule: str, fact: str, cure: str = "") -> ParameterError:
    return ParameterError(explain("learning rule: this is no sum of products.", f"{rule!r}: {fact}", cure=cure))
