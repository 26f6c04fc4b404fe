"""Rows of this package: virtual keys. They stay at home."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class KeyRow(SQLModel, table=True):
    """A virtual key without its secret; fields as in `proxy.keys.virtual_key.VirtualKey`, with JSON for lists."""

    __tablename__ = "keys"
    id: str = Field(primary_key=True)
    name: str
    hash: str
    scopes: str
    tasks: str
    models: str
    upstreams: str
    requests_per_minute: int = Field(sa_type=BigInteger)
    tokens_per_minute: int = Field(sa_type=BigInteger)
    concurrent: int = Field(sa_type=BigInteger)
    day_microusd: int = Field(sa_type=BigInteger)
    month_microusd: int = Field(sa_type=BigInteger)
    who: str
    created_us: int = Field(sa_type=BigInteger)
    expires_us: int = Field(sa_type=BigInteger)
    revoked_us: int = Field(sa_type=BigInteger)
    previous_hash: str
    previous_until_us: int = Field(sa_type=BigInteger)
    revision: int = Field(sa_type=BigInteger)
