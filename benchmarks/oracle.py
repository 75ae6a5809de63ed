"""The C of every model, compiled with and without optimizations, against npusim in every layer; and what it takes.

    python benchmarks/oracle.py MODEL.onnx ... [--samples 12]

Prints a row for each model: equal or not, bytes of constants and of memory, or why there is no C for it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from npusim import InferenceSession, UnsupportedError
from npusim.engine.oracle import compile_oracle, oracle_source
from npusim.search.sampling import generate_inputs

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-ffp-contract=off", "-shared", "-fPIC")


def main() -> int:
    """Compile, compare, print; exit code 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--samples", type=int, default=12)
    arguments = parser.parse_args()
    equal = refused = different = 0
    print(f"{'model':<60} {'flash':>8} {'RAM':>8}")
    for path in arguments.models:
        session = InferenceSession(str(path))
        try:
            made = oracle_source(session)
        except UnsupportedError as reason:
            refused += 1
            print(f"{path.stem:<60} no C: {reason}")
            continue
        feeds = generate_inputs(session.program, arguments.samples)
        held, expected = session.held(feeds, made.layers), session.run(None, feeds)
        wrong = []
        for level in ("-O0", "-O2"):
            with compile_oracle(made, session.program, flags=(*WARNINGS, level)) as compiled:
                outputs, layers = compiled.run(feeds)
            wrong += [name for name in made.layers if (layers[name] != held[name]).any()]
            wrong += [
                str(place) for place, pair in enumerate(zip(outputs, expected, strict=True)) if (pair[0] != pair[1]).any()
            ]
        different += bool(wrong)
        equal += not wrong
        print(
            f"{path.stem:<60} {made.flash_bytes:>8} {made.arena_bytes:>8} {'DIFFERENT: ' + wrong[0] if wrong else ''}",
            flush=True,
        )
    print(f"equal {equal}, different {different}, no C {refused}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
