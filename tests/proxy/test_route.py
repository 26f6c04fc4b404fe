"""Routing: a request can name a path, a task and a configured upstream, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.settings import Settings
from proxy.route import RAW, Route, RouteError, choose_route, family_of, matches, read_target, route_to, without_secrets
from proxy.settings import read_upstreams
from proxy.upstream_settings import Upstream

OPENAI = Upstream("openai", "openai", "client", "", "https://api.openai.com", "https://api.openai.com/v1")
ANTHROPIC = Upstream("anthropic", "anthropic", "client", "", "https://api.anthropic.com", "https://api.anthropic.com/v1")
LOCAL = Upstream("local", "openai", "none", "", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1")
UPSTREAMS = {each.name: each for each in (OPENAI, ANTHROPIC, LOCAL)}


@pytest.mark.parametrize(
    ("raw", "task", "upstream", "url"),
    [
        ("/v1/chat/completions", "", "openai", "https://api.openai.com/v1/chat/completions"),
        ("/v1/v1/chat/completions", "", "openai", "https://api.openai.com/v1/chat/completions"),
        ("/chat/completions", "", "openai", "https://api.openai.com/v1/chat/completions"),
        ("//v1/chat/completions", "", "openai", "https://api.openai.com/v1/chat/completions"),
        ("http://evil.example/v1/chat/completions", "", "openai", "https://api.openai.com/v1/chat/completions"),
        (
            "/v1/chat/completions?u=http://evil.example/",
            "",
            "openai",
            "https://api.openai.com/v1/chat/completions?u=http://evil.example/",
        ),
        (
            "/task/triage/v1/chat/completions?a=1&b=%20",
            "triage",
            "openai",
            "https://api.openai.com/v1/chat/completions?a=1&b=%20",
        ),
        ("/task/my%5Ftask/v1/messages", "my_task", "anthropic", "https://api.anthropic.com/v1/messages"),
        ("/task/t/v1/v1/messages", "t", "anthropic", "https://api.anthropic.com/v1/messages"),
        ("/v1/messages/count_tokens", "", "anthropic", "https://api.anthropic.com/v1/messages/count_tokens"),
        ("/v1/embeddings", "", "openai", "https://api.openai.com/v1/embeddings"),
        ("/v1/files/file%2Dabc/content", "", "openai", "https://api.openai.com/v1/files/file%2Dabc/content"),
        ("/upstream/local/v1/chat/completions", "", "local", "http://127.0.0.1:8000/v1/chat/completions"),
        ("/upstream/local/task/t/v1/messages", "t", "local", "http://127.0.0.1:8000/v1/messages"),
        ("/task/t/upstream/local/health", "t", "local", "http://127.0.0.1:8000/health"),
    ],
)
def test_a_target_leads_to_the_upstream_of_its_path(raw: str, task: str, upstream: str, url: str) -> None:
    target = read_target(raw)
    route = choose_route(target, family_of(target, {}), UPSTREAMS)
    assert (target.task, route.upstream.name, route.url) == (task, upstream, url)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("/", 404),
        ("/metrics", 404),
        ("/upstream/nobody/v1/models", 404),
        ("/upstream/nobody@evil.example/v1/models", 404),
        ("/v1/../admin", 400),
        ("/v1/%2e%2e/admin", 400),
        ("/v1/x%2f..%2fadmin", 400),
        ("/v1\\..\\admin", 400),
        ("/v1/a%00b", 400),
        ("/upstream/local/@evil.example/", 0),
    ],
)
def test_what_leads_nowhere_is_refused_with_a_next_step(raw: str, status: int) -> None:
    if not status:
        target = read_target(raw)
        assert choose_route(target, "openai", UPSTREAMS).url == "http://127.0.0.1:8000/@evil.example/"
        return
    with pytest.raises(RouteError) as caught:
        target = read_target(raw)
        choose_route(target, family_of(target, {}), UPSTREAMS)
    assert caught.value.status == status
    assert caught.value.next_step


@pytest.mark.parametrize("raw", ["/health", "/health/ready", "/metrics", "/status?a=1", "/task/t/status", "/healthy", "/v2/x"])
def test_who_looks_for_the_admin_listener_at_the_relay_is_told_its_port(raw: str) -> None:
    target = read_target(raw)
    with pytest.raises(RouteError) as caught:
        choose_route(target, family_of(target, {}), UPSTREAMS)
    assert caught.value.status == 404
    assert ("admin_port" in caught.value.next_step) is (raw not in ("/healthy", "/v2/x"))
    assert ("base URL" in caught.value.next_step) is (raw in ("/healthy", "/v2/x"))


def test_a_path_that_both_families_have_goes_by_the_clients_headers() -> None:
    target = read_target("/v1/models")
    assert choose_route(target, family_of(target, {"anthropic-version": "2023-06-01"}), UPSTREAMS).upstream == ANTHROPIC
    assert choose_route(target, family_of(target, {}), UPSTREAMS).upstream == OPENAI


def test_a_family_without_an_upstream_is_named_with_what_to_configure() -> None:
    target = read_target("/v1/messages")
    with pytest.raises(RouteError, match="No upstream speaks anthropic") as caught:
        choose_route(target, family_of(target, {}), {"openai": OPENAI})
    assert "[upstreams.anthropic]" in caught.value.next_step


def test_an_upstream_named_after_its_family_wins_over_others() -> None:
    target = read_target("/v1/chat/completions")
    assert choose_route(target, "openai", {"local": LOCAL, "openai": OPENAI}).upstream == OPENAI
    assert choose_route(target, "openai", {"local": LOCAL}).upstream == LOCAL


def upstreams(**given: dict[str, object]) -> dict[str, Upstream]:
    """Upstreams with `given` settings, at addresses of their names where they have none."""
    named = {name: {"url": f"https://{name}.example/v1", **each} for name, each in given.items()}
    return read_upstreams(Settings(None, Path("/nowhere"), {"upstreams": named, "store": {"data_folder": "/tmp"}}))


def routed(raw: str, model: str, found: dict[str, Upstream]) -> Route:
    target = read_target(raw)
    return choose_route(target, family_of(target, {}), found, model)


MANY = upstreams(
    small={"models": ["gpt-*-mini", "o*"], "aliases": {"fast": "gpt-5-mini"}},
    large={"models": ["gpt-5*"]},
    claude={"protocol": "anthropic", "url": "https://claude.example", "models": ["claude-*"]},
    gemini={"protocol": "litellm"},
    rest={},
)


@pytest.mark.parametrize(
    ("path", "model", "upstream", "sent"),
    [
        ("/v1/chat/completions", "gpt-5-mini", "small", ""),
        ("/v1/chat/completions", "gpt-5", "large", ""),
        ("/v1/chat/completions", "fast", "small", "gpt-5-mini"),
        ("/v1/embeddings", "o-embed", "small", ""),
        ("/v1/chat/completions", "llama", "rest", ""),
        ("/v1/chat/completions", "", "rest", ""),
        ("/v1/chat/completions", "claude-4", "rest", ""),
        ("/v1/messages", "claude-4", "claude", ""),
        ("/v1/messages", "gemini/gemini-2.5-pro", "gemini", ""),
        ("/v1/chat/completions", "gemini/gemini-2.5-pro", "gemini", ""),
        ("/upstream/large/v1/chat/completions", "fast", "large", ""),
        ("/upstream/small/v1/chat/completions", "fast", "small", "gpt-5-mini"),
        ("/v1/realtime?model=gpt-5-realtime", "", "large", ""),
    ],
)
def test_a_model_leads_to_the_first_upstream_that_names_it(path: str, model: str, upstream: str, sent: str) -> None:
    route = routed(path, model, MANY)
    assert (route.upstream.name, route.model) == (upstream, sent)


def test_a_model_that_no_upstream_takes_is_refused_by_name() -> None:
    only = upstreams(small={"models": ["gpt-*"]})
    with pytest.raises(RouteError, match="No upstream takes model 'llama'") as caught:
        routed("/v1/chat/completions", "llama", only)
    assert "models of one of small" in caught.value.next_step
    assert routed("/v1/models", "", only).upstream.name == "small"
    translated = upstreams(gemini={"protocol": "litellm"})
    with pytest.raises(RouteError, match="No upstream takes model 'gpt-5'"):
        routed("/v1/chat/completions", "gpt-5", translated)


def test_the_family_of_an_upstream_that_is_translated_for_is_the_clients() -> None:
    assert routed("/v1/messages", "gemini/x", MANY).family == "anthropic"
    assert routed("/v1/chat/completions", "gemini/x", MANY).family == "openai"


AZURE = upstreams(
    azure={"url": "https://r.openai.azure.com", "api_version": "2024-10-21", "aliases": {"gpt-5": "my gpt"}},
    plain={"url": "https://plain.example/v1"},
)
NEWER = upstreams(azure={"url": "https://r.openai.azure.com/openai/v1"})


@pytest.mark.parametrize(
    ("raw", "model", "url"),
    [
        (
            "/openai/deployments/d1/chat/completions?api-version=2025-01-01",
            "d1",
            "/openai/deployments/d1/chat/completions?api-version=2025-01-01",
        ),
        ("/openai/deployments/d1/embeddings", "", "/openai/deployments/d1/embeddings?api-version=2024-10-21"),
        (
            "/task/t/openai/deployments/gpt-5/completions?a=1",
            "",
            "/openai/deployments/my%20gpt/completions?api-version=2024-10-21&a=1",
        ),
        ("/openai/files?api-version=2025-01-01", "", "/openai/files?api-version=2025-01-01"),
        ("/upstream/azure/v1/chat/completions", "d1", "/openai/deployments/d1/chat/completions?api-version=2024-10-21"),
        ("/upstream/azure/v1/responses", "d1", "/openai/responses?api-version=2024-10-21"),
        ("/upstream/azure/v1/models", "", "/openai/models?api-version=2024-10-21"),
        ("/openai/v1/chat/completions", "d1", "/openai/v1/chat/completions"),
        ("/openai/v1/responses/resp_1?api-version=preview", "", "/openai/v1/responses/resp_1?api-version=preview"),
    ],
)
def test_an_azure_resource_gets_the_address_it_understands(raw: str, model: str, url: str) -> None:
    assert routed(raw, model, AZURE).url == "https://r.openai.azure.com" + url


@pytest.mark.parametrize(
    ("raw", "url"),
    [
        ("/v1/chat/completions", "/openai/v1/chat/completions"),
        ("/openai/v1/embeddings", "/openai/v1/embeddings"),
        ("/openai/deployments/d1/chat/completions", "/openai/v1/chat/completions"),
        ("/openai/deployments/d1/chat/completions?api-version=v", "/openai/deployments/d1/chat/completions?api-version=v"),
    ],
)
def test_an_azure_resource_without_an_api_version_gets_addresses_that_need_none(raw: str, url: str) -> None:
    assert routed(raw, "d1", NEWER).url == "https://r.openai.azure.com" + url


def test_what_azure_clients_ask_for_is_the_same_to_us_as_what_openais_ask_for() -> None:
    for raw in ("/openai/deployments/d1/chat/completions?api-version=v", "/openai/v1/chat/completions"):
        route = routed(raw, "d1", AZURE)
        assert (route.protocol, route.family, route.path, route.model) == ("openai", "openai", "/v1/chat/completions", "")


def test_an_azure_client_is_served_by_an_upstream_that_is_not_azures() -> None:
    route = routed("/openai/deployments/d1/chat/completions?api-version=v&x=1", "", upstreams(plain={}))
    assert (route.url, route.model) == ("https://plain.example/v1/chat/completions?x=1", "d1")


def test_an_upstream_that_is_named_gets_its_path_as_it_is() -> None:
    groq = upstreams(groq={"url": "https://api.groq.com"})
    route = routed("/upstream/groq/openai/v1/chat/completions?x=%20", "m", groq)
    assert (route.url, route.protocol) == ("https://api.groq.com/openai/v1/chat/completions?x=%20", "openai")
    assert routed("/upstream/groq/openai/v2/things", "m", groq).protocol == RAW


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/files/file-1/content", "/v1/files/file-1/content"),
        ("/responses/resp_1/cancel", "/v1/responses/resp_1/cancel"),
        ("/v1/v1/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs"),
        ("/task/t/audio/speech", "/v1/audio/speech"),
        ("/messages/batches/msgbatch_1/results", "/v1/messages/batches/msgbatch_1/results"),
        ("/anthropic/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/v1/models/ft:gpt-5:org::id", "/v1/models/ft:gpt-5:org::id"),
    ],
)
def test_every_endpoint_is_served_under_each_style_of_base_address(raw: str, path: str) -> None:
    route = routed(raw, "", UPSTREAMS)
    assert route.url == route.upstream.base + path[3:]
    assert route.upstream.name == ("anthropic" if "messages" in path else "openai")


def test_a_request_can_go_to_one_that_stands_in_with_its_own_name_for_the_model() -> None:
    target = read_target("/v1/chat/completions")
    stand_in = upstreams(backup={"aliases": {"gpt-5": "openai/gpt-5"}})["backup"]
    route = route_to(stand_in, target, "openai", "gpt-5")
    assert (route.url, route.model) == ("https://backup.example/v1/chat/completions", "openai/gpt-5")
    at_azure = route_to(AZURE["azure"], target, "openai", "gpt-5").url
    assert at_azure.endswith("/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21")


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_a_star_stands_for_any_text(pattern: str, model: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), model) is not None
    assert matches(pattern, model) is expected


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n "), max_size=40))
def test_no_deployment_changes_the_host_or_leaves_the_resource(name: str) -> None:
    try:
        route = routed(f"/openai/deployments/{name}/chat/completions", "", AZURE)
    except RouteError:
        return
    assert route.url.startswith(route.upstream.root + "/")


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n "), max_size=60))
def test_no_target_changes_the_host(raw: str) -> None:
    try:
        target = read_target("/" + raw)
        route = choose_route(target, family_of(target, {}), UPSTREAMS)
    except RouteError:
        return
    assert route.url.startswith(route.upstream.root + "/")


def test_keys_in_a_query_are_not_kept() -> None:
    assert without_secrets("alt=sse&key=AIza123&x=1") == "alt=sse&key=[REDACTED]&x=1"
    assert without_secrets("api_key=a%20b") == "api_key=[REDACTED]"
    assert without_secrets("a=1;ke%79=b&sig=c&author=d&keyless") == "a=1;ke%79=[REDACTED]&sig=[REDACTED]&author=d&keyless"
    assert without_secrets("") == ""
