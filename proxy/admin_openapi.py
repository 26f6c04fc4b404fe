"""The admin listener described in OpenAPI 3.1, made from its routes; each answer that it can give stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from proxy.admin_routes import Route

_TEXTS = {"type": "array", "items": {"type": "string"}}
_CHILD = {
    "type": "object",
    "required": ["name", "state", "pid", "restarts"],
    "properties": {
        "name": {"type": "string"},
        "state": {"enum": ["starting", "running", "waiting", "stopped"]},
        "pid": {"type": "integer"},
        "restarts": {"type": "integer"},
        "exit_status": {"type": ["integer", "null"]},
    },
}
_SCHEMAS: dict[str, Any] = {
    "Live": {"type": "object", "required": ["is_live"], "properties": {"is_live": {"const": True}}},
    "Ready": {
        "type": "object",
        "required": ["is_ready", "is_degraded", "ailing"],
        "properties": {"is_ready": {"type": "boolean"}, "is_degraded": {"type": "boolean"}, "ailing": _TEXTS},
    },
    "Child": _CHILD,
    "Status": {
        "type": "object",
        "required": ["is_ready", "is_stopping", "ailing", "address", "uptime_s", "requests", "workers", "writer", "engine"],
        "properties": {
            "is_ready": {"type": "boolean"},
            "is_stopping": {"type": "boolean"},
            "ailing": _TEXTS,
            "address": {"type": "string"},
            "uptime_s": {"type": "integer"},
            **{name: {"type": "integer"} for name in ("requests", "in_flight", "fallbacks", "dropped", "sync_failures")},
            "workers": {"type": "array", "items": {"$ref": "#/components/schemas/Child"}},
            "writer": {"$ref": "#/components/schemas/Child"},
            "engine": {"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/Child"}]},
            "store_problem_at_start": {"type": "string"},
        },
    },
    "Reloaded": {
        "type": "object",
        "required": ["changed", "needs_restart"],
        "properties": {"changed": _TEXTS, "needs_restart": _TEXTS},
    },
    "Document": {"type": "object", "required": ["openapi", "info", "paths"]},
    "Refusal": {
        "type": "object",
        "required": ["error", "next_step"],
        "properties": {"error": {"type": "string"}, "next_step": {"type": "string"}},
    },
}
_ANSWERS: dict[str, dict[str, str]] = {
    "live": {"200": "Live"},
    "ready": {"200": "Ready", "503": "Ready"},
    "status": {"200": "Status"},
    "openapi": {"200": "Document"},
    "reload": {"200": "Reloaded", "422": "Refusal"},
}


def describe(routes: Sequence[Route], *, has_token: bool) -> dict[str, Any]:
    """The document. With `has_token` it says that all but health asks for one."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, has_token=has_token)
    components: dict[str, Any] = {"schemas": _SCHEMAS}
    if has_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    info = {"title": "Potstill's admin listener", "version": version("potstill")}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


def _operation(route: Route, *, has_token: bool) -> dict[str, Any]:
    answers = {status: _answer(schema) for status, schema in _ANSWERS.get(route.name, {}).items()}
    if route.name == "metrics":
        answers["200"] = {"description": "Prometheus's text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    asks = has_token and not route.is_open
    answers |= {status: _answer("Refusal") for status in ("400", "403", *(("401",) if asks else ()))}
    found: dict[str, Any] = {"operationId": route.name, "summary": route.says, "responses": answers}
    if asks:
        found["security"] = [{"token": []}]
    return found


def _answer(schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": schema, "content": content}
