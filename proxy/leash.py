"""Becomes another program that does not outlive the process that started it. Run as a script, by path.

    leash.py PARENT_PID PROGRAM ARGUMENTS...

On Linux the kernel sends SIGTERM when the parent dies, however it dies; a parent that is gone already is noticed here.
Elsewhere the program has to notice by itself. When it crashes it leaves no core dump, which would hold the keys and texts of
every open request. It imports nothing of ours, so that it starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> NoReturn:
    """Becomes the program; exits with 1 when the parent is gone already."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
