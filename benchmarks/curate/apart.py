"""Measures in processes of their own, so that none sees the memory or the warm caches of another."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from typing import Any

from benchmarks.processes import ROOT, python


def spent() -> dict[str, float]:
    """CPU seconds of this process and its ended children, and the largest resident size of one of them, in MB."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in (own, children))
    return {"cpu_s": cpu_s, "rss_mb": max(own.ru_maxrss, children.ru_maxrss) * 1024 / 1e6}


def run(module: str, *arguments: str) -> dict[str, Any]:
    """The JSON object that `python -m benchmarks.curate.<module>` prints last; RuntimeError with what it said when it fails."""
    found = json.loads(do(module, *arguments).strip().rpartition("\n")[2])
    if not isinstance(found, dict):
        raise RuntimeError(f"{module} printed {found!r} in place of an object")
    return found


def do(module: str, *arguments: str) -> str:
    """What `python -m benchmarks.curate.<module>` prints; RuntimeError with its last words when it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POTSTILL_")}
    command = python(f"benchmarks.curate.{module}", *arguments)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return done.stdout
