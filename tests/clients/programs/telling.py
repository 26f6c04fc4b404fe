"""What the Python programs here share: what they ask, under which headers, and how they tell what came back."""

from __future__ import annotations

import json
import sys
from typing import Any

ADDRESS = sys.argv[1]
"""Where the app's settings point: the relay."""

QUESTION = "Grüße aus 東京 👩‍🚀 today"
TOOL_QUESTION = "Please use get weather for Oslo"
WEATHER = "4 degrees"
FEW = 3
"""How many pieces of a stream are read before leaving it."""

_SCRIPTS = {"error": "status=429,retry_after=7", "cancel": "chunk_delay_ms=20,body_bytes=60000"}


def headers(client: str, scenario: str) -> dict[str, str]:
    """What an app sets to be found again, and what the scripted provider is to do."""
    found = {
        "x-potstill-task": client if scenario != "refusal" else "not a task",
        "x-potstill-session": f"{client} {scenario}",
        "x-potstill-tag-scenario": scenario,
        "x-app": f"{client}/{scenario}",
    }
    return found | ({"x-script": _SCRIPTS[scenario]} if scenario in _SCRIPTS else {})


def tell(client: str, scenario: str, **found: Any) -> None:
    """One line for the test."""
    print(json.dumps({"client": client, "scenario": scenario, **found}), flush=True)


def tell_error(client: str, scenario: str, error: Exception) -> None:
    """An error as the app sees it: its type, the status and retry-after where it carries them, its words."""
    cause: BaseException | None = error
    while cause is not None and not hasattr(cause, "status_code"):
        cause = cause.__cause__ or cause.__context__
    response = getattr(cause, "response", None)
    tell(
        client,
        scenario,
        error=type(error).__name__,
        status=getattr(cause, "status_code", None),
        retry_after=response.headers.get("retry-after") if response is not None else None,
        message=str(error),
    )
