"""What a relay worker has: its settings, connections, spool, flags and counters; and how it asks teacher and student."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from capture import clock
from capture.capture_settings import CaptureSettings
from capture.exchange import TIMEOUT, UPSTREAM_ABORTED
from capture.spool import SpoolWriter
from proxy.breaker import Breaker
from proxy.budget import Budget
from proxy.failures import Failure
from proxy.headers import for_student, for_upstream
from proxy.omission import Omission
from proxy.peek import with_model
from proxy.reading import Asked
from proxy.recording import Recording
from proxy.settings import KEY_FROM_CLIENT, OPENAI, RelaySettings, Upstream
from serve.flags import Assignment, Snapshot

ENGINE = "engine"
"""Name of the upstream that answers for a student."""
_READ_BUFFER = 2**17
_LARGE = 2**18
_ENGINE_KEEPALIVE_S = 4.0  # vLLM's server closes idle connections after 5 s
_SKIPPED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Answer:
    """An upstream that has answered: the open response, with `first` already read from it when it is a student's."""

    response: aiohttp.ClientResponse
    upstream: str
    model: str = ""
    first: bytes = b""


class UpstreamFailedError(Exception):
    """An upstream gave no answer, or broke off: the exchange's state, and what the client is told."""

    def __init__(self, state: str, failure: Failure) -> None:
        super().__init__(failure.message)
        self.state = state
        self.failure = failure


class Relay:
    """One worker's relay. Made inside the event loop; `close` closes its connections, not the spool."""

    def __init__(
        self,
        settings: RelaySettings,
        upstreams: Mapping[str, Upstream],
        engine_url: str,
        spool: SpoolWriter,
        flags: Callable[[], Snapshot],
        omission: Omission,
        capture: CaptureSettings,
    ) -> None:
        self.settings = settings
        self.upstreams = upstreams
        self.spool = spool
        self.flags = flags
        self.omission = omission
        self.capture = capture
        self.tasks: set[asyncio.Task[object]] = set()
        """Handlers at work, one per exchange in flight."""
        self.requests = 0
        self.fallbacks = 0
        self.is_draining = False
        """True once no new connection is taken; every answer closes its connection."""
        self.is_stopping = False
        """True once open exchanges are being cut at the end of the drain."""
        self.breaker = Breaker()
        self.budget = Budget(settings.max_held_mib * 2**20)
        self._engine_url = engine_url.rstrip("/").removesuffix("/v1")
        self._teachers = self._session(settings.keepalive_s)
        self._engine = self._session(_ENGINE_KEEPALIVE_S)

    async def close(self) -> None:
        """Closes the connections to upstreams and engine."""
        await self._teachers.close()
        await self._engine.close()

    async def ask_teacher(self, asked: Asked, headers: CIMultiDict[str], recording: Recording) -> Answer:
        """The upstream's answer as soon as its head is there; UpstreamFailedError."""
        assert asked.route is not None
        upstream = asked.route.upstream
        before = clock.monotonic_ns()
        try:
            url = URL(asked.route.url, encoded=True)
            response = await self._teachers.request(
                asked.method, url, data=_to_send(asked.body), headers=headers, allow_redirects=False
            )
        except aiohttp.SocketTimeoutError as error:
            raise UpstreamFailedError(TIMEOUT, self._silent(upstream.name)) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UpstreamFailedError(UPSTREAM_ABORTED, _unreachable(upstream, error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailedError(UPSTREAM_ABORTED, _aborted(upstream.name)) from error
        finally:
            recording.waited_ns += clock.monotonic_ns() - before
        return Answer(response, upstream.name)

    async def ask_student(self, asked: Asked, assignment: Assignment, recording: Recording) -> Answer | None:
        """The student's answer once its first byte is there; None when the teacher must answer, `recording` says why."""
        before = clock.monotonic_ns()
        answer = await self._try_student(asked, assignment)
        recording.waited_ns += clock.monotonic_ns() - before
        if isinstance(answer, Answer):
            return answer
        recording.fallback_reason = answer
        self.fallbacks += 1
        return None

    async def _try_student(self, asked: Asked, assignment: Assignment) -> Answer | str:
        if "content-encoding" in asked.headers:
            return "encoded_body"
        try:
            body = with_model(asked.body, assignment.engine_model)
        except ValueError:
            return "unreadable_body"
        if not self.breaker.may_try():
            return "breaker_open"
        response: aiohttp.ClientResponse | None = None
        is_kept = False
        try:
            async with asyncio.timeout(self.settings.student_timeout_s):
                url = URL(self._engine_url + asked.target.path, encoded=True)
                response = await self._engine.post(
                    url, data=_to_send(body), headers=for_student(asked.headers), allow_redirects=False
                )
                if not 200 <= response.status < 300:
                    self.breaker.succeeded()
                    return f"http_{response.status}"
                first = await response.content.readany()
            self.breaker.succeeded()
            if not first:
                return "empty_answer"
            if first.startswith((b'data: {"error"', b'data:{"error"', b"event: error")):
                return "error_in_band"
            is_kept = True
            return Answer(response, ENGINE, assignment.engine_model, first)
        except TimeoutError:
            self.breaker.failed()
            return "timeout"
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            self.breaker.failed()
            return "unreachable"
        except (aiohttp.ClientError, OSError):
            self.breaker.failed()
            return "aborted"
        finally:
            if response is not None and not is_kept:
                response.close()

    async def read_on(self, answer: Answer) -> bytes:
        """The next bytes of `answer`, b'' at its end; UpstreamFailedError when it breaks off or falls silent."""
        try:
            return await answer.response.content.readany()
        except aiohttp.SocketTimeoutError as error:
            raise UpstreamFailedError(TIMEOUT, self._silent(answer.upstream)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailedError(UPSTREAM_ABORTED, _aborted(answer.upstream)) from error

    def _silent(self, name: str) -> Failure:
        what = f"Upstream {name} sent nothing for {self.settings.idle_timeout_s:g} s."
        return Failure(504, "upstream_timeout", what, "Try again, or raise idle_timeout_s in [relay] of potstill.toml.")

    def _session(self, keepalive_s: float) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive_s),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self.settings.connect_timeout_s, sock_read=self.settings.idle_timeout_s
            ),
            read_bufsize=_READ_BUFFER,
            skip_auto_headers=_SKIPPED,
            max_line_size=2**16,
            max_field_size=2**16,
        )


