"""Is everything in order: one finding for each part, with a next step where something is not."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable

from capture.errors import PotstillError
from capture.settings import Settings
from potstill import doctor_network, doctor_store
from potstill.findings import BAD, NOTE, OK, Finding

_PACKAGES = ("sqlalchemy", "psycopg", "msgspec", "zstandard", "httpx", "aiohttp", "litellm", "torch", "transformers", "peft")
_WORTH_HAVING = ("torch", "transformers", "peft")
_EVIL = {("litellm", "1.82.7"), ("litellm", "1.82.8")}
"""Releases that carried a stealer of credentials (PyPI, March 2026)."""


def examine(settings: Settings) -> list[Finding]:
    """Looks at everything; never raises for what it finds."""
    checks: list[tuple[str, Callable[[Settings], list[Finding]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("disk", doctor_store.check_disk),
        ("sqlite", doctor_store.check_sqlite),
        ("store", doctor_store.check_store),
        ("spool", doctor_store.check_spool),
        ("privacy", doctor_store.check_privacy),
        ("relay", doctor_network.check_relay),
        ("upstreams", doctor_network.check_upstreams),
        ("engine", doctor_network.check_engine),
    ]
    findings = []
    for name, check in checks:
        try:
            findings += check(settings)
        except PotstillError as error:
            findings.append(Finding(name, BAD, error.what, error.next_step))
        except OSError as error:
            findings.append(Finding(name, BAD, f"cannot be looked at: {error}.", "Check the path and your rights to it."))
        except Exception as error:  # shown: one check must not stop the others
            what = f"cannot be looked at: {type(error).__name__}: {error}"
            findings.append(Finding(name, BAD, what, "Check the settings of this part: potstill config"))
    return findings


def _python(_settings: Settings) -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] != (3, 11):
        return [
            Finding("python", BAD, f"Python {version}; Potstill is built for 3.11.", "Make .venv with Python 3.11: make install")
        ]
    return [Finding("python", OK, f"Python {version}")]


def _packages(_settings: Settings) -> list[Finding]:
    return judge_packages({name: _version(name) for name in _PACKAGES})


def judge_packages(versions: dict[str, str]) -> list[Finding]:
    """What to say about installed packages; '' for one that is missing."""
    evil = [f"{name} {version}" for name, version in versions.items() if (name, version) in _EVIL]
    if evil:
        what = f"{', '.join(evil)} carried code that steals credentials."
        return [Finding("packages", BAD, what, "Remove it now, change every key of this machine, then: make install")]
    missing = [name for name, version in versions.items() if not version]
    needed = [name for name in missing if name not in _WORTH_HAVING]
    if needed:
        return [Finding("packages", BAD, f"not installed: {', '.join(needed)}", "Install what the lock names: make install")]
    listed = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if missing:
        return [Finding("packages", NOTE, f"{listed}; without {', '.join(missing)}", "Training needs them: make install")]
    return [Finding("packages", OK, listed)]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
