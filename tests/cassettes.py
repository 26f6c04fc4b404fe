"""Recorded exchanges of real providers, as cassettes in `../shared/data`; what reads them skips where they are not laid out."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


def index() -> list[dict[str, Any]]:
    """One entry for each recorded exchange: its file, its path, and more; skips where there is none."""
    if not (FOLDER / "cassettes_index.jsonl").is_file():
        pytest.skip("recorded exchanges are not in ../shared/data")
    return [json.loads(line) for line in (FOLDER / "cassettes_index.jsonl").read_text("utf-8").splitlines()]


def is_cassette(name: str) -> bool:
    """True for the files that `interactions` reads."""
    return name.endswith((".yaml", ".yml"))


def interactions(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Requests and responses of cassette `name`, as they were recorded."""
    import yaml

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cassette = yaml.load((FOLDER / name).read_text("utf-8"), Loader=_loader())
    for entry in cassette.get("interactions") or cassette.get("http_interactions") or []:
        yield entry["request"], entry["response"]


def body_of(side: dict[str, Any]) -> bytes | None:
    """The body of a request or a response; None where it was not kept."""
    if "parsed_body" in side:
        return json.dumps(side["parsed_body"]).encode()
    body = side.get("body")
    if isinstance(body, dict):
        if "base64_string" in body:
            return base64.b64decode(body["base64_string"])
        body = body.get("string")
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return body if isinstance(body, bytes) else None


@cache
def _loader() -> Any:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Reads the bytes of Ruby's cassettes, too."""

    Loader.add_constructor("!binary", yaml.SafeLoader.construct_yaml_binary)
    return Loader
