"""The site of docs/: ``sphinx-build -W docs build/docs`` makes it; build/docs/index.html opens offline, its search included."""

from __future__ import annotations

import io
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import npusim
from npusim.cli import main
from npusim.schemas import COMMANDS, load_schema

project, author, release = "npusim", "npusim contributors", npusim.__version__
project_copyright = "npusim contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"npusim {release}"
html_static_path: list[str] = []
exclude_patterns = ["_build"]
templates_path: list[str] = []
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["misc.highlighting_failure"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Yields", "returns_style")]

GENERATED = Path(__file__).parent / "generated"
"""Pages that are made of what the program itself says; git ignores them."""

GOLDEN = Path(__file__).parent.parent / "golden"
EXTRA = GENERATED / "files"
EXTRA.mkdir(parents=True, exist_ok=True)
html_extra_path = ["generated/files"]


def printed(*arguments: str) -> str:
    """What a command prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = main(arguments)
    if code:
        raise RuntimeError(f"npusim {' '.join(arguments)} gave {code}")
    return out.getvalue()


def commands_page() -> str:
    """The help of every command."""
    parts = ["# Commands", "What `--help` prints.", f"```text\n{printed('--help')}```"]
    for command in COMMANDS:
        words = command.split("_")
        parts += [f"## npusim {' '.join(words)}", f"```text\n{printed(*words, '--help')}```"]
    return "\n\n".join(parts) + "\n"


def rules_page() -> str:
    """The rules of every device."""
    text = "What `npusim lint --rules` prints: each rule with its document and date, and what is covered."
    return f"# Device rules\n\n{text}\n\n```text\n{printed('lint', '--rules')}```\n"


def json_page() -> str:
    """The keys of the objects that commands print with ``--json``."""
    parts = [
        "# JSON objects",
        "What commands print with `--json`. `npusim.schemas.load_schema(name)` gives the schema (draft 2020-12).",
    ]
    for command in COMMANDS:
        parts.append(f"## npusim {command.replace('_', ' ')}")
        for number, kind in enumerate(_kinds(load_schema(command)), 1):
            rows = [f"| `{key}` | {_text(value)} |" for key, value in kind.get("properties", {}).items()]
            parts.append(f"{number}. {_text(kind)}")
            parts.append("\n".join(["| key | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def more_page() -> str:
    """A table of contents of the pages that index.md does not list, so that none is lost."""
    folder = Path(__file__).parent
    listed = (folder / "index.md").read_text(encoding="utf-8").splitlines()
    others = [path.stem for path in sorted(folder.glob("*.md")) if path.stem not in (*listed, "index")]
    return "\n".join(["# More", "", "```{toctree}", ":maxdepth: 1", "", *(f"../{name}" for name in others), "```", ""])


def write_reports(folder: Path) -> None:
    """The pages that commands write as files, of the models of golden/."""
    model, samples, floats = "keywords_w8.onnx", "keywords_samples.npz", "keywords_float.onnx"
    with chdir(GOLDEN):  # so that the pages name files, not places of this machine
        printed(
            "compare", model, "--against", floats, "--data", samples, "-q", "--force", "-o", str(folder / "compare_report.html")
        )
        printed(
            "check", model, samples, "--device", "f28p55x", "--float", floats, "--force", "-o", str(folder / "check_page.html")
        )


REPORTS_PAGE = """# Reports

What `-o` of two commands writes, for the network of `golden/keywords_w8.onnx`; each is one file that opens offline.

* <a href="../compare_report.html">The report of <code>npusim compare</code></a>: findings, the network coloured by the
  error that each layer introduces, histograms of codes and errors, channel by channel.
* <a href="../check_page.html">The page of <code>npusim check</code></a>: ready or not, why, and what to do first.
"""


def _kinds(schema: dict[str, Any]) -> list[dict[str, Any]]:
    listed = schema.get("oneOf") or schema.get("anyOf") or [schema]
    return [schema["$defs"][one["$ref"].rsplit("/", 1)[-1]] if "$ref" in one else one for one in listed]


def _text(schema: dict[str, Any]) -> str:
    return str(schema.get("description", schema.get("title", ""))).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def write_pages(_app: Sphinx) -> None:
    """Write the pages before Sphinx looks for them."""
    write_reports(EXTRA)
    (GENERATED / "reports.md").write_text(REPORTS_PAGE, encoding="utf-8")
    for name, page in (
        ("commands", commands_page()),
        ("device_rules", rules_page()),
        ("json", json_page()),
        ("more", more_page()),
    ):
        (GENERATED / f"{name}.md").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Hook in."""
    app.connect("builder-inited", write_pages)
