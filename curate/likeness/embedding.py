"""Embeds texts with a model of the user's choice, through our own relay: what `curate.likeness.semantic` compares.

The exchanges have purpose `judge` and are stored without content, for one request holds the words of many users. Keys come
from the environment.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

from capture.errors import UpstreamError
from capture.loose_json import as_list, as_object, parse
from capture.progress import Progress
from curate.likeness.semantic import Vectors

_PATH = "/v1/embeddings"
_AT_ONCE = 64
_TIMEOUT_S = 120.0
_MOST = float(np.finfo(np.float32).max)
_EMPTY = "-"
"""What is sent for an empty text, which providers refuse."""


def embed(texts: Sequence[str], relay_url: str, model: str, task: str, on_progress: Progress) -> Vectors:
    """One vector for each of `texts`, asked 64 at a time; UpstreamError with the answer's words when there is none."""
    headers = {"x-potstill-purpose": "judge", "x-potstill-task": task, "x-potstill-store": "no", "accept-encoding": "identity"}
    if key := os.environ.get("OPENAI_API_KEY", ""):
        headers["authorization"] = f"Bearer {key}"
    rows: list[list[float]] = []
    with httpx.Client(timeout=_TIMEOUT_S) as client:
        for start in range(0, len(texts), _AT_ONCE):
            on_progress("embed", start, len(texts))
            asked = [text if text.strip() else _EMPTY for text in texts[start : start + _AT_ONCE]]
            rows += _read(_post(client, relay_url, {"model": model, "input": asked}, headers), len(asked))
    on_progress("embed", len(texts), len(texts))
    if len({len(row) for row in rows}) > 1:
        raise UpstreamError(f"Model {model!r} gave vectors of different lengths.", "Ask one model for all of them.")
    return np.array(rows, np.float32).reshape(len(texts), -1)


def _post(client: httpx.Client, relay_url: str, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
    try:
        response = client.post(relay_url.rstrip("/") + _PATH, json=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UpstreamError(
            f"The relay at {relay_url} cannot be asked: {type(error).__name__}.", "Start it: potstill up"
        ) from error
    if response.status_code != 200:
        what = f"The model answered {response.status_code}: {response.text[:200]}"
        raise UpstreamError(what, "See potstill exchanges list purpose:judge.")
    return response


def _read(response: httpx.Response, count: int) -> list[list[float]]:
    try:
        data = [as_object(item) for item in as_list(as_object(parse(response.content)).get("data"))]
    except ValueError:
        data = []
    by_place = {item.get("index", place): as_list(item.get("embedding")) for place, item in enumerate(data)}
    rows = [by_place.get(place, []) for place in range(count)]
    if not all(row and all(_fits(value) for value in row) for row in rows):
        raise UpstreamError(
            f"The answer holds no {count} vectors: {response.text[:200]}", "Name an embedding model with --model."
        )
    return rows


def _fits(value: object) -> bool:
    """Whether a vector can hold `value`: a number, neither infinite nor NaN, whole ones of any length among them."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MOST <= value <= _MOST
