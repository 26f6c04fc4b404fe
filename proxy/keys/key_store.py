"""Virtual keys in the store: made, listed, changed. The key itself is given out once and never kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, text

from capture import clock
from capture.database import Database
from capture.errors import NotFoundError, SettingsError
from proxy.keys.limits import NO_LIMITS, Limits
from proxy.keys.virtual_key import RELAY, SCOPES, VirtualKey, hash_key, new_key

_LISTS = ("scopes", "tasks", "models", "upstreams")
_NUMBERS = ("requests_per_minute", "tokens_per_minute", "concurrent", "day_microusd", "month_microusd")
_REST = ("who", "created_us", "expires_us", "revoked_us", "previous_hash", "previous_until_us")
_NAMES = ("id", "name", "hash", *_LISTS, *_NUMBERS, *_REST)
_COLUMNS = ", ".join(_NAMES)
_PUT = text(
    f"INSERT INTO keys ({_COLUMNS}, revision) VALUES ({', '.join(f':{name}' for name in (*_NAMES, 'revision'))}) "  # noqa: S608
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in (*_NAMES[1:], 'revision'))}"
)
_TURN = 7_311_406
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")


def add_key(
    database: Database,
    pepper: bytes,
    name: str,
    *,
    scopes: Sequence[str] = (RELAY,),
    tasks: Sequence[str] = (),
    models: Sequence[str] = (),
    upstreams: Sequence[str] = (),
    limits: Limits = NO_LIMITS,
    expires_us: int = 0,
    who: str = "",
) -> tuple[str, VirtualKey]:
    """A new key, to be shown once, and what the store has of it; SettingsError for a name or a scope that cannot be."""
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name[:100]!r} is no name for a key.", "Use 1 to 100 printable characters.")
    for scope in scopes:
        if scope not in SCOPES:
            raise SettingsError(f"Scope {scope!r} is unknown.", f"Use some of {', '.join(SCOPES)}.")
    key, id = new_key()
    made = VirtualKey(
        id,
        name,
        hash_key(pepper, key),
        tuple(scopes),
        tuple(tasks),
        tuple(models),
        tuple(upstreams),
        limits,
        who,
        clock.now_us(),
        expires_us,
    )
    with database.write() as connection:
        _put(connection, made)
    return key, made


def read_keys(database: Database) -> tuple[int, list[VirtualKey]]:
    """Every key, oldest first, and the revision of their table."""
    with database.read() as connection:
        revision = _revision(connection)
        rows = connection.execute(text(f"SELECT {_COLUMNS} FROM keys ORDER BY created_us, id")).all()  # noqa: S608  names
    return revision, [_key(row) for row in rows]


def read_revision(database: Database) -> int:
    """A number that grows with every change to the keys; 0 before the first."""
    with database.read() as connection:
        return _revision(connection)


def get_key(database: Database, wanted: str) -> VirtualKey:
    """The key whose id, its beginning, or whose name is `wanted`; NotFoundError when that is none or several."""
    _, keys = read_keys(database)
    found = [key for key in keys if wanted in (key.id, key.name)] or [key for key in keys if wanted and key.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} keys are called {wanted[:100]!r}." if found else f"There is no key {wanted[:100]!r}."
    raise NotFoundError(what, "Give its id." if found else "List them with `potstill key list`.")


def revoke_key(database: Database, wanted: str) -> VirtualKey:
    """Takes a key out of use for ever; one that is revoked already stays so."""
    return _change(database, wanted, lambda key: key if key.revoked_us else replace(key, revoked_us=clock.now_us()))


def limit_key(database: Database, wanted: str, limits: Limits) -> VirtualKey:
    """Gives a key other limits."""
    return _change(database, wanted, lambda key: replace(key, limits=limits))


def rotate_key(database: Database, pepper: bytes, wanted: str, grace_us: int) -> tuple[str, VirtualKey]:
    """A new key with the same id and rights; the one before counts for `grace_us` longer. SettingsError for a revoked one."""
    id = get_key(database, wanted).id
    key, _ = new_key(id)
    now = clock.now_us()

    def rotated(found: VirtualKey) -> VirtualKey:
        if found.revoked_us:
            raise SettingsError(f"Key {found.id} is revoked.", "Make another with `potstill key add`.")
        return replace(
            found, hash=hash_key(pepper, key), previous_hash=found.hash, previous_until_us=now + grace_us if grace_us else 0
        )

    return key, _change(database, id, rotated)


def _change(database: Database, wanted: str, change: Callable[[VirtualKey], VirtualKey]) -> VirtualKey:
    id = get_key(database, wanted).id
    with database.write() as connection:
        _take_turn(connection)
        row = connection.execute(text(f"SELECT {_COLUMNS} FROM keys WHERE id = :id"), {"id": id}).one()  # noqa: S608  names
        changed = change(_key(row))
        _put(connection, changed)
    return changed


def _put(connection: Connection, key: VirtualKey) -> None:
    _take_turn(connection)
    row: dict[str, Any] = {name: json.dumps(getattr(key, name)) for name in _LISTS}
    row |= {name: getattr(key.limits, name) for name in _NUMBERS}
    row |= {name: getattr(key, name) for name in ("id", "name", "hash", *_REST)}
    row["revision"] = _revision(connection) + 1
    connection.execute(_PUT, row)


def _take_turn(connection: Connection) -> None:
    """Has revisions become visible in their order on PostgreSQL too; may be called twice."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})


def _revision(connection: Connection) -> int:
    return int(connection.execute(text("SELECT COALESCE(MAX(revision), 0) FROM keys")).scalar_one())


def _key(row: Row[Any]) -> VirtualKey:
    values: dict[str, Any] = dict(row._mapping)
    limits = Limits(**{name: int(values.pop(name)) for name in _NUMBERS})
    values |= {name: tuple(json.loads(values[name])) for name in _LISTS}
    return VirtualKey(**values, limits=limits)
