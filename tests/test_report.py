"""Reports stand alone, escape what they are given, and are written whole."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from neuro import plots
from neuro.errors import FormatError
from neuro.report import Report, run_report

VOID = {"meta", "img", "br", "hr", "link", "input"}
SVG_LEAVES = {"path", "use", "rect", "line", "image"}
EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Parses strictly: every tag that opens must close; keeps links, ids and pictures."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.sources, self.ids, self.alts, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.sources += [value for name, value in attrs.items() if name in ("src", "href", "xlink:href", "data", "action")]
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag == "img" or (tag == "svg" and "role" in attrs):
            self.alts.append(attrs.get("alt") or attrs.get("aria-label"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag


def full_report() -> Report:
    report = Report(f"Title {EVIL}", EVIL).facts({EVIL: EVIL, "share": 0.25, "count": 12345})
    report.section(f"One {EVIL}").text(f"a **bold** `code` {EVIL}\n\n- item {EVIL}\n- second\n  goes on")
    report.table([{"name": EVIL, "n": 1.5}, {"name": "b"}], EVIL).table({"a": [1, 2]})
    report.figure(plots.firing_rates({EVIL: 0.1, "b": 0.2}), EVIL).figure(plots.confusion(np.eye(4)), "matrix", alt="four right")
    report.section("Two").figure(plots.raster(np.random.default_rng(0).random((30, 900)) < 0.3), "many marks")
    return report.gif(plots.event_animation(np.ones((2, 2, 4, 4))), "moving")


def test_the_page_parses_and_asks_for_nothing_outside():
    html = full_report().html()
    page = Page(html)
    assert page.sources and all(s.startswith(("#", "data:image/")) for s in page.sources)
    assert not re.search(r"@import|url\((?!#)", html)
    assert "script" not in page.tags and "link" not in page.tags
    assert len(page.ids) == len(set(page.ids))
    assert {s[1:] for s in page.sources if s.startswith("#")} <= set(page.ids)
    assert len(page.alts) == 4 and all(page.alts) and "four right" in page.alts
    assert {"img", "svg", "nav", "table", "figcaption", "caption"} <= set(page.tags)


def test_what_is_given_is_text():
    html = full_report().html()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 9
    assert "<strong>bold</strong>" in html and "<code>code</code>" in html
    assert "<li>second goes on</li>" in html
    assert "{{title}}" in Report("{{title}}").html() and "{{body}}" in Report("a").text("{{body}}").html()


def test_numbers_are_written_to_be_read():
    html = Report("r").facts({"a": 0.123456, "b": 1_234_567, "c": None, "d": True, "e": np.float32(0.5)}).html()
    assert [*re.findall(r"<dd>(.*?)</dd>", html)] == ["0.1235", "1,234,567", "–", "yes", "0.5"]
    table = Report("r").table([{"name": "a", "value": 2.0}]).html()
    assert '<th scope="col" class="n">value</th>' in table and '<th scope="col">name</th>' in table


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    path = Report("old").save(tmp_path / "deep" / "report.html")
    before = path.read_text()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk is full")))
    with pytest.raises(OSError, match="disk is full"):
        Report("new").save(path)
    assert path.read_text() == before and [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_gif_must_be_one():
    with pytest.raises(FormatError):
        Report("r").gif(b"<svg>", "no")


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_a_run_is_drawn(tmp_path):
    write_csv(tmp_path / "metrics.csv", [{"epoch": e, "seconds": 2, "train_loss": 2 / e, "val_loss": 3 / e, "train_accuracy": 0.1 * e, "val_accuracy": 0.09 * e} for e in (1, 2, 3)])  # fmt: skip
    write_csv(tmp_path / "layers.csv", [{"step": s, "layer": n, "rate": 0.1, "silent": 0.2, "always": 0} for s in (1, 2) for n in "ab"])
    write_csv(tmp_path / "confusion.csv", [{"": "a", "a": 3, "b": 1}, {"": "b", "a": 0, "b": 4}])
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": EVIL, "options": {"lr": 1e-3, "path": EVIL}, "seed": 7}))
    (tmp_path / "summary.json").write_text(json.dumps({"test_accuracy": 0.875, "energy": {"snn": "2 µJ"}}))
    path = run_report(tmp_path)
    html = path.read_text()
    page = Page(html)
    assert path == tmp_path / "report.html" and len(page.alts) == 5
    assert "<script" not in html and "27.0%" in html and "87.5%" in html and "seed 7" in html
    assert "Missing" not in html


def test_a_run_with_gaps_is_drawn_and_says_so(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,val_loss\n1,2.0\n2,1.0\n3,")  # the last row was cut off
    (tmp_path / "layers.csv").write_text("step,layer\n1,a\n")
    (tmp_path / "recipe.json").write_text("{broken")
    html = run_report(tmp_path).read_text()
    Page(html)
    for sentence in ("train_loss", "val_accuracy", "<code>recipe.json</code> cannot be read", "<code>rate</code>"):
        assert sentence in html.split("Missing", 1)[1]


def test_an_empty_folder_is_no_run(tmp_path):
    with pytest.raises(FormatError, match="no run"):
        run_report(tmp_path)
    (tmp_path / "metrics.csv").write_text("")
    assert "no row yet" in run_report(tmp_path).read_text()


def test_a_run_without_validation_lacks_nothing(tmp_path):
    write_csv(tmp_path / "metrics.csv", [{"epoch": e, "seconds": 2, "train_loss": 2 / e, "train_accuracy": 0.1 * e} for e in (1, 2, 3)])
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": "x", "seed": 0, "options": {}}))
    for sets, lacks in (({"train": {}}, False), ({"train": {}, "val": {}}, True)):
        (tmp_path / "data.json").write_text(json.dumps({"sets": sets}))
        page = run_report(tmp_path).read_text()
        assert ("val_loss" in page) == lacks == ("best validated" in page)
