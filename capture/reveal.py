"""Turns a pseudonym of a stored exchange back into the datum that it stands for; only the key can."""

from __future__ import annotations

from sqlalchemy import text

from capture.database import Database
from capture.errors import NotFoundError
from capture.pseudonyms import Keys


def reveal(database: Database, keys: Keys, token: str) -> str:
    """The datum behind `token`, in its first spelling; NotFoundError when no stored exchange holds it."""
    token = f"<{token.strip().strip('<>')}>"
    with database.read() as connection:
        sql = text("SELECT sealed FROM pseudonyms WHERE token = :token ORDER BY exchange_id LIMIT 1")
        row = connection.execute(sql, {"token": token}).first()
    if row is None:
        raise NotFoundError(f"No stored exchange holds {token}.", "It may have been erased; tokens look like <EMAIL_k3f9...>.")
    return keys.unseal(token, bytes(row[0]))
