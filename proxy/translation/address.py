"""Where the translation process listens, and how the relay tells it which upstream is meant.

Both sides work the path out by themselves from the data folder; neither has to be told.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

UPSTREAM_HEADER = "x-potstill-upstream"
"""Request header that names the section [upstreams.NAME]; the relay sets it, a client's own is never passed on."""

_LONGEST_PATH = 100  # the kernel takes 107 letters
_FOLDER, _SOCKET = "run", "translation.sock"


def socket_path(data_folder: Path) -> Path:
    """The socket's path: in the data folder, or, where that is too long for a socket, in a private temporary folder.

    The path depends on nothing but the folder and the user; `make_folder` makes the folder around it.
    """
    path = data_folder / _FOLDER / _SOCKET
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    digest = hashlib.blake2b(os.fsencode(data_folder), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"potstill-{os.getuid()}-{digest}" / _SOCKET


def make_folder(socket: Path) -> None:
    """Makes the folder of the socket, for this user alone; PermissionError when somebody else has made it already."""
    folder = socket.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or folder.is_symlink():
        raise PermissionError(f"{folder} belongs to another user, or is a link")
    if found.st_mode & 0o077:
        folder.chmod(0o700)
