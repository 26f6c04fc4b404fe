"""Who may pass: one synchronous look at each request, before anything of it is relayed.

A request without a virtual key, for a task without limits, costs this some microseconds at most. What is taken here
is given back by `Grant.end`, except a reservation of money, which stands until the store has said what the exchange cost.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from msgspec import structs

from capture import clock
from capture.errors import StoreError
from proxy.credentials import CARRIERS, find_key, is_virtual
from proxy.failures import BUDGET_SPENT, RATE_LIMITED, Failure
from proxy.keys.estimate import estimate_microusd, estimate_tokens
from proxy.keys.ledger import Refusal, Wish
from proxy.keys.limits import CONCURRENT, DAY, HELD, MONTH, REQUESTS, Limits, limits_of, seconds, shared_by
from proxy.keys.settings import KeysSettings, LimitSettings
from proxy.keys.settle import Owed, key_subject, task_subject
from proxy.keys.virtual_key import LABEL, RELAY, VirtualKey, allows, matches
from proxy.keys.watch import KeyWatcher
from proxy.reading import Asked
from proxy.settings import ANTHROPIC, KEY_FROM_CLIENT, Upstream

_HIDDEN_MODEL = ("POST", "PUT", "PATCH")
_SILENCE_NS = 60_000_000_000
_CARRIED = "carried"
_log = logging.getLogger(__name__)


class Grant:
    """That a request may pass, and what was taken for it. `end` gives it back; only the first one counts."""

    __slots__ = ("_microusd", "_raw_id", "_tokens", "_upstreams", "_watcher", "_wishes", "key_id")

    def __init__(
        self,
        key_id: str = "",
        watcher: KeyWatcher | None = None,
        wishes: tuple[Wish, ...] = (),
        raw_id: bytes = b"",
        tokens: int = 0,
        microusd: int = 0,
        upstreams: tuple[str, ...] = (),
    ) -> None:
        self.key_id, self._upstreams = key_id, upstreams
        self._watcher, self._wishes, self._raw_id = watcher, wishes, raw_id
        self._tokens, self._microusd = tokens, microusd

    def narrowed(self, asked: Asked) -> Asked:
        """`asked`, falling back on such upstreams alone as the key is for."""
        route = asked.route
        if not self._upstreams or route is None or not route.upstream.fallbacks:
            return asked
        fallbacks = tuple(name for name in route.upstream.fallbacks if allows(self._upstreams, name))
        return structs.replace(asked, route=replace(route, upstream=replace(route.upstream, fallbacks=fallbacks)))

    def end(self, is_kept: bool = True) -> None:
        """The exchange is over. `is_kept` False: the spool does not have it, so the store will never say what it cost."""
        watcher, self._watcher = self._watcher, None
        if watcher is None or watcher.ledger is None:
            return
        ledger, now = watcher.ledger, clock.now_us()
        watcher.change(lambda: ledger.finish(self._wishes))
        if not self._needs_settling:
            return
        if is_kept:
            watcher.owe(Owed(self._raw_id, self._wishes, self._tokens, self._microusd, now))
        else:
            watcher.change(lambda: ledger.write_off(self._wishes, self._microusd, now))

    def cancel(self) -> None:
        """The request went nowhere, and cost nothing."""
        watcher, self._watcher = self._watcher, None
        if watcher is None or watcher.ledger is None:
            return
        ledger, now = watcher.ledger, clock.now_us()
        watcher.change(lambda: ledger.finish(self._wishes))
        if self._needs_settling:
            watcher.change(lambda: ledger.settle(self._wishes, self._tokens, 0, self._microusd, now))

    @property
    def _needs_settling(self) -> bool:
        return any(wish.limits.needs_settling for wish in self._wishes)


FREE = Grant()
"""The grant of a request that nothing limits and that has no virtual key."""


class Gate:
    """What a worker's requests must pass: `settings` and `limits` (of tasks, by name) as they are in force."""

    def __init__(self, settings: KeysSettings, limits: Mapping[str, LimitSettings], watcher: KeyWatcher) -> None:
        self.failures = 0
        """Requests that passed without their limits because the ledger could not be used."""
        self._silent_until_ns = 0
        self._watcher = watcher
        self.change(settings, limits)

    def change(self, settings: KeysSettings, limits: Mapping[str, LimitSettings]) -> None:
        """Puts other settings in force; what was granted under the old ones ends under them."""
        self._settings = settings
        known = {task: shared_by(limits_of(each), settings.hosts) for task, each in limits.items()}
        self._tasks = {task: each for task, each in known.items() if each.is_any}
        self._watcher.assumed_microusd = settings.assumed_microusd
        budgets = frozenset(task_subject(task) for task, each in self._tasks.items() if each.has_budget)
        self._watcher.watch_tasks(budgets, has_limits=bool(self._tasks))

    def status(self) -> dict[str, object]:
        """What the admin listener shows of it."""
        watcher = self._watcher
        return {
            "keys": len(watcher.current.keys),
            "is_stale": watcher.is_stale,
            "unsettled": watcher.unsettled,
            "written_off": watcher.written_off,
            "unlimited": self.failures,
            "put_off": watcher.put_off,
            "error": watcher.last_error,
        }

    def admit(self, asked: Asked, raw_id: bytes) -> Grant | Failure:
        """The grant for a request whose exchange is `raw_id`, or why it may not pass; one that goes nowhere takes nothing."""
        carried: tuple[str, str] | None = asked.known.get(_CARRIED)
        if carried is None:
            carried = asked.known[_CARRIED] = find_key(asked.headers)
        key = self._key(*carried, (RELAY,))
        if isinstance(key, Failure):
            return key
        if key is not None and (failure := _refuse_use(key, asked)) is not None:
            return failure
        if asked.route is None:
            return _plain_grant(key)
        task = asked.identity.task
        subjects: list[tuple[str, Limits]] = []
        if key is not None and key.limits.is_any:
            subjects.append((key_subject(key.id), shared_by(key.limits, self._settings.hosts)))
        if task in self._tasks:
            subjects.append((task_subject(task), self._tasks[task]))
        if subjects and self._watcher.ledger is not None:
            return self._take(asked, raw_id, key, subjects)
        self.failures += bool(subjects)
        return _plain_grant(key)

    def blamed_key(self, headers: Mapping[str, str], failure: Failure) -> str:
        """The id of the key that a refused request came with; '' when it had none, or none that is known to be right."""
        return "" if failure.kind in _NOT_PROVEN else find_key(headers)[1]

    def lets(self, key_id: str, upstream: Upstream) -> bool:
        """True when `key_id` ('' for none) may be answered by `upstream`, which stands in for the one that it asked."""
        key = self._watcher.current.keys.get(key_id) if key_id else None
        return key is None or allows(key.upstreams, upstream.name)

    def admit_feedback(self, headers: Mapping[str, str]) -> str | Failure:
        """The id of the key of somebody who leaves feedback ('' without one), or why that may not be."""
        key = self._key(*find_key(headers), (LABEL, RELAY))
        return key if isinstance(key, Failure) else key.id if key is not None else ""

    def _key(self, sent: str, id: str, scopes: tuple[str, ...]) -> VirtualKey | Failure | None:
        """The key that a request carries, which must have one of `scopes`; None without one where none is required."""
        if not sent:
            return _NO_KEY if self._settings.required else None
        snapshot, now = self._watcher.current, clock.now_us()
        found = snapshot.keys.get(id)
        if snapshot.pepper is None and (found is not None or not snapshot.is_known):
            return _KEYS_UNREADABLE
        if found is None or snapshot.pepper is None or not matches(snapshot.pepper, sent, found, now):
            return _KEYS_UNREADABLE if self._watcher.is_stale else _unknown(id)
        if (state := found.state(now)) != "active":
            return Failure(401, "invalid_key", f"Virtual key {id} is {state}.", "Ask for another one.")
        if not any(scope in found.scopes for scope in scopes):
            what = f"Virtual key {id} has scope {', '.join(found.scopes) or 'of nothing'}; this needs {' or '.join(scopes)}."
            return Failure(403, "key_scope", what, "Use another key.")
        return found

    def _take(self, asked: Asked, raw_id: bytes, key: VirtualKey | None, subjects: list[tuple[str, Limits]]) -> Grant | Failure:
        watcher = self._watcher
        ledger = watcher.ledger
        assert ledger is not None and asked.route is not None
        tokens = microusd = 0
        if any(limits.needs_settling for _, limits in subjects):
            tokens_in, tokens_out = estimate_tokens(asked.route.path, asked.body, self._settings.assumed_tokens_out)
            tokens = tokens_in + tokens_out
            microusd = estimate_microusd(
                watcher.price_table,
                asked.peeked.model,
                asked.route.upstream.name,
                tokens_in,
                tokens_out,
                self._settings.assumed_microusd,
            )
            if "upgrade" in asked.headers:  # nobody knows how long a session will talk
                microusd = max(microusd, self._settings.assumed_microusd)
        wishes = tuple(Wish(name, limits) for name, limits in subjects)
        try:
            refusal = ledger.take(wishes, tokens, microusd, clock.now_us())
        except (StoreError, OSError) as error:
            self._pass_unlimited(error)
            return _plain_grant(key)
        if refusal is not None:
            return _refused(subjects[refusal.place], refusal, asked.family)
        id, upstreams = (key.id, key.upstreams) if key is not None else ("", ())
        return Grant(id, watcher, wishes, raw_id, tokens, microusd, upstreams)

    def _pass_unlimited(self, error: Exception) -> None:
        """Counts a request that passes without its limits, and says why at most once a minute."""
        self.failures += 1
        now = clock.monotonic_ns()
        if now >= self._silent_until_ns:
            self._silent_until_ns = now + _SILENCE_NS
            _log.error("requests pass without their limits, %d so far: %s", self.failures, error)


