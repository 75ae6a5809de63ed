"""``python -m npusim``: the command line without its entry point on the path."""

from __future__ import annotations

import sys

from npusim.cli import main

if __name__ == "__main__":
    sys.exit(main())
