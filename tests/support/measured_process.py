"""Programs whose memory is measured, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

__all__ = ["PEAK", "run_measured"]

PEAK = """
import resource
import sys

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
"""
"""What a measured program begins with: `peak()`, the most memory that it has held so far, in bytes."""

LAUNCHER = """
import subprocess, sys
try:
    sys.exit(subprocess.run(sys.argv[2:], timeout=float(sys.argv[1])).returncode)
except subprocess.TimeoutExpired:
    sys.exit("the measured program took too long")
"""


def run_measured(program: str, *arguments: str, seconds: float) -> str:
    """What a Python program prints; `peak()` inside of it is its own peak.

    The system's figure for a process includes what its parent held when the process began, and the tests' own process holds
    hundreds of megabytes: so a small process stands between the two. (/proc has a cleaner figure, but not every sandbox has
    it.) It imports what is installed, not the folder npusim/ of the project's root when the tests run there (-P).
    """
    command = [sys.executable, "-S", "-c", LAUNCHER, str(seconds), sys.executable, "-P", "-c", PEAK + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"the measured program ended with {done.returncode}: {done.stderr}")
    return done.stdout
