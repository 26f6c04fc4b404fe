"""Messages between the two ends of a WebSocket until one of them is done. What ends it is kept before either end is told."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from capture import clock
from capture.exchange import CLIENT_CLOSED, COMPLETE, INTERRUPTED, TIMEOUT, UPSTREAM_ABORTED
from capture.transcript import CLIENT, RELAY, SERVER, write_close, write_message
from proxy.recording import Recording
from proxy.settings import RelaySettings

_LAST_WORDS_S = 5.0
_NO_STATUS = 1005
_MOST_REASON = 123
_PASSED_ON = (WSMsgType.PING, WSMsgType.PONG)
_MESSAGES = (WSMsgType.TEXT, WSMsgType.BINARY)

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse[bool]


@dataclass(frozen=True, slots=True)
class _End:
    """How one side ended: by a close, or by the loss of its connection, or by what must not be passed on.

    `code` and `reason` are what the other side is told, `kind` and `what` what the exchange says of it.
    """

    side: str
    code: int
    reason: str
    is_close: bool = False
    kind: str = ""
    what: str = ""


class Talk:
    """The messages of one WebSocket. `run` returns when both ends are closed and the recording has ended."""

    def __init__(
        self,
        recording: Recording,
        client: web.WebSocketResponse,
        upstream: aiohttp.ClientWebSocketResponse[bool],
        name: str,
        settings: RelaySettings,
    ) -> None:
        self.patience_s = _LAST_WORDS_S
        """How long an end may take to answer a close."""
        self._recording, self._client, self._upstream, self._name = recording, client, upstream, name
        self._idle_s, self._most_mib = settings.websocket_idle_s, settings.websocket_message_mib
        self._started_ns = self._moved_ns = clock.monotonic_ns()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Has both ends told that the relay stops."""
        self._stopping.set()

    async def run(self) -> None:
        """Passes messages until an end closes, is lost, or both are silent for too long."""
        upward = asyncio.ensure_future(self._pass(CLIENT, self._client, self._upstream))
        downward = asyncio.ensure_future(self._pass(SERVER, self._upstream, self._client))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            end = await self._first_end(upward, downward, stopping)
            if end.side == CLIENT and end.is_close:
                await _tell(self._upstream, end.code, end.reason)
                answer = await _within(downward, self.patience_s)  # what the upstream still has to say comes before its close
                self._recording.end(COMPLETE)
                await self._recording.settle()
                told = answer if answer is not None and answer.is_close else end
                await _close(self._client, told.code, told.reason)
                return
            self._recording.end(_state_of(end), end.kind, end.what)
            await self._recording.settle()
            upward.cancel()
            downward.cancel()
            await asyncio.gather(upward, downward, return_exceptions=True)
            if end.side != SERVER:
                await _tell(self._upstream, end.code if end.side == RELAY else WSCloseCode.GOING_AWAY, end.reason)
            if end.side != CLIENT:
                await _close(self._client, end.code, end.reason)
            if end.side == SERVER and end.is_close:
                await _tell(self._upstream, end.code, end.reason)
        finally:
            for task in (upward, downward, stopping):
                task.cancel()
            await asyncio.gather(upward, downward, stopping, return_exceptions=True)

    async def _first_end(
        self, upward: asyncio.Task[_End | None], downward: asyncio.Task[_End | None], stopping: asyncio.Task[bool]
    ) -> _End:
        """Whatever ends the talk first. An end that can no longer be written to may still have something to say."""
        while True:
            left_s = self._idle_s - (clock.monotonic_ns() - self._moved_ns) / 1e9
            if left_s <= 0:
                what = f"No message and no ping came for {self._idle_s:g} s; websocket_idle_s in [relay] sets the limit."
                return _End(RELAY, WSCloseCode.GOING_AWAY, "idle for too long", kind="idle_timeout", what=what)
            over, _ = await asyncio.wait({upward, downward, stopping}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if stopping in over:
                what = "Potstill was stopped before the WebSocket was closed."
                return _End(RELAY, WSCloseCode.SERVICE_RESTART, "the relay stops", kind="relay_stopped", what=what)
            for task in (upward, downward):
                if task in over and (end := task.result()) is not None:
                    return end
            if upward in over or downward in over:
                other, side = (downward, SERVER) if upward in over else (upward, CLIENT)
                return await _within(other, self.patience_s) or self._lost(side)

    async def _pass(self, side: str, source: Socket, sink: Socket) -> _End | None:
        """Passes on what `source` says until it ends; None when `sink` cannot be written to."""
        recording = self._recording
        while True:
            message = await source.receive()
            self._moved_ns = clock.monotonic_ns()
            if message.type in _MESSAGES:
                first_byte_us = recording.first_byte_us
                recording.part(write_message(side, message.type is WSMsgType.TEXT, message.data, self._at_us()))
                if side == CLIENT:
                    recording.first_byte_us = first_byte_us  # which is the upstream's
            elif message.type is WSMsgType.CLOSE:
                code = message.data or _NO_STATUS
                recording.part(write_close(side, code, message.extra or "", self._at_us()))
                return _End(side, code, message.extra or "", is_close=True)
            elif message.type not in _PASSED_ON:
                return self._broken(side, message.data)
            try:
                await sink.send_frame(message.data, message.type)
            except (ConnectionError, RuntimeError):
                return None

    def _broken(self, side: str, error: object) -> _End:
        """The end of a side whose connection is gone, or that said what cannot be passed on; aiohttp has closed that side."""
        if not isinstance(error, aiohttp.WebSocketError):
            return self._lost(side)
        whose = "The client" if side == CLIENT else f"Upstream {self._name}"
        if error.code == WSCloseCode.MESSAGE_TOO_BIG:
            what = f"{whose} sent a message of more than {self._most_mib} MiB; websocket_message_mib in [relay] sets the limit."
            return _End(side, WSCloseCode.MESSAGE_TOO_BIG, "message too big", kind="message_too_big", what=what)
        what = f"{whose} broke the WebSocket protocol."
        return _End(side, WSCloseCode.PROTOCOL_ERROR, "protocol error", kind="bad_websocket", what=what)

    def _lost(self, side: str) -> _End:
        if side == CLIENT:
            return _End(side, WSCloseCode.GOING_AWAY, "the client is gone")
        what = f"Upstream {self._name} broke off the WebSocket."
        return _End(side, WSCloseCode.BAD_GATEWAY, "the upstream broke off", kind="upstream_aborted", what=what)

    def _at_us(self) -> int:
        return (clock.monotonic_ns() - self._started_ns) // 1000


def _state_of(end: _End) -> str:
    if end.is_close:
        return COMPLETE
    if end.side == RELAY:
        return TIMEOUT if end.kind == "idle_timeout" else INTERRUPTED
    return CLIENT_CLOSED if end.side == CLIENT else UPSTREAM_ABORTED


async def _within(task: asyncio.Task[_End | None], seconds: float) -> _End | None:
    """What `task` ends with; None when it takes longer, or has no end to tell."""
    over, _ = await asyncio.wait({task}, timeout=seconds)
    return task.result() if over else None


async def _tell(socket: aiohttp.ClientWebSocketResponse[bool], code: int, reason: str) -> None:
    """Sends a close, as far as anybody is there; the connection is closed by whoever opened it."""
    data = b"" if code == _NO_STATUS else struct.pack("!H", code) + _cut(reason)
    with contextlib.suppress(ConnectionError, RuntimeError, TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_S):
            await socket.send_frame(data, WSMsgType.CLOSE)


async def _close(client: web.WebSocketResponse, code: int, reason: str) -> None:
    """Closes the client's end and waits a while for its answer. A close without a code becomes one with 1000."""
    await client.close(code=WSCloseCode.OK if code == _NO_STATUS else code, message=_cut(reason))


def _cut(reason: str) -> bytes:
    return reason.encode()[:_MOST_REASON].decode("utf-8", "ignore").encode()
