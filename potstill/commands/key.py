"""`potstill key add|list|show|revoke|rotate|limit`: virtual keys for apps, what they may do and what they have spent."""

from __future__ import annotations

import argparse
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

from capture import clock
from capture.database import Database, open_database
from capture.errors import SettingsError
from capture.person import who_am_i
from capture.settings import Settings
from potstill.commands import add_command, add_noun, zero_or_more
from potstill.output import ExitCode, Output, counted

if TYPE_CHECKING:
    from proxy.keys.limits import Limits
    from proxy.keys.virtual_key import VirtualKey

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_KEY_HELP = "id of the key, enough of its beginning, or its name"
_RATES = ("requests_per_minute", "tokens_per_minute", "concurrent")
_BUDGETS = {"usd_per_day": "day_microusd", "usd_per_month": "month_microusd"}


def add_commands(commands: Any) -> None:
    """Adds `key` with its verbs."""
    verbs = add_noun(commands, "key", help="virtual keys for apps: add, list, show, revoke, rotate, limit")
    adding = add_command(
        verbs,
        "add",
        _add,
        help="make a key; it is shown once and stored as a hash; every relay knows it within a second",
        examples=(
            "  potstill key add support-app\n"
            "  potstill key add nightly --task triage --model 'gpt-4o*' --expires 90d --usd-per-day 5 --requests-per-minute 60"
        ),
    )
    adding.add_argument("name", help="what the key is for")
    adding.add_argument("--scope", action="append", default=[], help="relay (default), read, label or admin; may be repeated")
    adding.add_argument("--task", action="append", default=[], help="only this task, * for any text; may be repeated")
    adding.add_argument("--model", action="append", default=[], help="only this model, * for any text; may be repeated")
    adding.add_argument("--upstream", action="append", default=[], help="only this upstream, * for any text; may be repeated")
    adding.add_argument("--expires", type=_duration, default=0, metavar="TIME", help="valid for so long, such as 12h or 90d")
    _add_limits(adding)
    listing = add_command(verbs, "list", _list, help="every key, oldest first", examples="  potstill key list --json")
    listing.add_argument("--all", action="store_true", help="expired and revoked ones too")
    show = add_command(
        verbs, "show", _show, help="what a key may do, and what it has spent", examples="  potstill key show support-app"
    )
    show.add_argument("key", help=_KEY_HELP)
    revoke = add_command(
        verbs,
        "revoke",
        _revoke,
        help="take a key out of use for ever; every relay obeys within a second",
        examples="  potstill key revoke support-app",
    )
    revoke.add_argument("key", help=_KEY_HELP)
    rotate = add_command(
        verbs,
        "rotate",
        _rotate,
        help="make a new key with the same id, rights and limits; the old one stays valid for a while",
        examples="  potstill key rotate support-app --grace 24h",
    )
    rotate.add_argument("key", help=_KEY_HELP)
    rotate.add_argument(
        "--grace", type=_duration, default=0, metavar="TIME", help="how long the old key stays valid (default: not at all)"
    )
    limit = add_command(
        verbs,
        "limit",
        _limit,
        help="change what a key may use; limits that are not named stay, 0 takes one away",
        examples="  potstill key limit support-app --usd-per-month 100 --concurrent 0",
    )
    limit.add_argument("key", help=_KEY_HELP)
    _add_limits(limit)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests-per-minute", type=zero_or_more, metavar="N", help="so many at once, refilled evenly")
    parser.add_argument("--tokens-per-minute", type=zero_or_more, metavar="N", help="tokens of prompts and answers")
    parser.add_argument("--concurrent", type=zero_or_more, metavar="N", help="requests in flight at the same time")
    parser.add_argument("--usd-per-day", type=float, metavar="USD", help="budget of a day (UTC)")
    parser.add_argument("--usd-per-month", type=float, metavar="USD", help="budget of a calendar month (UTC)")


def _duration(text: str) -> int:
    """Microseconds of 90s, 15m, 12h, 7d or 2w, as argparse's `type`."""
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no time like 90s, 12h or 90d")
    return int(match[1]) * _SECONDS[match[2]] * 1_000_000


