"""``npusim check`` and `npusim.check`: five parts, one verdict, one exit code."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npusim
from support import ROOT
from support.command_line import call, check_error, checked_json, model_beyond_float32

GOLDEN = ROOT / "golden"
W4, W8, KEYWORDS = GOLDEN / "vibration_w4.onnx", GOLDEN / "vibration_w8.onnx", GOLDEN / "keywords_w8.onnx"
FLOAT, SAMPLES = GOLDEN / "keywords_float.onnx", GOLDEN / "keywords_samples.npz"


def verdicts(value: dict[str, Any]) -> dict[str, str]:
    return {part["part"]: part["verdict"] for part in value["parts"]}


@pytest.mark.slow
def test_all_parts_in_one_object() -> None:
    value = checked_json(
        "check",
        call("check", KEYWORDS, SAMPLES, "--device", "F28P55X", "--float", FLOAT, "--golden", GOLDEN / "keywords_w8", "--json"),
    )
    assert value["verdict"] == "ready"
    assert verdicts(value) == dict.fromkeys(("verify", "bounds", "lint", "compare", "golden"), "passed")
    assert value["totals"] == {"parts": 5, "failed": 0, "errors": 0, "warnings": 1, "layers": 6}
    (finding,) = (finding for finding in value["findings"] if finding["severity"] == "warning")
    assert (finding["part"], finding["rule"], finding["layer"]) == ("lint", "not-covered", "/first/Conv")
    layers = {layer["name"]: layer for layer in value["layers"]}
    assert layers["/first/Conv"]["placement"] == "unknown"
    assert layers["/first/Conv"]["findings"] == 1
    assert [layer["placement"] for layer in value["layers"]].count(None) == 1  # the input stage, which the host computes
    assert all(layer["mismatches"] == 0 for layer in value["layers"])
    assert all(layer["sqnr_db"] > 30 for layer in value["layers"])
    assert (
        value["first"]
        == f"flash, let the device run the sets, and compare: npusim golden check {GOLDEN / 'keywords_w8'} --dump FILE"
    )


def test_the_page_for_people_fits_its_width_and_says_what_was_not_asked() -> None:
    done = call("check", KEYWORDS, "--device", "f28p55x", "--samples", 4)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:3] == [
        "READY for F28P55x: verify, bounds and lint passed; compare and golden not asked",
        "for",
        "",
    ]
    assert "   compare  not asked  not looked at; give --float FLOAT.onnx\n" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert "First: write golden vectors for the device: npusim golden write" in done.out


def test_a_layer_that_the_npu_refuses_comes_first() -> None:
    done = call("check", W8, "--device", "f28p55x", "--samples", 4)
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("NOT READY for F28P55x: lint failed; ")
    assert "\n!! lint     failed     5 of 6 layers on the NPU, 41.5% of the\n" in done.out
    assert done.out.endswith("First: pad channels 3 to 4: +1 filters (at '/conv/Conv')\n")
    assert not npusim.check(W8, "f28p55x", samples=4)


def test_each_part_can_fail(tmp_path: Path) -> None:
    """Verify and bounds: float32 rounds in the model. Compare: limits. Golden: a folder of another model."""
    model = tmp_path / "beyond.onnx"
    model.write_bytes(model_beyond_float32())
    assert (
        verdicts(npusim.check(model, "soft", {"input": np.array([[3, 0, 0, 0]], np.float32)}).to_dict())["verify"] == "failed"
    )
    strict = npusim.check(model, "soft", samples=2, strict=True)
    assert verdicts(strict.to_dict())["bounds"] == "failed"
    other = npusim.check(W4, "soft", samples=2, golden=GOLDEN / "vibration_w8")
    assert (other.parts[-1].verdict, other.findings[0].rule) == ("failed", "other_model")
    covered = npusim.check(W4, "soft", samples=2, golden=GOLDEN / "vibration_w4", min_coverage=0.99)
    assert (covered.parts[-1].verdict, covered.findings[0].rule) == ("failed", "coverage_limit")
    assert npusim.check(W4, "soft", samples=2, golden=GOLDEN / "vibration_w4", min_coverage=0.01)


@pytest.mark.slow
def test_vectors_of_a_device_say_so(tmp_path: Path) -> None:
    npusim.write_golden(W4, tmp_path / "vectors", sets=2, input_stage="mspm0")
    found = npusim.check(W4, "soft", samples=2, golden=tmp_path / "vectors")
    assert found.parts[-1].verdict == "passed"
    assert found.parts[-1].statement.startswith("2 sets are right, for the input stage of mspm0; they reach ")


def test_limits_of_accuracy() -> None:
    samples = np.load(SAMPLES)["input"][:8]
    found = npusim.check(KEYWORDS, "soft", samples, float_model=FLOAT, min_sqnr=90, min_agreement=0.5)
    assert [finding.rule for finding in found.findings if finding.severity == "error"] == ["sqnr_limit"]
    assert found.findings[0].message.startswith("the SQNR of the output in dB is 4")
    assert found.parts[3].verdict == "failed"
    assert found.limits.sqnr_db == 90


def test_limits_are_refused_where_nothing_can_break_them() -> None:
    with pytest.raises(npusim.UsageError, match="for the comparison with the float model; give it as well"):
        npusim.check(W8, "soft", min_agreement=0.9)
    with pytest.raises(npusim.UsageError, match="wanted a share from 0 to 1"):
        npusim.check(W8, "soft", golden=GOLDEN / "vibration_w8", min_coverage=90)


class Page(HTMLParser):
    """Counts elements, and refuses tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not any(name in ("src", "href") and value not in ("data:,",) for name, value in attrs)
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_as_html_and_json(tmp_path: Path) -> None:
    page, file = tmp_path / "page.html", tmp_path / "page.json"
    for path in (page, file):
        done = call("check", W8, "--device", "f28p55x", "--samples", 4, "-o", path)
        assert (done.code, done.err) == (1, f"{path}: page written\n")
    shown = Page(page.read_text(encoding="utf-8"))
    assert shown.open == []
    assert "script" not in shown.seen
    assert shown.seen.count("tr") == 2 + 5 + 7
    assert "lint: input-channels" in shown.words
    assert file.read_text(encoding="utf-8") == call("check", W8, "--device", "f28p55x", "--samples", 4, "--json").out
    check_error("check", W8, "--device", "f28p55x", "-o", page, code=2, kind="UsageError", says="exists already")
    assert call("check", W8, "--device", "f28p55x", "--samples", 4, "-o", page, "--force").code == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing option '--device'"),
        (("--device", "f28p55x", "--min-sqnr", 30), "--min-sqnr is about --float, which is missing"),
        (("--device", "f28p55x", "--min-coverage", 30), "--min-coverage is about --golden, which is missing"),
        (("--device", "f28p55x", "--labels", SAMPLES), "--labels are for the comparison of INPUTS with a float model"),
        (("--device", "f28p55x", "--float", W8), "is a quantized model; give the float model"),
        (("--device", "f28p55x", "-o", "page.txt"), "let the name end in .html or .json"),
        (("--device", "f28p55x", "--golden", ROOT), "manifest.json"),
    ],
)
def test_wrong_usage(arguments: tuple[object, ...], says: str) -> None:
    check_error("check", W8, *arguments, code=2, kind="UsageError" if "manifest" not in says else "InputError", says=says)


def test_devices_in_any_case() -> None:
    assert npusim.check(W4, "F28P55X", samples=2).device.name == "f28p55x"
    assert call("lint", KEYWORDS, "--device", "F28P55x").code == 0
