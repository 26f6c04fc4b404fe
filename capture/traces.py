"""Sends what is newly stored to a collector as traces, batch after batch, from where it stopped the last time.

How far it has come stands in the store, so nothing is left out when the collector, the store or this process was away.
Where several hosts share a store one of them sends, and another takes over when it falls silent. A batch whose answer was
lost is sent twice; as ids follow from the exchange, a collector sees the same spans again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from sqlalchemy import text

from capture import clock, export, exported, feed
from capture.database import Database
from capture.filters import parse_filter
from capture.otel import request_of
from capture.otel_send import Collector, RefusedError
from capture.otel_settings import OtelSettings

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

_TURN_US = 90_000_000
_RENEWED_US = 45_000_000
_UNREADABLE = (400, 413, 422)
"""Statuses that say that a batch is at fault, and not the address or the key."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    """How far traces have come, and whose turn it is to send until when."""

    number: int
    owner: str
    until_us: int


class TraceSender:
    """Sends as `owner`, a name that no other sender has. The first start begins with what is stored from then on."""

    def __init__(self, database: Database, settings: OtelSettings, collector: Collector, owner: str) -> None:
        self.sent = 0
        self.refused = 0
        """Spans that the collector cannot read, left out."""
        self.waiting = 0
        """Numbers between what was stored last and what was sent last; 0 while another host sends."""
        self._database, self._collector, self._owner = database, collector, owner
        self._wanted = export.Wanted(parse_filter(settings.where), export.OTLP, with_content=settings.with_content)
        self._name = f"traces:{blake2b(collector.address.encode(), digest_size=8).hexdigest()}"
        self._is_remembered = False

    def send_new(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Sends all that is new, and says how many spans; StoreError, or UpstreamError when the collector takes nothing."""
        end = feed.newest(self._database)
        place = self._take_turn(end)
        if place is None:
            self.waiting = 0
            return 0
        self.waiting = end - place.number
        before = self.sent
        if place.number < end:
            self._remember()
            for spans, last in export.batches(self._database, replace(self._wanted, start=place.number), end):
                self._send(spans)
                place = self._move(place, last)
                self.waiting = end - last
                if is_stopping():
                    return self.sent - before
            self._move(place, end)
            self.waiting = 0
        return self.sent - before

    def _send(self, spans: Sequence[Span]) -> None:
        try:
            self._collector.send(request_of(spans), resume="the next start")
        except RefusedError as error:
            if error.status not in _UNREADABLE:
                raise
            if len(spans) == 1:
                self.refused += 1
                _log.error("a span is left out: %s", error.what)
                return
            middle = len(spans) // 2
            self._send(spans[:middle])
            self._send(spans[middle:])
            return
        self.sent += len(spans)

    def _remember(self) -> None:
        """Before the first is gone, so that an erasure knows."""
        if not self._is_remembered:
            exported.remember_collector(self._database, self._collector.address)
            self._is_remembered = True

    def _take_turn(self, newest: int) -> _Place | None:
        """Our place when it is our turn to send, else None."""
        now = clock.now_us()
        with self._database.read() as connection:
            written = connection.execute(text("SELECT value FROM meta WHERE name = :name"), {"name": self._name}).scalar()
        if written is None:
            self._insert(_Place(newest, self._owner, now + _TURN_US))
            return self._take_turn(newest)
        place = _Place(**json.loads(written))
        if place.owner != self._owner and place.until_us > now:
            return None
        if place.owner == self._owner and (place.number >= newest or place.until_us > now + _RENEWED_US):
            return place
        wanted = replace(place, owner=self._owner, until_us=now + _TURN_US)
        return wanted if self._swap(place, wanted) else None

    def _move(self, place: _Place, number: int) -> _Place:
        moved = replace(place, number=number, until_us=clock.now_us() + _TURN_US)
        self._swap(place, moved)  # another host may have taken over; then it sends the same once more
        return moved

    def _insert(self, place: _Place) -> None:
        sql = text("INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")
        with self._database.write() as connection:
            connection.execute(sql, {"name": self._name, "value": _written(place)})

    def _swap(self, old: _Place, new: _Place) -> bool:
        sql = text("UPDATE meta SET value = :new WHERE name = :name AND value = :old")
        values = {"name": self._name, "new": _written(new), "old": _written(old)}
        with self._database.write() as connection:
            return connection.execute(sql, values).rowcount == 1


def _written(place: _Place) -> str:
    return json.dumps(asdict(place), sort_keys=True)
