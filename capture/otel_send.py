"""Sends OpenTelemetry spans to a collector by OTLP over HTTP, and waits as often as the protocol says.

Source: https://opentelemetry.io/docs/specs/otlp/ (1.10, OTLP/HTTP): 429, 502, 503 and 504 are tried again, after Retry-After
when it is given; all else is final.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import unquote

import httpx
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from capture.errors import SettingsError, UpstreamError

_AGAIN = (429, 502, 503, 504)
_PATH = "/v1/traces"


class RefusedError(UpstreamError):
    """A collector answered with a status that asking again does not mend."""

    def __init__(self, what: str, next_step: str, status: int) -> None:
        super().__init__(what, next_step)
        self.status = status


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a batch is tried, and how long the pauses are: `first_s`, doubled each time, `longest_s` at most."""

    tries: int = 8
    first_s: float = 1.0
    longest_s: float = 60.0


def address_of(endpoint: str, environ: Mapping[str, str]) -> str:
    """Where spans go: `endpoint`, else what OpenTelemetry's own variables say; SettingsError when nothing does."""
    own = "" if endpoint else environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    base = endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not own and not base:
        raise SettingsError(
            "There is no collector to send to.", "Give --endpoint http://127.0.0.1:4318, or set OTEL_EXPORTER_OTLP_ENDPOINT."
        )
    address = own or (base if base.rstrip("/").endswith(_PATH) else base.rstrip("/") + _PATH)
    if not address.startswith(("http://", "https://")):
        raise SettingsError(f"The collector's address {address!r} is not one of HTTP.", "Write it like http://127.0.0.1:4318.")
    return address


def headers_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The headers in OTEL_EXPORTER_OTLP_HEADERS and, before them, in OTEL_EXPORTER_OTLP_TRACES_HEADERS: name=value,..."""
    found: dict[str, str] = {}
    for variable in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        for pair in filter(None, (pair.strip() for pair in environ.get(variable, "").split(","))):
            name, equals, value = pair.partition("=")
            if not equals or not name.strip():
                raise SettingsError(f"{variable} has a part without name=value.", "Write it like api-key=abc,team=search.")
            found[name.strip().lower()] = unquote(value.strip())
    return found


class Collector:
    """A connection to a collector; use it as a context manager. `rejected` counts spans that it took in and threw away.

    `on_pause` is told in words each time it waits before it tries again.
    """

    def __init__(
        self,
        address: str,
        headers: Mapping[str, str],
        patience: Patience = Patience(),
        on_pause: Callable[[str], None] | None = None,
    ) -> None:
        self.address = address
        self.rejected = 0
        self._was_reached = False
        self._on_pause = on_pause
        self._patience = patience
        own = {"content-type": "application/x-protobuf", "content-encoding": "gzip", "user-agent": "potstill"}
        try:
            self._client = httpx.Client(headers={**headers, **own}, timeout=30)
        except (ValueError, UnicodeError) as error:
            raise SettingsError(
                f"A header for the collector cannot be sent: {error}.", "Check OTEL_EXPORTER_OTLP_HEADERS."
            ) from error

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def send(self, request: ExportTraceServiceRequest, *, resume: str) -> int:
        """Sends one batch, again and again while the collector is busy or has gone away; how many bytes it took.

        UpstreamError when it refuses, stays away, or is not there at the very first try; `resume` is the option to go on with.
        """
        body = gzip.compress(request.SerializeToString(), 1)
        pause_s = self._patience.first_s
        for left in reversed(range(self._patience.tries)):
            reason, after_s = self._post(body, resume)
            if not reason:
                return len(body)
            if not self._was_reached:
                break  # a wrong address is not mended by waiting
            if left:
                wait_s = min(self._patience.longest_s, pause_s if after_s is None else after_s)
                if self._on_pause is not None:
                    self._on_pause(f"The collector at {self.address} does not take spans: {reason}. Again in {wait_s:g} s.")
                time.sleep(wait_s)
                pause_s *= 2
        what = f"The collector at {self.address} does not take spans: {reason}."
        raise UpstreamError(what, f"See that it runs and takes OTLP over HTTP at that address, then go on with {resume}.")

    def _post(self, body: bytes, resume: str) -> tuple[str, float | None]:
        """'' when it was taken, else why not and after how many seconds the collector wants to be asked again."""
        try:
            response = self._client.post(self.address, content=body)
            self._was_reached = True
        except httpx.TransportError as error:
            self._was_reached |= not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol)
            return f"it cannot be reached ({type(error).__name__}: {error})", None
        if response.is_success:
            self._count_rejected(response.content)
            return "", None
        if response.status_code in _AGAIN:
            wanted = response.headers.get("retry-after", "")
            return f"status {response.status_code}", float(wanted) if wanted.isascii() and wanted.isdigit() else None
        said = response.text[:200].strip()
        raise RefusedError(
            f"The collector at {self.address} answered {response.status_code}{f': {said}' if said else ''}.",
            f"Check the address and OTEL_EXPORTER_OTLP_HEADERS; go on with {resume}.",
            response.status_code,
        )

    def _count_rejected(self, body: bytes) -> None:
        try:
            self.rejected += ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans
        except DecodeError:
            return  # a collector that answers in JSON took the spans all the same
