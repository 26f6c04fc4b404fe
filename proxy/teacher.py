"""Asks the upstream that a request is for; when it fails before its answer began, again or another, as far as that is safe.

Without retries and fallbacks the upstream's failure is the client's, byte for byte. With fallbacks, the last answer that came
is the client's when none is better.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

from capture import clock
from capture.exchange import COMPLETE
from capture.exchange import TIMEOUT as TIMED_OUT
from proxy import attempts
from proxy.attempts import Again, Failed, Stop
from proxy.failures import Failure
from proxy.headers import Sent, for_upstream
from proxy.identify import PREFIX
from proxy.outbound import Answer, UpstreamFailedError
from proxy.peek import with_model
from proxy.reading import Asked
from proxy.recording import Recording
from proxy.relay import Config, Relay
from proxy.route import Route, route_to
from proxy.slots import Slots
from proxy.upstream_keys import missing_from_client
from proxy.upstream_settings import LITELLM, Upstream

_SICK = frozenset((500, 502, 503, 504, 529))
"""Statuses by which an upstream says that it cannot work."""
_BUSY = "upstream_busy"


async def ask_teacher(
    relay: Relay, config: Config, asked: Asked, headers: Sent | Failure, recording: Recording, key_id: str = ""
) -> Answer:
    """The answer as soon as its head is there; UpstreamFailedError.

    `headers` are those for the upstream of `asked.route`, or why our key for it is missing, which counts as its failure.
    `key_id` is the virtual key for which others may be asked.
    """
    assert asked.route is not None
    upstream = asked.route.upstream
    if not upstream.fallbacks and not upstream.retries:
        if isinstance(headers, Failure):
            raise _without_key(headers)
        return await _ask(relay, config, asked, asked.route, headers, recording)
    chain = [asked.route, *(each for each in _others(config, asked, asked.route) if relay.gate.lets(key_id, each.upstream))]
    return await _ask_chain(relay, config, asked, chain, headers, recording)


def upstream_headers(relay: Relay, asked: Asked, upstream: Upstream) -> Sent | Failure:
    """The headers for `upstream`, or why its key is missing."""
    key = relay.standing.keys.of(upstream)
    if isinstance(key, Failure):
        return key
    place = (upstream.name, key)
    found: Sent | None = asked.known.get(place)
    if found is not None:
        return found
    headers = for_upstream(asked.headers, upstream, key)
    if headers is None:
        return missing_from_client(upstream)
    if upstream.protocol == LITELLM:
        headers[PREFIX + "upstream"] = upstream.name
    sent = asked.known[place] = Sent.of(headers)
    return sent


async def take_turn(relay: Relay, upstream: Upstream, recording: Recording) -> Slots:
    """Where a turn at `upstream` was taken, to be given back there once; UpstreamFailedError when none comes in time."""
    slots = relay.standing.slots(upstream)
    before = clock.monotonic_ns()
    has_turn = await slots.take(upstream.max_concurrent, upstream.max_waiting, upstream.longest_wait_s)
    recording.waited_ns += clock.monotonic_ns() - before
    if not has_turn:
        raise UpstreamFailedError(COMPLETE, _busy(upstream), is_sent=False)
    return slots


async def _ask_chain(
    relay: Relay, config: Config, asked: Asked, chain: list[Route], headers: Sent | Failure, recording: Recording
) -> Answer:
    """The answer of the first upstream of a chain that gives one; else the last answer that said no; else the last error, but
    that our key for the first is missing counts more, since that is ours to mend."""
    first = chain[0]
    best: Answer | UpstreamFailedError | None = None
    tried: list[str] = []
    left_alone: list[tuple[Route, Sent]] = []
    try:
        for place, route in enumerate(chain):
            own = headers if place == 0 else upstream_headers(relay, asked, route.upstream)
            if isinstance(own, Failure):
                tried.append(f"{route.upstream.name}: {attempts.MISSING_KEY}")
                continue
            if len(chain) > 1 and not relay.standing.circuit(route.upstream).may_try():
                tried.append(f"{route.upstream.name}: {attempts.CIRCUIT_OPEN}")
                left_alone.append((route, own))
                continue
            has_next = place + 1 < len(chain)
            outcome, failed, is_over = await _ask_again(relay, config, asked, route, own, recording, has_next=has_next)
            best = _better(best, outcome)
            if failed is not None:
                tried.append(f"{route.upstream.name}: {failed.reason}")
            if is_over:
                break
        if best is None and left_alone:  # nobody was asked; then the one that was meant is asked all the same
            route, own = left_alone[0]
            best = await _ask(relay, config, asked, route, own, recording)
    except BaseException:
        if isinstance(best, Answer):
            best.close()
        raise
    if len(chain) > 1 and tried:
        recording.fallback_reason = "; ".join((recording.fallback_reason, *tried) if recording.fallback_reason else tried)
        if isinstance(best, Answer) and best.upstream != first.upstream.name:
            relay.counters.fell_back(tried[0])
    if isinstance(headers, Failure) and not isinstance(best, Answer):
        raise _without_key(headers)
    assert best is not None  # since somebody of the chain had a key
    if isinstance(best, UpstreamFailedError):
        raise best
    return best


def _without_key(failure: Failure) -> UpstreamFailedError:
    """That our key for an upstream is missing, as its failure."""
    return UpstreamFailedError(COMPLETE, failure, is_sent=False)


async def _ask_again(
    relay: Relay, config: Config, asked: Asked, route: Route, headers: Sent, recording: Recording, *, has_next: bool
) -> tuple[Answer | UpstreamFailedError, Failed | None, bool]:
    """What the upstream of `route` says in the end, how it failed, and whether that is the last word."""
    upstream, tries = route.upstream, 0
    while True:
        tries += 1
        outcome: Answer | UpstreamFailedError
        try:
            outcome = await _ask(relay, config, asked, route, headers, recording)
        except UpstreamFailedError as error:
            outcome = error
        failed = _failed(upstream, outcome)
        if failed is None:
            return outcome, None, True
        only_reads = attempts.only_reads(asked.method)
        step = attempts.decide(upstream, failed, tries, random.random(), only_reads=only_reads, has_next=has_next)
        if not isinstance(step, Again):
            return outcome, failed, isinstance(step, Stop)
        if isinstance(outcome, Answer):
            outcome.close()
        relay.counters.retried(upstream.name)
        before = clock.monotonic_ns()
        await asyncio.sleep(step.pause_s)
        recording.waited_ns += clock.monotonic_ns() - before


async def _ask(relay: Relay, config: Config, asked: Asked, route: Route, headers: Sent, recording: Recording) -> Answer:
    """One attempt at the upstream of `route`; UpstreamFailedError."""
    upstream = route.upstream
    circuit = relay.standing.circuit(upstream)
    slots = await take_turn(relay, upstream, recording) if upstream.max_concurrent else None
    try:
        reply = await config.outbound.ask(upstream, asked.method, route.url, headers, _body(asked, route), recording)
    except BaseException as error:
        if slots is not None:
            slots.give_back()
        if isinstance(error, UpstreamFailedError) and error.failure.status >= 500:  # else the request is to blame
            circuit.failed()
        raise
    if reply.status in _SICK:
        circuit.failed()
    else:
        circuit.succeeded()
    return Answer(reply, upstream.name, route.model, slots)


def _others(config: Config, asked: Asked, first: Route) -> list[Route]:
    """Where a request may go that the first upstream fails."""
    is_encoded = "content-encoding" in asked.headers
    if not first.upstream.fallbacks or not attempts.is_portable(asked.method, first.path, asked.body, is_encoded=is_encoded):
        return []
    model = "" if first.asked else asked.peeked.model  # the body's own may be another, and is replaced
    meant = first.upstream.aliases.get(first.asked or model, "")
    named = (config.upstreams[name] for name in first.upstream.fallbacks)
    return [route_to(upstream, replace(asked.target, upstream=""), asked.family, model, meant) for upstream in named]


def _failed(upstream: Upstream, outcome: Answer | UpstreamFailedError) -> Failed | None:
    """How an attempt failed; None when what came is the client's."""
    if isinstance(outcome, Answer):
        return attempts.failure_of_status(upstream, outcome.reply.status, outcome.reply.headers, clock.now_us() / 1e6)
    if outcome.failure.kind == _BUSY:
        return Failed(attempts.BUSY)
    if not outcome.is_sent:
        return Failed(attempts.UNREACHABLE)
    return Failed(attempts.TIMEOUT if outcome.state == TIMED_OUT else attempts.ABORTED, is_sent=True)


def _better(best: Answer | UpstreamFailedError | None, outcome: Answer | UpstreamFailedError) -> Answer | UpstreamFailedError:
    """Which of two the client gets: the later one, but no error of ours when an upstream has said something."""
    if isinstance(best, Answer):
        if isinstance(outcome, UpstreamFailedError):
            return best
        best.close()
    return outcome


def _body(asked: Asked, route: Route) -> bytes:
    """The body for the upstream of `route`; untouched unless an alias changes the model in it."""
    if not route.model:
        return asked.body
    try:
        return with_model(asked.body, route.model)
    except ValueError:
        return asked.body  # no JSON object: the upstream says what it thinks of it


def _busy(upstream: Upstream) -> Failure:
    return Failure(
        503,
        _BUSY,
        f"Upstream {upstream.name} has {upstream.max_concurrent} requests at work, as many as this relay gives it.",
        f"Try again in a moment, or raise max_concurrent in [upstreams.{upstream.name}] of potstill.toml.",
        1,
    )
