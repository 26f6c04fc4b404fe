"""A tiny parent for the engine, so that none of its processes outlives whoever supervises it. Run as a script.

    engine_guard.py OUTPUT GRACE_SECONDS PROGRAM ARGUMENTS...

It starts PROGRAM as leader of a session of its own with its output appended to OUTPUT, and writes its process id as one
line. When its standard input ends (the supervisor closed it, or died), or on SIGTERM, it ends the whole group: politely
first, by force after GRACE_SECONDS. When PROGRAM ends by itself the rest of the group is ended at once: the engine's
helpers do not notice that their parent was killed. It imports nothing but the standard library and nothing of ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main(arguments: list[str]) -> int:
    """The exit status of the program, or 128 and the signal that ended it."""
    output, grace_s, *command = arguments
    is_stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal is_stopping
        is_stopping = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    pid = os.fork()
    if pid == 0:
        _become(output, command)
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()
    os.close(sys.stdout.fileno())
    while True:
        status = _reap(pid)
        if status is not None:
            _signal_group(pid, signal.SIGKILL)
            return status
        if is_stopping or _has_ended(0, 0.1):
            return _end(pid, float(grace_s))


def _become(output: str, command: list[str]) -> None:
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((nothing, 0), (file, 1), (file, 2)):
            os.dup2(source, target)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    os._exit(127)


def _end(pid: int, grace_s: float) -> int:
    _signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    status = None
    while time.monotonic() < deadline and (status is None or _signal_group(pid, 0)):
        if status is None:
            status = _reap(pid)
        else:
            _reap_others()
        time.sleep(0.05)
    _signal_group(pid, signal.SIGKILL)
    if status is None:
        status = _exit_status(os.waitpid(pid, 0)[1])
    return status


def _reap(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return None if done == 0 else _exit_status(status)


def _reap_others() -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _exit_status(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _signal_group(pid: int, number: int) -> bool:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _has_ended(descriptor: int, timeout_s: float) -> bool:
    return bool(select.select([descriptor], [], [], timeout_s)[0]) and os.read(descriptor, 4096) == b""


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
