"""Reports: one HTML file that shows what a run, a comparison or a deployment came to.

The file stands alone: no script, no request to anywhere, pictures inside. It reads on a phone, in the dark and on paper.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from neuro.errors import FormatError, explain
from neuro.files import replacing
from neuro.plots.columns import columns
from neuro.plots.figure import WIDTH, inline
from neuro.report_page import PAGE

VERSION = 1


class Report:
    """A page, built from the top down; every method returns the report, so that calls can be chained.

    Whatever is handed in is shown as text: markup in it is escaped.

    >>> page = Report("Motions").facts({"accuracy": "94 %"}).section("Data").text("Simulated <events>.").html()
    >>> "Simulated &lt;events&gt;." in page
    True
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title, self.subtitle = str(title), str(subtitle)
        self._parts: list[str] = []
        self._sections: list[tuple[str, str]] = []
        self._pictures = 0
        self._open = False  # whether a row of pictures is open

    def section(self, title: str) -> Report:
        """A heading, with its line in the table of contents."""
        name = f"s{len(self._sections) + 1}-" + (re.sub(r"[^a-z0-9]+", "-", str(title).lower()).strip("-") or "section")
        self._sections.append((name, str(title)))
        return self._add(f'<h2 id="{name}">{escape(str(title))}</h2>')

    def text(self, text: str) -> Report:
        """Paragraphs parted by blank lines; lines that start with "- " are a list; **bold**, `code`; no HTML."""
        return self._add("\n".join(_block(block) for block in re.split(r"\n\s*\n", str(text).strip()) if block.strip()))

    def facts(self, facts: Mapping[str, Any]) -> Report:
        """Headline figures in a grid: name -> value, already rounded as it should be read, with its unit."""
        cells = "".join(f"<div><dt>{escape(str(name))}</dt><dd>{escape(_cell(value))}</dd></div>" for name, value in facts.items())
        return self._add(f'<dl class="facts">{cells}</dl>')

    def table(self, rows: Any, caption: str = "") -> Report:
        """A table from rows (mappings), a mapping of columns, or a DataFrame; numbers are set to the right."""
        cols = columns(rows)
        count = max((len(values) for values in cols.values()), default=0)
        right = {name: all(_is_number(v) for v in values) for name, values in cols.items()}
        head = "".join(f'<th scope="col"{_number_class(right[name])}>{escape(name)}</th>' for name in cols)
        lines = []
        for k in range(count):
            cells = (f"<td{_number_class(right[name])}>{escape(_cell(values[k]))}</td>" for name, values in cols.items())
            lines.append(f"<tr>{''.join(cells)}</tr>")
        title = f"<caption>{escape(str(caption))}</caption>" if caption else ""
        label = escape(str(caption) or "table", quote=True)
        body = f"{title}<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        return self._add(f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>{body}</table></div>')

    def figure(self, figure: Any, caption: str, alt: str = "") -> Report:
        """A matplotlib figure, as SVG or PNG, whichever is smaller. Figures that follow each other share a row.

        alt: what it shows, for readers who cannot see it; default: the caption.
        """
        self._pictures += 1
        content, kind = inline(figure, alt or str(caption), prefix=f"p{self._pictures}")
        wide = figure.get_size_inches()[0] > WIDTH + 0.5
        return self._picture(content, caption, f"{kind}{' wide' if wide else ''}")

    def gif(self, data: bytes, caption: str, alt: str = "") -> Report:
        """An animation from the bytes of a GIF."""
        if data[:6] not in (b"GIF87a", b"GIF89a"):
            raise FormatError(explain("Report.gif: these bytes are not a GIF.", f"they start with {data[:6]!r}"))
        label = escape(alt or str(caption), quote=True)
        source = base64.b64encode(data).decode()
        return self._picture(f'<img class="gif" alt="{label}" src="data:image/gif;base64,{source}">', caption, "gif")

    def html(self) -> str:
        """The whole page."""
        lines = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in self._sections)
        contents = f'<nav aria-label="Contents"><ol>{lines}</ol></nav>' if len(self._sections) > 1 else ""
        subtitle = f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else ""
        body = "\n".join([*self._parts, "</div>"] if self._open else self._parts)
        fill = {"title": escape(self.title), "subtitle": subtitle, "contents": contents, "body": body, "version": str(VERSION)}
        return re.sub(r"\{\{(\w+)\}\}", lambda m: fill[m[1]], PAGE)

    def save(self, path: str | Path) -> Path:
        """Write the page: whole, or not at all. Returns its path."""
        path, page = Path(path), self.html().encode()
        with replacing(path) as file:
            file.write(page)
        return path

    def _repr_html_(self) -> str:
        """In a notebook: the page in a frame of its own, where its style stays."""
        return f'<iframe srcdoc="{escape(self.html(), quote=True)}" style="width:100%;height:36em;border:0"></iframe>'

    def __repr__(self) -> str:
        return f"Report({self.title!r}, {len(self._sections)} sections, {self._pictures} pictures)"

    def _add(self, part: str) -> Report:
        if self._open:
            self._parts.append("</div>")
            self._open = False
        self._parts.append(part)
        return self

    def _picture(self, content: str, caption: str, kind: str) -> Report:
        if not self._open:
            self._parts.append('<div class="pictures">')
            self._open = True
        text = f"<figcaption>{escape(str(caption))}</figcaption>" if caption else ""
        self._parts.append(f'<figure class="{kind}"><div class="frame">{content}</div>{text}</figure>')
        return self


def run_report(folder: str | Path) -> Path:
    """Draw a run's folder into its report.html and return that path; see `neuro.run_report`."""
    from neuro.run_report import describe_run

    folder = Path(folder)
    return describe_run(folder).save(folder / "report.html")


def _block(block: str) -> str:
    lines = [line.strip() for line in block.strip().splitlines()]
    html, items, words = [], [], []
    for line in [*lines, None]:
        item = line is not None and line.startswith(("- ", "* "))
        if words and (item or line is None):
            html.append(f"<p>{_inline(' '.join(words))}</p>")
            words = []
        if item:
            items.append(f"<li>{_inline(line[2:])}</li>")
        elif line is not None and items:
            items[-1] = items[-1].removesuffix("</li>") + f" {_inline(line)}</li>"
        elif line is not None:
            words.append(line)
    return "".join(html) + (f"<ul>{''.join(items)}</ul>" if items else "")


def _inline(text: str) -> str:
    parts = re.split(r"`([^`]+)`", escape(text))
    bold = [re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", p) for p in parts[::2]]
    return "".join(b + (f"<code>{parts[2 * k + 1]}</code>" if 2 * k + 1 < len(parts) else "") for k, b in enumerate(bold))


def _cell(value: Any) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()  # a NumPy number
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={_cell(v)}" for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return ", ".join(map(_cell, value))
    return str(value)


def _is_number(value: Any) -> bool:
    try:
        float(str(value).replace(",", "").replace("%", "") if value not in (None, "", "–") else 0)
    except ValueError:
        return False
    return True


def _number_class(number: bool) -> str:
    return ' class="n"' if number else ""
