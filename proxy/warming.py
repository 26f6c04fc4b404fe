"""Keeps connections to upstreams open ahead of the requests, so that these need not wait for TCP and TLS."""

from __future__ import annotations

import asyncio
import logging

from proxy.relay import Config, Relay
from proxy.wire.reply import ConnectFailedError

_ROUND_S = 1.0
_log = logging.getLogger(__name__)


async def keep_warm(relay: Relay) -> None:
    """Runs until it is cancelled. An upstream that cannot be reached is told once, and tried again in the next round."""
    cold: set[str] = set()
    while True:
        config = relay.enter()
        try:
            await _warm(config, cold)
        finally:
            relay.leave(config)
        await asyncio.sleep(_ROUND_S)


async def _warm(config: Config, cold: set[str]) -> None:
    for upstream in config.upstreams.values():
        try:
            await config.outbound.warm(upstream)
            cold.discard(upstream.name)
        except ConnectFailedError as error:
            if upstream.name not in cold:
                _log.warning("upstream %s has no warm connections: %s", upstream.name, error)
            cold.add(upstream.name)
