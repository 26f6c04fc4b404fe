"""Which format a file has, and the parser for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capture.imports import helicone, langfuse, litellm, openai_jsonl
from capture.imports.imported import HELICONE, LANGFUSE, LITELLM, OPENAI_JSONL, ImportedExchange, LineError
from capture.imports.openai_jsonl import FindRequest


def detect(record: Mapping[str, Any]) -> str:
    """The format that `record` is in; '' when it is none of ours."""
    if litellm.recognise(record):
        return LITELLM
    if helicone.recognise(record):
        return HELICONE
    if langfuse.recognise(record):
        return LANGFUSE
    return OPENAI_JSONL if openai_jsonl.recognise(record) else ""


def parse(format: str, record: Mapping[str, Any], find_request: FindRequest) -> ImportedExchange:
    """The exchange in `record`; LineError, whatever the record holds."""
    try:
        if format == LITELLM:
            return litellm.parse(record)
        if format == HELICONE:
            return helicone.parse(record)
        if format == LANGFUSE:
            return langfuse.parse(record)
        return openai_jsonl.parse(record, find_request)
    except RecursionError as error:
        raise LineError("is nested too deep") from error
