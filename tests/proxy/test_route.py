"""Routing: a request can name a path, a task and a configured upstream, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.route import RouteError, choose_route, family_of, read_target, without_secrets
from proxy.settings import Upstream

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
    assert without_secrets("") == ""