def _to_send(body: bytes) -> bytes | io.BytesIO | None:
    """`body` for aiohttp. A large one as a file, which shares its bytes, and goes out in pieces with turns for others between."""
    return io.BytesIO(body) if len(body) > _LARGE else body or None


def upstream_headers(asked: Asked) -> CIMultiDict[str] | Failure:
    """The headers for the teacher, or why its key is missing."""
    assert asked.route is not None
    upstream = asked.route.upstream
    headers = for_upstream(asked.headers, upstream, os.environ)
    if headers is not None:
        return headers
    if upstream.key == KEY_FROM_CLIENT:
        variable = "OPENAI_API_KEY" if upstream.protocol == OPENAI else "ANTHROPIC_API_KEY"
        return Failure(
            401,
            "missing_key",
            f"The request has no API key, and upstream {upstream.name} takes the client's.",
            f'Set {variable} in the app, or key = "env:NAME" in [upstreams.{upstream.name}] of potstill.toml.',
        )
    return Failure(
        401,
        "missing_key",
        f"Environment variable {upstream.key_variable}, the key of upstream {upstream.name}, is not set in the relay.",
        f"Set {upstream.key_variable} where Potstill starts, then start it again.",
    )


def _unreachable(upstream: Upstream, error: Exception) -> Failure:
    reason = getattr(error, "strerror", "") or type(error).__name__
    what = f"Upstream {upstream.name} at {upstream.root} cannot be reached: {reason}."
    return Failure(
        502, "upstream_unreachable", what, f"Check url in [upstreams.{upstream.name}] of potstill.toml, and the network."
    )


def _aborted(name: str) -> Failure:
    return Failure(502, "upstream_aborted", f"Upstream {name} broke off its answer.", "Try again.")
