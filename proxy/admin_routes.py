"""All that the admin listener serves, as data: `proxy.admin` makes handlers of it, `proxy.admin_openapi` a description."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that the admin listener serves."""

    method: str
    path: str
    name: str
    says: str
    is_open: bool = False


ROUTES = (
    Route("GET", "/health/live", "live", "200 while the supervisor runs.", is_open=True),
    Route("GET", "/health/ready", "ready", "200 while the relay takes requests, degraded or not; else 503.", is_open=True),
    Route("GET", "/status", "status", "Processes, counters, engine."),
    Route("GET", "/metrics", "metrics", "The same for Prometheus, in its text format."),
    Route("GET", "/openapi.json", "openapi", "This description."),
    Route("POST", "/reload", "reload", "Reads the configuration again, as SIGHUP does; nothing changes when it is refused."),
)
