"""The way to the engine, which answers for students."""

from __future__ import annotations

from proxy.circuit import Circuit
from proxy.outbound import Outbound
from proxy.settings import OPENAI, Upstream

ENGINE = "engine"
"""Name of the upstream that answers for a student."""
_KEEPALIVE_S = 4.0  # vLLM's server closes idle connections after 5 s


class Engine:
    """The way to the engine, and whether it is worth trying. Made inside the event loop; `close` ends its connections."""

    def __init__(self, url: str, connect_timeout_s: float, idle_timeout_s: float) -> None:
        root = url.rstrip("/").removesuffix("/v1")
        self.upstream = Upstream(
            ENGINE, OPENAI, "none", "", root, root + "/v1", connect_timeout_s=connect_timeout_s,
            first_byte_timeout_s=idle_timeout_s, idle_timeout_s=idle_timeout_s, allow_private=True,
        )  # fmt: skip
        self.outbound = Outbound([self.upstream], _KEEPALIVE_S)
        self.breaker = Circuit()

    async def close(self) -> None:
        """Ends its connections."""
        await self.outbound.close()
