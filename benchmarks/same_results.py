"""Whether two checkouts of npusim say the same of every real export: outputs, traces, bounds, certificates, vectors, lint.

Each command is run in this process and what it wrote is reduced to digests, one line of JSON for each model. Run it with the
Python of one checkout, then with that of the other, and compare the files::

    python benchmarks/same_results.py ../shared/models before.json
    python benchmarks/same_results.py ../shared/models after.json
    python benchmarks/same_results.py --compare before.json after.json
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

import npusim

COMMANDS = ("run", "verify", "inspect", "bounds", "golden", "lint", "compare")


def main() -> int:
    """Digest all models, or compare two digests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--only", default="", help="part of the names of the exports")
    parser.add_argument("--every", type=int, default=1, help="take each N-th export")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="which of them to run, separated by commas")
    args = parser.parse_args()
    if args.compare:
        return compare(json.loads(args.first.read_text()), json.loads(args.second.read_text()))
    with (args.first / "INDEX.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if args.only in row["name"]][:: args.every]
    digests = {}
    for number, row in enumerate(rows, 1):
        digests[row["name"]] = digest(args.first, row, args.commands.split(","))
        print(f"\r{number} of {len(rows)} {row['name'][:60]:60}", end="", file=sys.stderr)
    args.second.write_text(json.dumps(digests, indent=1))
    return 0


def digest(folder: Path, row: dict[str, str], commands: list[str]) -> dict[str, object]:
    """What every command says of one export."""
    model = folder / "quantized" / f"{row['name']}.onnx"
    inputs, floats = folder / "inputs" / f"{row['network']}.npz", folder / "float" / f"{row['network']}.onnx"
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        with np.load(inputs, allow_pickle=False) as arrays:
            first = arrays["x"][:8]
        name = input_name(model)
        np.savez(work / "x.npz", **{name: first})
        if "run" in commands:
            code, _ = call("run", model, work / "x.npz", "-o", work / "y.npz", "--trace", "*", "-q")
            found["run"] = [code, arrays_of(work / "y.npz")]
        if "verify" in commands:
            found["verify"] = said(model, "verify", model, work / "x.npz", "-q")
        if "inspect" in commands:
            found["inspect"] = said(model, "inspect", model)
        if "bounds" in commands:
            found["bounds"] = said(model, "bounds", model, "-o", work / "c.json")
            found["certificate"] = text_digest((work / "c.json").read_text(), model)
        if "golden" in commands:
            call("golden", "write", model, "-o", work / "golden", "--samples", "2", "--format", "c,npz,bin", "-q")
            found["golden"] = {
                str(path.relative_to(work / "golden")): content(path, model)
                for path in sorted((work / "golden").rglob("*"))
                if path.is_file()
            }
        if "lint" in commands:
            found["lint"] = said(model, "lint", model, "--device", "f28p55x")
        if "compare" in commands and floats.exists():
            found["compare"] = said(model, "compare", model, "--against", floats, "--data", work / "x.npz", "-q")
    return found


def input_name(model: Path) -> str:
    """The name of a model's first input."""
    return npusim.InferenceSession(str(model)).get_inputs()[0].name


def call(*words: object) -> tuple[int, str]:
    """Exit code and standard output of a command, run in this process."""
    from npusim.cli import main as command_line

    out = io.StringIO()
    code = 0
    before = sys.argv
    sys.argv = ["npusim", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            command_line()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    return code, out.getvalue()


def said(model: Path, *words: object) -> list[object]:
    """Exit code of a command with --json, and a digest of each key of its object."""
    code, out = call(*words, "--json")
    try:
        spoken = json.loads(out)
    except ValueError:
        return [code, out[:200]]
    spoken.pop("seconds", None)
    return [code, {key: text_digest(json.dumps(value, sort_keys=True), model) for key, value in spoken.items()}]


def content(path: Path, model: Path) -> object:
    """A digest of a file of a golden folder."""
    return arrays_of(path) if path.suffix == ".npz" else text_digest(path.read_bytes().decode("latin-1"), model)


def text_digest(text: str, model: Path) -> str:
    """A digest of text without what differs from run to run."""
    text = re.sub(r"/tmp/[A-Za-z0-9_]+", "", text)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def arrays_of(path: Path) -> dict[str, str]:
    """Element type, shape and content of each array of an archive."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: array_digest(arrays[name]) for name in arrays.files}


def array_digest(array: np.ndarray) -> str:
    """Element type, shape and a digest of the values."""
    return f"{array.dtype}{array.shape}{hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]}"


def compare(before: dict[str, dict[str, object]], after: dict[str, dict[str, object]]) -> int:
    """Print what differs between two digests."""
    different = 0
    for name in before:
        if name not in after:
            continue
        for command, old in before[name].items():
            new = after[name].get(command)
            if old != new:
                different += 1
                print(f"{name} {command}: {show(old, new)}")
    print(f"{len(before)} and {len(after)} models, {different} differences")
    return 1 if different or not before or before.keys() != after.keys() else 0


def show(old: object, new: object) -> str:
    """Which keys differ."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new) == 2:
        if old[0] != new[0]:
            return f"exit code {old[0]} -> {new[0]}; {show(old[1], new[1])}"
        return show(old[1], new[1])
    if isinstance(old, dict) and isinstance(new, dict):
        return "keys " + ", ".join(sorted(str(key) for key in old.keys() | new.keys() if old.get(key) != new.get(key)))
    return f"{str(old)[:80]} -> {str(new)[:80]}"


if __name__ == "__main__":
    sys.exit(main())
