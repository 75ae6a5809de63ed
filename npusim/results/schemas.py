"""The JSON schemas of all results, derived from their dataclasses; ``python -m npusim.results.schemas`` writes them anew."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from npusim.bounds.certificate_file import CertificateFile
from npusim.golden.folder.manifest import Manifest
from npusim.results.base import Failure
from npusim.results.board import BoardCheckResult
from npusim.results.certificate import CertifyResult
from npusim.results.check_result import CheckResult
from npusim.results.comparison import ExactCompareResult, FloatCompareResult
from npusim.results.demo import DemoResult
from npusim.results.equality import EqualityFile, EqualityResult
from npusim.results.golden import GoldenCheckResult, GoldenVerifyResult, GoldenWriteResult
from npusim.results.inspection import InspectResult
from npusim.results.lint import LintResult, LintRules
from npusim.results.oracle import OracleResult
from npusim.results.quantization import QuantizeResult
from npusim.results.simulation import RunResult
from npusim.results.verification import VerifyResult
from npusim.schemas.derivation import derive_schema, summary_of

__all__ = ["derive_all", "schema_text", "write_schemas"]

WIDTH: Final = 120
"""Columns that a line of a schema's file has at most, but for long texts."""

_RESULTS: Final[Mapping[str, tuple[type, ...]]] = MappingProxyType(
    {
        "bounds": (CertifyResult,),
        "check": (CheckResult,),
        "compare": (ExactCompareResult, FloatCompareResult, EqualityResult),
        "demo": (DemoResult,),
        "golden_check": (GoldenCheckResult, BoardCheckResult),
        "golden_verify": (GoldenVerifyResult,),
        "golden_write": (GoldenWriteResult,),
        "inspect": (InspectResult,),
        "lint": (LintResult, LintRules),
        "oracle": (OracleResult,),
        "quantize": (QuantizeResult,),
        "run": (RunResult,),
        "verify": (VerifyResult,),
    }
)
"""What each command prints with ``--json``, besides a failure."""

_FILES: Final[Mapping[str, tuple[str, type]]] = MappingProxyType(
    {
        "certificate": ("npusim certificate", CertificateFile),
        "equality_certificate": ("npusim certificate of equality", EqualityFile),
        "manifest": ("npusim golden manifest", Manifest),
    }
)
"""Title and content of the JSON files that npusim writes."""


def derive_all() -> dict[str, dict[str, Any]]:
    """The schema of each command's object and of each JSON file, by the names of :func:`npusim.schemas.load_schema`."""
    commands = {name: _of_command(name, kinds) for name, kinds in _RESULTS.items()}
    files = {name: derive_schema(title, summary_of(kind), (kind,)) for name, (title, kind) in _FILES.items()}
    return {**commands, **files}


def _of_command(name: str, kinds: tuple[type, ...]) -> dict[str, Any]:
    title = f"npusim {name.replace('_', ' ')} --json"
    return derive_schema(title, f"The object that '{title}' prints: a result, or a failure.", (*kinds, Failure))


def schema_text(value: object, line: str = "\n") -> str:
    """JSON with what fits on a line on one line; `line` begins a line at the depth of the value.

    Examples
    --------
    >>> schema_text({"type": "array", "maxItems": 0})
    '{"type": "array", "maxItems": 0}'
    """
    short = json.dumps(value)
    if not isinstance(value, dict) or len(line) + len(short) < WIDTH:
        return short
    deeper = f"{line} "
    rows = [f"{json.dumps(key)}: {schema_text(item, deeper)}" for key, item in value.items()]
    return f"{{{deeper}{f',{deeper}'.join(rows)}{line}}}"


def write_schemas(folder: Path) -> None:
    """Write every schema as a file ``NAME.json`` of a folder."""
    for name, schema in derive_all().items():
        (folder / f"{name}.json").write_text(f"{schema_text(schema)}\n", encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(str(files("npusim.schemas"))))