_NOT_PROVEN = ("invalid_key", "keys_unreadable")
_NO_KEY = Failure(
    401,
    "missing_key",
    "The request has no virtual key, and this relay wants one.",
    "Make one with `potstill key add NAME`, and give it to the app as its API key.",
)
_KEYS_UNREADABLE = Failure(
    503, "keys_unreadable", "The relay cannot check virtual keys just now, because the store does not answer.", "Try again.", 2
)


def _plain_grant(key: VirtualKey | None) -> Grant:
    """That of a request from which nothing is taken."""
    return Grant(key.id, upstreams=key.upstreams) if key is not None else FREE


def _unknown(id: str) -> Failure:
    return Failure(401, "invalid_key", f"Virtual key {id} is unknown, or its secret is wrong.", "See `potstill key list`.")


def _refuse_use(key: VirtualKey, asked: Asked) -> Failure | None:
    """Why `key` may not be used for what is asked."""
    task, model, route = asked.identity.task, asked.peeked.model, asked.route
    if route is None:
        return None
    if not allows(key.tasks, task):
        what = f"Virtual key {key.id} is for tasks {', '.join(key.tasks)}, not {task!r}."
        return Failure(403, "key_task", what, "Name one of them in header x-potstill-task, or use another key.")
    if key.models and not model and (asked.method in _HIDDEN_MODEL or "upgrade" in asked.headers):
        what = f"Virtual key {key.id} is for models {', '.join(key.models)}, and the request names none that can be seen."
        return Failure(403, "key_model", what, "Send plain JSON with a model, or use another key.")
    if model and not allows(key.models, model):
        what = f"Virtual key {key.id} is for models {', '.join(key.models)}, not {model[:100]!r}."
        return Failure(403, "key_model", what, "Ask for one of them, or use another key.")
    upstream = route.upstream
    if not allows(key.upstreams, upstream.name):
        what = f"Virtual key {key.id} is for upstreams {', '.join(key.upstreams)}, not {upstream.name}."
        return Failure(403, "key_upstream", what, "Ask one of them, or use another key.")
    if upstream.key == KEY_FROM_CLIENT and not _has_own_credential(asked.headers):
        what = f"Upstream {upstream.name} takes the client's key, and a virtual key says nothing to it."
        return Failure(401, "missing_key", what, f'Set key = "env:NAME" in [upstreams.{upstream.name}] of potstill.toml.')
    return None


