"""SIGHUP and POST /reload on a real house: what changes, what stays, and that no stream notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.capture.collecting import receiving
from tests.proxy.housing import House, house_in, until_async
from tests.proxy.scripting import CHAT_ANSWER, Received, Upstream, chunk, chunked_head, http_answer, talk, until

KEY = "Authorization: Bearer sk-test\r\n"
CHAT = "POST /v1/chat/completions"
ASK = b'{"model": "m"}'
OTHER_ANSWER = CHAT_ANSWER.replace(b"billing", b"another")


def rewrite(house: House, old: str, new: str) -> None:
    """Changes the configuration file."""
    assert house.settings.path is not None
    written = house.settings.path.read_text("utf-8")
    assert old in written
    house.settings.path.write_text(written.replace(old, new), "utf-8")


async def reload(house: House) -> tuple[int, dict[str, Any]]:
    status, body, _ = await house.ask("POST", "/reload")
    return status, json.loads(body)


def pids(status: dict[str, Any]) -> list[int]:
    return [worker["pid"] for worker in status["workers"]]


async def answer_of(house: House) -> bytes:
    return (await talk(house.port, CHAT, KEY, ASK)).body


async def test_a_stream_goes_on_while_new_requests_go_by_the_new_configuration(tmp_path: Path, upstream: Upstream) -> None:
    go_on = asyncio.Event()

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        assert len(upstream.received) == 1, "what came after the reload went elsewhere"
        writer.write(chunked_head() + chunk(b"data: 1\n\n"))
        await go_on.wait()
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async def other_script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(OTHER_ANSWER))

    other = Upstream(other_script)
    server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    other.port = server.sockets[0].getsockname()[1]
    upstream.script = script
    async with house_in(tmp_path, upstream.url, workers=2) as house:
        before = await house.status()
        stream = asyncio.ensure_future(talk(house.port, CHAT, KEY, ASK))
        await until(lambda: upstream.received)
        rewrite(house, upstream.url, other.url)
        house.process.send_signal(signal.SIGHUP)
        await until_async(house.status, lambda status: [worker["reloads"] for worker in status["workers"]] == [1, 1])
        for _ in range(10):
            assert await answer_of(house) == OTHER_ANSWER
        assert not stream.done()
        go_on.set()
        reply = await stream
        assert reply.is_whole and reply.body == b"data: 1\n\ndata: [DONE]\n\n"
        after = await house.status()
        assert pids(after) == pids(before)
        assert after["writer"]["pid"] == before["writer"]["pid"]
        assert all(worker["restarts"] == 0 for worker in after["workers"])
    server.close()


async def test_a_bad_configuration_is_refused_with_the_reason_and_nothing_changes(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        before = await house.status()
        rewrite(house, "[relay]", "[relay]\nidle_timeout = 3")
        status, said = await reload(house)
        assert status == 422
        assert "'idle_timeout' is unknown" in said["error"] and "idle_timeout_s" in said["next_step"]
        house.process.send_signal(signal.SIGHUP)
        await until_async(house.status, lambda status: status["reloads"] == {"done": 0, "refused": 2})
        assert await answer_of(house) == CHAT_ANSWER
        assert pids(await house.status()) == pids(before)


async def test_a_worker_that_dies_while_the_file_is_bad_starts_with_what_was_accepted(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        rewrite(house, "[relay]", "[relay]\nthis is no TOML")
        (worker,) = (await house.status())["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        await until_async(house.status, lambda status: status["workers"][0]["restarts"] == 1 and status["is_ready"])
        assert await answer_of(house) == CHAT_ANSWER


async def test_workers_come_and_go_and_what_needs_a_restart_is_named(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url, workers=1) as house:
        first = pids(await house.status())
        rewrite(house, "workers = 1", "workers = 3")
        rewrite(house, "admin_port = 0", "admin_port = 1")
        status, said = await reload(house)
        assert (status, said) == (200, {"changed": ["relay.workers"], "needs_restart": ["relay.admin_port"]})
        await until_async(house.status, lambda status: len(status["workers"]) == 3 and not status["ailing"])
        assert pids(await house.status())[:1] == first
        for _ in range(6):
            assert await answer_of(house) == CHAT_ANSWER
        rewrite(house, "workers = 3", "workers = 1")
        assert (await reload(house))[0] == 200
        await until_async(house.status, lambda status: len(status["workers"]) == 1 and not status["leaving"])
        assert pids(await house.status()) == first
        assert await answer_of(house) == CHAT_ANSWER
        await until_async(house.status, lambda status: status["requests"] >= 6)  # what a worker counted that is gone still counts


async def test_the_store_writer_starts_anew_only_when_its_settings_changed(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        await until_async(house.status, lambda status: status["writer"].get("full_us"))
        writer = (await house.status())["writer"]["pid"]
        rewrite(house, "[relay]", "[relay]\nidle_timeout_s = 30")
        assert (await reload(house))[1]["changed"] == ["relay.idle_timeout_s"]
        assert (await house.status())["writer"]["pid"] == writer
        rewrite(house, "[relay]", "[capture]\nmax_body_mib = 9\n[relay]")
        assert (await reload(house))[1]["changed"] == ["capture.max_body_mib"]
        await until_async(house.status, lambda status: status["writer"]["pid"] not in (0, writer))
        assert (await house.status())["writer"]["restarts"] == 0, "it was asked to"


async def test_processes_that_a_new_section_asks_for_start_and_end_with_it(tmp_path: Path, upstream: Upstream) -> None:
    def named(status: dict[str, Any]) -> dict[str, str]:
        return {child["name"]: child["state"] for child in status["others"]}

    with receiving() as collector:
        async with house_in(tmp_path, upstream.url) as house:
            assert named(await house.status()) == {}
            rewrite(
                house, "[engine]", f'[otel]\nendpoint = "{collector.url}"\n[upstreams.gemini]\nprotocol = "litellm"\n[engine]'
            )
            assert (await reload(house))[0] == 200
            await until_async(house.status, lambda status: named(status) == {"translation": "running", "traces": "running"})
            await until_async(house.status, lambda status: any("spans_sent" in child for child in status["others"]))
            assert await answer_of(house) == CHAT_ANSWER
            sent = ("potstill_spans_sent_total", frozenset[tuple[str, str]]())
            await until_async(house.metrics, lambda samples: samples[sent] == 1)
            assert len(collector.spans) == 1
            rewrite(house, "[otel]", "[train]\n[otel]")
            rewrite(house, f'endpoint = "{collector.url}"\n[upstreams.gemini]\nprotocol = "litellm"\n', "")
            assert (await reload(house))[0] == 200
            await until_async(house.status, lambda status: named(status) == {})
            assert (await house.status())["ailing"] == []
            assert await answer_of(house) == CHAT_ANSWER


async def test_a_reload_while_translation_starts_does_not_kill_it(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        rewrite(house, "[engine]", '[upstreams.gemini]\nprotocol = "litellm"\n[engine]')
        assert (await reload(house))[0] == 200
        rewrite(house, 'protocol = "litellm"', 'protocol = "litellm"\nmodels = ["gemini/*"]')
        assert (await reload(house))[1]["changed"] == ["upstreams.gemini.models"]

        def is_settled(status: dict[str, Any]) -> bool:
            (translation,) = status["others"]
            return bool(translation["state"] == "running" and not status["ailing"])

        await until_async(house.status, is_settled)
        (translation,) = (await house.status())["others"]
        assert (translation["restarts"], translation["pid"] > 0) == (0, True)
        rewrite(house, '"gemini/*"', '"gemini/*", "palm/*"')
        assert (await reload(house))[0] == 200
        (after,) = (await house.status())["others"]
        assert (after["pid"], after["restarts"]) == (translation["pid"], 0), "once it is up it reads its settings again"


async def test_restarts_of_a_worker_that_a_reload_took_away_still_count_when_it_is_back(
    tmp_path: Path, upstream: Upstream
) -> None:
    restarts = ("potstill_child_restarts_total", frozenset({("child", "relay worker 2")}))
    async with house_in(tmp_path, upstream.url, workers=2) as house:
        os.kill(pids(await house.status())[1], signal.SIGKILL)
        await until_async(house.metrics, lambda samples: samples[restarts] == 1)
        for old, new, count in (("workers = 2", "workers = 1", 1), ("workers = 1", "workers = 2", 2)):
            rewrite(house, old, new)
            assert (await reload(house))[0] == 200
            assert len((await house.status())["workers"]) == count
        assert (await house.metrics())[restarts] == 1
