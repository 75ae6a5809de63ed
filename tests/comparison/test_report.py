"""The HTML report: one file that needs nothing else, says what the comparison says, and survives any name and number."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from npusim import InferenceSession, UsageError
from npusim.comparison.code_sums import Histogram
from npusim.comparison.float_comparison import compare_with_float
from npusim.comparison.report import ReportContent, page, render_report, write_report
from npusim.comparison.report.drawings import (
    SHADES,
    channel_heatmap,
    channel_strip,
    decibels,
    histogram_chart,
    number,
    percent,
    shade,
)
from npusim.findings import Finding
from support import load_export
from support.float_pairs import INPUT_LSB, PairBuilder

VOID = {"meta", "link", "br", "img", "hr"}
FINDING = Finding("made_up", "warning", None, "a <b>bold</b> claim", "do & undo", {"value": 3})


class Checker(HTMLParser):
    """Tags must be closed in the order in which they were opened; ids and links are collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture(name="content", scope="module")
def small_content() -> ReportContent:
    generator = np.random.default_rng(3)
    pair = PairBuilder((4, 8, 1))
    pair.convolution(generator.integers(-127, 128, (4, 4, 3, 1)), generator.integers(-50, 50, 4), shift=8)
    pair.convolution(generator.integers(-127, 128, (8, 4, 1, 1)), generator.integers(-50, 50, 8), shift=8)
    session = InferenceSession(pair.quantized.model(pair.codes))
    x = (generator.integers(-128, 128, (40, 4, 8, 1)) * INPUT_LSB).astype(np.float32)
    comparison = compare_with_float(session, pair.reference.model(pair.values), {"input": x})
    return ReportContent("quantized.onnx", session.model.sha256, "float.onnx", comparison, [FINDING])


def test_page_is_well_formed_and_asks_for_nothing(content: ReportContent) -> None:
    text = render_report(content)
    found = checked(text)
    assert "script" not in found.tags
    assert [link for link in found.links if not link.startswith(("#", "data:"))] == []
    assert not re.search(r"@import|url\(", text)
    anchors = {link[1:] for link in found.links if link.startswith("#")}
    assert anchors <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_page_shows_every_layer_and_its_numbers(content: ReportContent) -> None:
    found = checked(render_report(content))
    for layer in content.comparison.layers:
        assert layer.name in found.text
        assert decibels(layer.metrics.sqnr_db) in found.text
        assert f"layer-{layer.index}" in found.ids
    assert content.model_sha256 in found.text
    assert decibels(content.comparison.experiment_sqnr_db) in found.text


def test_same_content_gives_the_same_page(content: ReportContent) -> None:
    assert render_report(content) == render_report(content)


def test_files_are_named_without_their_folders(content: ReportContent) -> None:
    text = render_report(replace(content, model="/home/someone/quantized.onnx"))
    assert "<h1>quantized.onnx against float.onnx</h1>" in text
    assert "someone" not in text


def test_text_from_models_is_text(content: ReportContent) -> None:
    name = "</svg><script>alert('x')</script>&\"'"
    layers = tuple(replace(layer, name=f"{name}{layer.index}", tensor=name) for layer in content.comparison.layers)
    hostile = replace(content, model=name, comparison=replace(content.comparison, layers=layers))
    found = checked(render_report(hostile))
    assert "script" not in found.tags
    assert found.text.count("<script>alert('x')</script>") >= 2 * len(layers)
    assert FINDING.message in found.text


def test_numbers_that_are_none_are_shown(content: ReportContent) -> None:
    layers = list(content.comparison.layers)
    for value in (float("inf"), float("-inf"), float("nan")):
        metrics = replace(layers[-1].metrics, sqnr_db=value, mean_error_lsb=value)
        channels = replace(layers[-1].channels, sqnr_db=np.full_like(layers[-1].channels.sqnr_db, value))
        changed = replace(layers[-1], metrics=metrics, channels=channels, attribution=None, effect=None)
        comparison = replace(content.comparison, layers=(*layers[:-1], changed))
        text = render_report(replace(content, comparison=comparison, findings=()))
        checked(text)
        assert re.search(r"(?<![a-z])(nan|inf)(?![a-z])", text) is None


def test_rails_and_rare_values_are_drawn() -> None:
    histogram = Histogram(
        -128.0, 1.0, np.bincount([128, 128, 255], minlength=256)[None].astype(np.int64), *np.zeros((2, 1), np.int64)
    )
    chart = histogram_chart(histogram, title="codes", rails=(-128, 127))
    assert chart.count('class="rail"') == 2
    assert chart.count("h1.") == 2  # code 0, and one value on the upper rail
    assert histogram_chart(histogram, title="codes").count('class="rail"') == 0
    outside = Histogram(0.0, 1.0, np.array([[4]]), np.array([2]), np.array([3]))
    assert "5 values outside" in histogram_chart(outside, title="errors")
    assert channel_heatmap(histogram, title="codes", rails=(-128, 127)).count('class="rail"') == 2


def test_bars_of_channels_end_at_sixty_decibels() -> None:
    strip = channel_strip(np.array([60.0, 30.0, np.inf, np.nan, -10.0]), title="channels")
    assert re.findall(r"v-([\d.]+)h", strip) == ["48.0", "24.0", "48.0", "0.0", "0.0"]


def test_figures() -> None:
    assert [number(value) for value in (None, float("nan"), float("inf"), float("-inf"), 0.0, 1234.56, 12345.6)] == [
        "-", "-", "∞", "-∞", "0", "1.23e+03", "12,346",
    ]  # fmt: skip
    assert [decibels(value) for value in (None, 3.14159, float("inf"))] == ["-", "3.1", "∞"]
    assert [percent(value) for value in (None, 0.0, 1e-9, 0.5, 1.0, -0.25)] == ["-", "0%", "<0.1%", "50%", "100%", "-25%"]
    assert [shade(limit) for limit in SHADES] == list(range(len(SHADES)))
    assert [shade(value) for value in (None, float("nan"), 100.0, -5.0)] == [0, 0, 0, len(SHADES)]


def test_file_is_written_whole_or_not_at_all(content: ReportContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    write_report(path, content)
    assert path.read_text(encoding="utf-8") == render_report(content)
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(tmp_path / "missing" / "report.html", content)
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"jinja2 and pillow.*\.\[report\]"):
        write_report(tmp_path / "other.html", content)
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.slow
@pytest.mark.exports
def test_page_of_the_largest_network_is_below_two_megabytes(tmp_path: Path) -> None:
    export = load_export("CNN_IMG_MOBILENETV1_58K_NPU__ptq_w4a8_oi__ts17")
    session = InferenceSession(export.model)
    with np.load(export.inputs_file) as arrays:
        x, labels = arrays["x"][:64], arrays["label"][:64]
    comparison = compare_with_float(session, export.float_model, {session.get_inputs()[0].name: x}, labels=labels)
    path = tmp_path / "report.html"
    write_report(path, ReportContent(export.name, session.model.sha256, export.network, comparison, ()))
    assert path.stat().st_size < 2e6
    found = checked(path.read_text(encoding="utf-8"))
    assert sum(name.startswith("layer-") for name in found.ids) == len(comparison.layers)
