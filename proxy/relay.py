"""What a relay worker has: its configuration, connections, spool, flags and counters."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from capture.capture_settings import CaptureSettings
from capture.settings import Settings
from capture.spool import SpoolWriter
from proxy.budget import Budget
from proxy.counters import Counters
from proxy.engine_way import Engine
from proxy.keys.opening import open_gate
from proxy.keys.settings import CacheSettings, KeysSettings, read_limits
from proxy.omission import Omission
from proxy.outbound import Outbound
from proxy.response_cache import ResponseCache
from proxy.settings import RelaySettings, Upstream, read_upstreams
from proxy.standing import Standing
from proxy.wire.limits import Limits
from serve.flags import Snapshot
from serve.settings import EngineSettings


@dataclass(frozen=True, slots=True)
class Config:
    """What a worker uses of the configuration. An exchange keeps the one it began with."""

    relay: RelaySettings
    capture: CaptureSettings
    upstreams: Mapping[str, Upstream]
    omission: Omission
    limits: Limits
    outbound: Outbound


def read_config(settings: Settings) -> Config:
    """What `settings` say; SettingsError. To be called inside the event loop, since it opens ways to upstreams."""
    relay = settings.section("relay", RelaySettings)
    capture = settings.section("capture", CaptureSettings)
    upstreams = read_upstreams(settings)
    return Config(
        relay,
        capture,
        upstreams,
        Omission(capture),
        _limits(relay),
        Outbound(upstreams.values(), relay.keepalive_s),
    )


class Relay:
    """One worker's relay. Made inside the event loop; `close` closes its connections, not the spool."""

    def __init__(self, settings: Settings, spool: SpoolWriter, flags: Callable[[], Snapshot]) -> None:
        self.config = read_config(settings)
        self.spool = spool
        self.flags = flags
        self.counters = Counters()
        self.standing = Standing(os.environ)
        self.requests = 0
        self.fallbacks = 0
        self.is_draining = False
        """True once no new connection is taken; every answer closes its connection."""
        self.is_stopping = False
        """True once open exchanges are being cut at the end of the drain."""
        self.budget = Budget(self.config.relay.max_held_mib * 2**20)
        self.engine = _engine(settings, self.config.relay)
        self.gate, self.key_watcher = open_gate(settings, spool.spool_id)
        self.cache = _cache(settings)
        """Answers to give again; None when no task asks for it."""
        self._former: list[Config] = []
        """Configurations that are no more, but with which exchanges began that are still open."""
        self._closing: set[asyncio.Task[None]] = set()

    def reload(self, settings: Settings) -> None:
        """Serves what comes from now on by `settings`, and ends the rest as it began; SettingsError, and nothing has changed."""
        keys, limits, cache = settings.section("keys", KeysSettings), read_limits(settings), _cache(settings)
        config = read_config(settings)  # last, since it opens what would have to be closed
        self.gate.change(keys, limits)
        if cache is None or self.cache is None or cache.settings != self.cache.settings:
            self.cache = cache
        former, self.config = self.config, config
        self._former.append(former)
        self._close_unused(former)
        self.budget.limit = config.relay.max_held_mib * 2**20

    def enter(self) -> Config:
        """The configuration for one exchange, whose ways to upstreams stay open until `leave`."""
        config = self.config
        config.outbound.users += 1
        return config

    def leave(self, config: Config) -> None:
        """Ends what `enter` began; to be called once."""
        config.outbound.users -= 1
        if config is not self.config:
            self._close_unused(config)

    def _close_unused(self, former: Config) -> None:
        if not former.outbound.users:
            self._former.remove(former)
            closing = asyncio.ensure_future(former.outbound.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes the connections to upstreams and engine."""
        for config in (self.config, *self._former):
            await config.outbound.close()
        await asyncio.gather(*self._closing)
        await self.engine.close()
        await asyncio.to_thread(self.key_watcher.close)


def _limits(relay: RelaySettings) -> Limits:
    return Limits(
        body_bytes=relay.max_body_bytes,
        line_bytes=relay.max_header_bytes,
        header_count=relay.max_headers,
        head_bytes=relay.max_head_kib * 2**10,
        head_s=relay.head_timeout_s,
        body_idle_s=relay.body_idle_s,
        body_total_s=relay.body_total_s,
        keepalive_s=relay.client_keepalive_s,
        stall_s=relay.client_stall_s,
    )


def _engine(settings: Settings, relay: RelaySettings) -> Engine:
    address = settings.section("engine", EngineSettings).address
    return Engine(address, relay.connect_timeout_s, relay.idle_timeout_s)


def _cache(settings: Settings) -> ResponseCache | None:
    found = settings.section("cache", CacheSettings)
    return ResponseCache(found) if found.tasks else None
