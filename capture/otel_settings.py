"""Section [otel]: whether exchanges go to a collector as traces, as they are stored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OtelSettings:
    """Traces of OpenTelemetry, sent by OTLP over HTTP. Headers, such as a key, come from OTEL_EXPORTER_OTLP_HEADERS."""

    endpoint: str = ""
    """Address of the collector, such as http://127.0.0.1:4318; empty: no traces are sent."""
    with_content: bool = False
    """Whether the spans carry the texts of prompts and answers."""
    where: str = ""
    """A filter, such as task:triage, for what is sent; empty: everything."""

    def __post_init__(self) -> None:
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"endpoint is {self.endpoint!r}, not an address like http://127.0.0.1:4318")
