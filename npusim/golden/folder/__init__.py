"""Golden folders: the exact values that they hold, every file in them, and the proof that a folder is what it says."""

from __future__ import annotations

from npusim.golden.folder.manifest import FORMATS, read_manifest
from npusim.golden.folder.verifier import Verification, verify_folder
from npusim.golden.folder.writer import Options, check_destination, write_folder

__all__ = ["FORMATS", "Options", "Verification", "check_destination", "read_manifest", "verify_folder", "write_folder"]
