"""The token that the admin listener asks for: read from a file that nobody else may read, compared in constant time."""

from __future__ import annotations

import hmac
import stat
from pathlib import Path

from capture.errors import SettingsError

_FEWEST = 16
_FOR_OTHERS = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP
_SCHEME = "bearer "


def read_token(folder: Path, name: str) -> str:
    """The token in file `name`, relative to `folder`; '' when `name` is ''. SettingsError says what is wrong with the file."""
    if not name:
        return ""
    path = folder / Path(name).expanduser()
    try:
        mode, token = path.stat().st_mode, path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "it is not text"
        raise SettingsError(
            f"admin_token_file {path} cannot be read: {reason}.", f"Make one: (umask 077; openssl rand -hex 32 > {path})"
        ) from error
    if mode & _FOR_OTHERS:
        raise SettingsError(f"admin_token_file {path} is open to others (mode {mode & 0o777:04o}).", f"chmod 600 {path}")
    if len(token) < _FEWEST or not token.isascii() or not token.isprintable() or " " in token:
        what = f"admin_token_file {path} holds no token of at least {_FEWEST} printable ASCII characters."
        raise SettingsError(what, f"Make one: (umask 077; openssl rand -hex 32 > {path})")
    return token


def is_authorised(header: str, token: str) -> bool:
    """True when the Authorization header `header` carries `token`."""
    if header[: len(_SCHEME)].lower() != _SCHEME:
        return False
    return hmac.compare_digest(header[len(_SCHEME) :].strip().encode("utf-8", "surrogateescape"), token.encode())
