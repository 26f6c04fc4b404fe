"""One exchange on its way into the spool. What appends is plain and synchronous, so no cancellation can come between; only
`rest` and `settle` let others work.

The order is the promise: BEGIN before the upstream is asked, each PART before it is written to the client, END before the
last byte is. Whoever holds a recording calls `end` in a `finally`; the first end counts.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256

import msgspec

from capture import clock, ids
from capture.capture_settings import CaptureSettings
from capture.exchange import COMPLETE
from capture.records import CUT, Begin, End, Head
from capture.spool import PIECE_BYTES, SpoolWriter

_AT_ONCE = 1024 * 1024


class Recording:
    """What the spool is told about one exchange, with its clock and its hashes."""

    __slots__ = (
        "_captured", "_is_strict", "_model", "_most", "_overhead_us", "_request_sha256", "_response", "_spool", "_started_ns",
        "_upstream", "exchange_id", "fallback_reason", "first_byte_us", "is_ended", "last", "latency_us", "raw_id",
        "response_bytes", "state", "status", "tail", "waited_ns",
    )  # fmt: skip

    def __init__(self, spool: SpoolWriter, settings: CaptureSettings) -> None:
        self.raw_id = ids.new_raw_id()
        self.exchange_id = ids.format_id("ex", self.raw_id)
        self.status = 0
        self.is_ended = False
        self.fallback_reason = ""
        """Why the teacher answered in place of the student; '' when it did not."""
        self.waited_ns = 0
        """Time spent waiting for others, which is not our overhead."""
        self.last = self.tail = b""
        """The last piece of the answer, and its last four bytes across pieces."""
        self._spool = spool
        self._is_strict, self._most = settings.is_strict, settings.max_body_mib * 2**20
        self._captured = ""
        self._started_ns = clock.monotonic_ns()
        self.first_byte_us: int | None = None
        """Microseconds until the first byte of the answer was here."""
        self.state, self.latency_us, self.response_bytes = "", 0, 0
        """How and when it ended, and the bytes of the answer."""
        self._overhead_us: int | None = None
        self._request_sha256 = ""
        self._response = sha256()
        self._upstream = self._model = ""

    @property
    def upstream(self) -> str:
        """Who answered; '' while nobody has."""
        return self._upstream

    @property
    def overhead_us(self) -> int:
        """Microseconds of ours until the head went out; until now when it has not."""
        return self._now_us() - self.waited_ns // 1000 if self._overhead_us is None else self._overhead_us

    def begin(self, begin: Begin) -> bool:
        """Keeps the request, as it came; of a large body the first piece, so that `rest` must follow. False: it is not kept."""
        body = begin.body
        if len(body) > PIECE_BYTES:
            begin = msgspec.structs.replace(begin, body=body[:PIECE_BYTES], body_size=len(body))
        else:
            self._request_sha256 = sha256(body).hexdigest()
        return self._spool.begin(self.raw_id, begin)

    async def rest(self, body: bytes) -> bool:
        """Keeps what `begin` left of a large body, without a copy and without holding up the event loop.

        False: some of what was to be kept is not.
        """
        if len(body) <= PIECE_BYTES:
            return True
        view, digest, is_kept = memoryview(body), sha256(), True
        if len(body) > self._most:
            self._captured = CUT
        for start in range(0, len(body), _AT_ONCE):
            digest.update(view[start : start + _AT_ONCE])
            piece = view[max(start, PIECE_BYTES) : min(start + _AT_ONCE, self._most)]
            is_kept = self._spool.body(self.raw_id, piece) and is_kept
            await asyncio.sleep(0)
        self._request_sha256 = digest.hexdigest()
        return is_kept

    def head(self, status: int, headers: dict[str, str], upstream: str, model: str = "") -> None:
        """Keeps the head of the answer and who gave it; `status` is 0 until then."""
        self.status = status
        self._overhead_us = self.overhead_us
        self._upstream, self._model = upstream, model
        self._spool.head(self.raw_id, Head(status, headers, upstream, model, self.fallback_reason, self._now_us()))

    def part(self, data: bytes) -> None:
        """Keeps a piece of the answer; to be called before it is written to the client."""
        if self.first_byte_us is None:
            self.first_byte_us = self._now_us()
        self.last, self.tail = data, (self.tail + data[-4:])[-4:]
        self._response.update(data)
        room = self._most - self.response_bytes
        self.response_bytes += len(data)
        if len(data) <= room:
            self._spool.part(self.raw_id, data)
            return
        self._captured = CUT
        if room > 0:
            self._spool.part(self.raw_id, data[:room])

    def whole(self, status: int, headers: dict[str, str], upstream: str, model: str, body: bytes) -> None:
        """Keeps an answer that is here from head to end, as `head`, `part` and `end` do, at once."""
        self.status, self.is_ended = status, True
        self._overhead_us = self.overhead_us
        self._upstream, self._model = upstream, model
        now = self.first_byte_us = self._now_us()
        self._response.update(body)
        self.response_bytes = len(body)
        kept = body
        if len(body) > self._most:
            self._captured, kept = CUT, body[: self._most]
        head = Head(status, headers, upstream, model, self.fallback_reason, now)
        self._spool.answer(self.raw_id, head, kept, self._end(COMPLETE, "", "", now))
        self.state, self.latency_us = COMPLETE, now

    def end(self, state: str, error_kind: str = "", error_message: str = "") -> None:
        """Closes the exchange; only the first end counts. To be called before the last byte is written to the client."""
        if self.is_ended:
            return
        self.is_ended = True
        self.state, self.latency_us = state, self._now_us()
        self._spool.end(self.raw_id, self._end(state, error_kind, error_message, self.latency_us))

    def _end(self, state: str, error_kind: str, error_message: str, now_us: int) -> End:
        return End(
            self.status,
            state,
            error_kind,
            error_message,
            now_us,
            self.first_byte_us,
            self._overhead_us,
            self._request_sha256,
            self._response.hexdigest(),
            self._upstream,
            self._model,
            self.fallback_reason,
            self._captured,
        )

    async def settle(self) -> None:
        """Waits in strict mode until all that was appended survives a power cut, or the disk refuses, which the spool counts.

        To be called between `end` and the last byte.
        """
        if not self._is_strict:
            return
        loop = asyncio.get_running_loop()
        settled = asyncio.Event()
        self._spool.when_durable(lambda _is_durable: loop.call_soon_threadsafe(settled.set))
        await settled.wait()

    def _now_us(self) -> int:
        return (clock.monotonic_ns() - self._started_ns) // 1000
