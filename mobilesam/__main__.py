"""Run the command line: `python -m mobilesam`."""

from __future__ import annotations

import sys

from mobilesam.cli import main

if __name__ == "__main__":
    sys.exit(main())
