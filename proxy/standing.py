"""How each upstream stands with this worker, from one request to the next and across reloads: circuit, turns, keys."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.circuit import Circuit
from proxy.slots import Slots
from proxy.upstream_keys import UpstreamKeys
from proxy.upstream_settings import Upstream


class Standing:
    """What one worker knows of its upstreams, by their names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.keys = UpstreamKeys(environ)
        self._circuits: dict[str, Circuit] = {}
        self._slots: dict[str, Slots] = {}

    def circuit(self, upstream: Upstream) -> Circuit:
        """The circuit of `upstream`, by its present settings."""
        found = self._circuits.get(upstream.name)
        if found is None:
            found = self._circuits[upstream.name] = Circuit()
        found.limit, found.rest_s = upstream.circuit_failures, upstream.circuit_rest_s
        return found

    def slots(self, upstream: Upstream) -> Slots:
        """The turns at `upstream`."""
        found = self._slots.get(upstream.name)
        if found is None:
            found = self._slots[upstream.name] = Slots()
        return found

    def circuits(self) -> dict[str, bool]:
        """Whether the circuit of each upstream that was asked so far is open, by the upstream's name."""
        return {name: circuit.is_open for name, circuit in self._circuits.items()}
