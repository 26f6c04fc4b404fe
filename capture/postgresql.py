"""Connections to PostgreSQL that notice a server which has fallen silent.

The server's own statement timeout does not help when the network swallows its answer, and TCP does not notice when somebody
in between still acknowledges. So every wait for an answer has an end on this side too; the connection is then closed, and the
caller gets the error of a lost connection.
"""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Engine, create_engine, event

RV = TypeVar("RV")
_CONNECT_S = 5
_GRACE_S = 2.0
_TCP: dict[str, Any] = {"keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3, "tcp_user_timeout": 15_000}
"""Finds a host that is gone without a word within 20 s; ignored for Unix sockets."""


class _Connection(psycopg.Connection[Any]):
    """Gives up on an answer that does not come within `patience_s`."""

    patience_s: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's, with an end."""
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            self.close()
            raise psycopg.OperationalError(f"the server has not answered for {self.patience_s:g} s") from error


def postgresql_engine(url: str, statement_timeout_s: float) -> Engine:
    """An engine for SQLAlchemy address `url`, whose statements end after `statement_timeout_s`, by the server or by us."""
    options = f"-c statement_timeout={int(statement_timeout_s * 1000)} -c synchronous_commit=on"
    engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_S, "options": options, **_TCP})

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, arguments: list[Any], named: dict[str, Any]) -> _Connection:
        connection = _Connection.connect(*arguments, **named)
        connection.patience_s = statement_timeout_s + _GRACE_S
        return connection

    return engine