def _has_own_credential(headers: Mapping[str, str]) -> bool:
    return any((value := headers.get(name, "").strip()) and not is_virtual(value) for name in CARRIERS)


def _refused(subject: tuple[str, Limits], refusal: Refusal, family: str) -> Failure:
    kind, _, name = subject[0].partition(":")
    who = f"Virtual key {name}" if kind == "key" else f"Task {name}"
    limits, wait = subject[1], seconds(refusal.wait_us)
    if refusal.limit in (DAY, MONTH):
        most = (limits.day_microusd if refusal.limit == DAY else limits.month_microusd) / 1_000_000
        what = f"{who} has a budget of ${most:g} a {refusal.limit}, and this request may cost more than is left of it."
        next_step = f"Raise it, ask for fewer tokens, or wait for the next {refusal.limit}, {wait} s."
        return Failure(402 if family == ANTHROPIC else 429, BUDGET_SPENT, what, next_step, wait)
    if refusal.limit == HELD:
        what = f"What is left of the budget of {who[0].lower()}{who[1:]} is put aside for requests whose cost is not known yet."
        return Failure(429, RATE_LIMITED, what, "Try again in a moment, or set max_tokens, so that less is put aside.", wait)
    if refusal.limit == CONCURRENT:
        what = f"{who} may have {limits.concurrent} requests at a time, and has."
        return Failure(429, RATE_LIMITED, what, "Wait until another is over.", wait)
    most_a_minute = limits.requests_per_minute if refusal.limit == REQUESTS else limits.tokens_per_minute
    what = f"{who} may have {most_a_minute} {refusal.limit} a minute, and has had them."
    return Failure(429, RATE_LIMITED, what, f"Wait {wait} s.", wait)