def _limits(arguments: argparse.Namespace, before: Limits) -> Limits:
    """`before` with what the command line names; SettingsError for an impossible number."""
    from proxy.keys.limits import Limits
    from proxy.keys.settings import LEAST_USD

    values = {name: getattr(before, name) for name in (*_RATES, *_BUDGETS.values())}
    for name in (*_RATES, *_BUDGETS):
        given = getattr(arguments, name)
        if given is not None:
            if not 0 <= given <= 10**9:
                raise SettingsError(f"--{name.replace('_', '-')} is {given:g}.", "Give a number between 0 and 1000000000.")
            if name in _BUDGETS and 0 < given < LEAST_USD:
                what = f"--{name.replace('_', '-')} is {given:g}, less than the least budget, $0.000001."
                raise SettingsError(what, "Give that or more; 0 takes the budget away.")
            values[_BUDGETS.get(name, name)] = round(given * 1_000_000) if name in _BUDGETS else given
    return Limits(**values)


def _add(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from proxy.keys.key_store import add_key, read_keys
    from proxy.keys.limits import NO_LIMITS
    from proxy.keys.pepper import make_pepper, pepper_path

    with closing(open_database(settings.database_url)) as database:
        secret, made = add_key(
            database,
            make_pepper(pepper_path(settings)),
            arguments.name,
            scopes=arguments.scope or ["relay"],
            tasks=arguments.task,
            models=arguments.model,
            upstreams=arguments.upstream,
            limits=_limits(arguments, NO_LIMITS),
            expires_us=clock.now_us() + arguments.expires if arguments.expires else 0,
            who=who_am_i(),
        )
        others = [key for key in read_keys(database)[1] if key.id != made.id and made.name in (key.id, key.name)]
    _warn_of_unknown_upstreams(made.upstreams, settings, output)
    if others:
        what = f"{made.name!r} is the name of {counted(len(others) + 1, 'key')} now, so it says no more which of them is meant."
        output.warn(what, f"Name this one by its id: {made.id}. The others: {', '.join(key.id for key in others)}.")
    return _tell_secret(secret, made, output)


def _warn_of_unknown_upstreams(patterns: tuple[str, ...], settings: Settings, output: Output) -> None:
    """Says which of `patterns` stand for no upstream of the configuration, which may get one later."""
    from proxy.keys.virtual_key import allows
    from proxy.upstream_settings import PUBLIC, UpstreamSettings

    names = list(settings.named_sections("upstreams", UpstreamSettings) or PUBLIC) if patterns else []
    for pattern in patterns:
        if not any(allows([pattern], name) for name in names):
            next_step = f"There is {', '.join(names)}. Add [upstreams.NAME] to potstill.toml, or make another key."
            output.warn(f"No upstream is named {pattern!r}, so the key opens nothing by that name.", next_step)


def _rotate(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from proxy.keys.key_store import rotate_key
    from proxy.keys.pepper import make_pepper, pepper_path

    with closing(open_database(settings.database_url)) as database:
        secret, made = rotate_key(database, make_pepper(pepper_path(settings)), arguments.key, arguments.grace)
    return _tell_secret(secret, made, output)


def _tell_secret(secret: str, made: VirtualKey, output: Output) -> int:
    if output.as_json:
        output.json({"key": secret, **_shown(made)})
    else:
        output.say(secret)
        output.say(f"This is the only time that key {made.id} ({made.name}) is shown. Give it to the app as its API key.")
    return ExitCode.OK


def _list(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from proxy.keys.key_store import read_keys

    now = clock.now_us()
    with closing(open_database(settings.database_url)) as database:
        _, keys = read_keys(database)
        keys = [key for key in keys if arguments.all or key.state(now) == "active"]
        spent = _spent(database)
    if output.as_json:
        output.json([{**_shown(key), **_money(*spent.get(key.id, (0, 0)))} for key in keys])
    elif not keys:
        output.say("No virtual key. Next: potstill key add NAME")
    else:
        rows = [
            (key.id, key.name, key.state(now), ", ".join(key.scopes), _usd(spent.get(key.id, (0, 0))[1]), _limits_in_words(key))
            for key in keys
        ]
        output.table(("ID", "NAME", "STATE", "SCOPES", "THIS MONTH", "LIMITS"), rows, right=("THIS MONTH",))
    return ExitCode.OK


def _show(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from proxy.keys.key_store import get_key

    with closing(open_database(settings.database_url)) as database:
        key = get_key(database, arguments.key)
        spent = _spent(database).get(key.id, (0, 0))
    return _tell(key, output, spent)


def _revoke(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from proxy.keys.key_store import revoke_key

    with closing(open_database(settings.database_url)) as database:
        key = revoke_key(database, arguments.key)
    if output.as_json:
        output.json(_shown(key))
    else:
        output.say(f"{key.id} ({key.name}): revoked. Every relay that reaches the store refuses it within a second.")
    return ExitCode.OK


def _limit(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    from proxy.keys.key_store import get_key, limit_key

    with closing(open_database(settings.database_url)) as database:
        found = get_key(database, arguments.key)
        key = limit_key(database, found.id, _limits(arguments, found.limits))
        spent = _spent(database).get(key.id, (0, 0))
    return _tell(key, output, spent)


def _tell(key: VirtualKey, output: Output, spent: tuple[int, int]) -> int:
    if output.as_json:
        output.json({**_shown(key), **_money(*spent)})
        return ExitCode.OK
    facts = {
        "id": key.id,
        "name": key.name,
        "state": key.state(clock.now_us()),
        "scopes": ", ".join(key.scopes),
        "tasks": ", ".join(key.tasks) or "all",
        "models": ", ".join(key.models) or "all",
        "upstreams": ", ".join(key.upstreams) or "all",
        "limits": _limits_in_words(key),
        "spent today": _usd(spent[0]),
        "spent this month": _usd(spent[1]),
        "made": clock.iso(key.created_us) + (f" by {key.who}" if key.who else ""),
        "expires": clock.iso(key.expires_us) if key.expires_us else "never",
    }
    for name, value in facts.items():
        output.say(f"{name:17} {value}")
    return ExitCode.OK


def _shown(key: VirtualKey) -> dict[str, Any]:
    """What is told of a key: everything but its hashes."""
    names = ("id", "name", "scopes", "tasks", "models", "upstreams", "limits", "who", "created_us", "expires_us", "revoked_us")
    return {"state": key.state(clock.now_us()), **{name: getattr(key, name) for name in names}}


def _spent(database: Database) -> dict[str, tuple[int, int]]:
    """Micro-dollars of today and of this month by key, as far as prices are known."""
    from capture import spend
    from proxy.keys.limits import first_day_of, month_of

    now = clock.now_us()
    found: dict[str, tuple[int, int]] = {}
    with database.read() as connection:
        for each in spend.read(connection, first_day_of(month_of(now))):
            day, month = found.get(each.key_id, (0, 0))
            today = each.cost_microusd if each.day == spend.day_of(now) else 0
            found[each.key_id] = (day + today, month + each.cost_microusd)
    return found


def _money(day: int, month: int) -> dict[str, int]:
    return {"day_spent_microusd": day, "month_spent_microusd": month}


def _usd(microusd: int) -> str:
    return f"${microusd / 1_000_000:.4f}"


def _limits_in_words(key: VirtualKey) -> str:
    limits = key.limits
    words = (
        (limits.requests_per_minute, f"{limits.requests_per_minute} requests/min"),
        (limits.tokens_per_minute, f"{limits.tokens_per_minute} tokens/min"),
        (limits.concurrent, f"{limits.concurrent} at a time"),
        (limits.day_microusd, f"${limits.day_microusd / 1_000_000:g} a day"),
        (limits.month_microusd, f"${limits.month_microusd / 1_000_000:g} a month"),
    )
    return ", ".join(text for value, text in words if value) or "none"
