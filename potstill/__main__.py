"""`python -m potstill`."""

from __future__ import annotations

import sys

from potstill.cli import run_command


def main() -> None:
    """Runs one command and exits with its code."""
    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
