"""What a device wrote, held against what is right: where they differ, and which mistake explains the differences."""

from __future__ import annotations

from npusim.golden.check.dump_check import Check, Expectation, Mismatch, check_dump, check_header, is_header
from npusim.golden.check.evidence import WeighedCause
from npusim.golden.check.expected import Expected, expected_of_dump, expected_of_folder, expected_of_model, is_folder

__all__ = [
    "Check",
    "Expectation",
    "Expected",
    "Mismatch",
    "WeighedCause",
    "check_dump",
    "check_header",
    "expected_of_dump",
    "expected_of_folder",
    "expected_of_model",
    "is_folder",
    "is_header",
]
