"""What a parser makes of one line of a log: an exchange in wire form, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OPENAI_JSONL, LANGFUSE, HELICONE, LITELLM = "openai-jsonl", "langfuse", "helicone", "litellm"
FORMATS = (OPENAI_JSONL, LANGFUSE, HELICONE, LITELLM)


class LineError(Exception):
    """Why a line gives no exchange. `is_bad` is False when it never was one, such as a span of a trace."""

    def __init__(self, reason: str, *, is_bad: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_bad = is_bad


@dataclass(frozen=True, slots=True)
class ImportedExchange:
    """One logged request with its answer. Times are UTC microseconds; None where the log does not say.

    `request` and `response` are bodies in the wire form of `protocol` at `path`. `status` 0 means that the log knows of a
    failure (`error_message`) but of no HTTP status. `has_content` is False when the log kept figures only; `is_cut` is True
    when the product that wrote the log had shortened the texts.
    """

    source_id: str
    protocol: str
    path: str
    request: bytes
    response: bytes
    started_us: int | None = None
    ended_us: int | None = None
    first_byte_us: int | None = None
    """From the start to the first piece of the answer."""
    status: int = 200
    error_message: str = ""
    model_asked: str = ""
    model_served: str = ""
    task: str = ""
    user_name: str = ""
    session_name: str = ""
    environment: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    is_stream: bool = False
    has_content: bool = True
    is_cut: bool = False
    is_traffic: bool = True
    """False for a row of a data set: nobody sent it, so it has no unit, and its session only keeps a conversation together."""
