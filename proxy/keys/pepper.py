"""The pepper: a secret in a file of its own, without which the hashes of keys in the store are worth nothing to a thief."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from capture.errors import SettingsError
from capture.settings import Settings
from proxy.keys.settings import KeysSettings

_BYTES = 32


def pepper_path(settings: Settings) -> Path:
    """Where the pepper is; a relative name counts from the folder of potstill.toml."""
    given = settings.section("keys", KeysSettings).pepper_file
    return settings.folder / Path(given).expanduser() if given else settings.data_folder / "keys" / "pepper"


def read_pepper(path: Path) -> bytes | None:
    """The pepper, or None where there is none yet; SettingsError when others may read the file, or it is too short."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pepper = file.read(4096)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"The pepper in {path} cannot be read: {error.strerror}.", "Give Potstill's user access.") from error
    if mode & 0o077:
        raise SettingsError(f"Others may read the pepper in {path} (mode {mode & 0o777:04o}).", f"Run: chmod 600 {path}")
    if len(pepper) < _BYTES:
        raise SettingsError(f"The pepper in {path} has {len(pepper)} bytes.", f"Put back the file, of at least {_BYTES} bytes.")
    return pepper


def make_pepper(path: Path) -> bytes:
    """The pepper, made first when there is none; two that make it at once get the same."""
    if (found := read_pepper(path)) is not None:
        return found
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(fd, secrets.token_bytes(_BYTES))
        os.fsync(fd)
    finally:
        os.close(fd)
    try:
        os.link(made, path)  # unlike a rename, leaves alone what another has put there meanwhile
    except FileExistsError:
        pass
    finally:
        made.unlink()
    pepper = read_pepper(path)
    assert pepper is not None
    return pepper
