"""Stands in for personal data before the store: a mark such as [email], or a stable token that only a key can turn back.

A token is keyed (BLAKE2b), so that the same datum has the same token everywhere and nobody without the key can try out data.
The datum itself is sealed with AES-256-GCM under a second key; both keys are derived from one secret.
"""

from __future__ import annotations

import os
from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from capture.capture_settings import KEEP, PSEUDONYMS, CaptureSettings
from capture.errors import SettingsError
from capture.personal_data import find

LEAST_SECRET = 32
_NONCE_BYTES = 12
_TOKEN_BYTES = 10


@dataclass(frozen=True, slots=True)
class Pseudonym:
    """A token and the datum that it stands for, sealed."""

    token: str
    sealed: bytes


class Keys:
    """What turns data into tokens and back, made from a secret of at least `LEAST_SECRET` characters."""

    def __init__(self, secret: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._token_key = blake2b(secret.encode(), digest_size=32, person=b"potstill-token").digest()
        self._box = AESGCM(blake2b(secret.encode(), digest_size=32, person=b"potstill-seal").digest())

    def token(self, kind: str, value: str) -> str:
        """The token of a datum, such as <EMAIL_k3f9...>: the same for the same secret, kind and value."""
        digest = blake2b(f"{kind}\0{value}".encode("utf-8", "replace"), digest_size=_TOKEN_BYTES, key=self._token_key).digest()
        return f"<{kind.upper()}_{b32encode(digest).decode().lower()}>"

    def seal(self, token: str, datum: str) -> bytes:
        """`datum` so that only `unseal` with the same secret and token reads it."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._box.encrypt(nonce, datum.encode("utf-8", "replace"), token.encode())

    def unseal(self, token: str, sealed: bytes) -> str:
        """What was sealed; SettingsError when another secret sealed it."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._box.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], token.encode()).decode()
        except InvalidTag as error:
            raise SettingsError(f"The key does not open {token}.", "Give the key that was set when it was captured.") from error


class Hiding:
    """Replaces personal data in texts, by marks without `keys` and by tokens with them; counts it and remembers the tokens."""

    def __init__(self, keys: Keys | None) -> None:
        self.count = 0
        self._keys = keys
        self._data: dict[str, str] = {}

    @property
    def pseudonyms(self) -> tuple[Pseudonym, ...]:
        """The tokens that were given, each with its sealed datum."""
        if self._keys is None:
            return ()
        return tuple(Pseudonym(token, self._keys.seal(token, datum)) for token, datum in self._data.items())

    def text(self, text: str) -> str:
        """`text` without its personal data; the very same when there was none."""
        found = find(text)
        if not found:
            return text
        pieces, position = [], 0
        for finding in found:
            pieces += [
                text[position : finding.start],
                self._stand_in(finding.kind, finding.value, text, finding.start, finding.end),
            ]
            position = finding.end
        self.count += len(found)
        return "".join([*pieces, text[position:]])

    def _stand_in(self, kind: str, value: str, text: str, start: int, end: int) -> str:
        if self._keys is None:
            return f"[{kind}]"
        token = self._keys.token(kind, value)
        self._data.setdefault(token, text[start:end])
        return token


@dataclass(frozen=True, slots=True)
class PersonalPolicy:
    """What happens to personal data before the store: `KEEP`, `MASK`, or with `keys` `PSEUDONYMS`."""

    mode: str = KEEP
    keys: Keys | None = None

    def hiding(self) -> Hiding | None:
        """What hides the personal data of one exchange; None where it is kept."""
        return None if self.mode == KEEP else Hiding(self.keys)


KEEP_PERSONAL = PersonalPolicy()
"""Personal data stay as they are."""


def read_policy(settings: CaptureSettings, environ: Mapping[str, str]) -> PersonalPolicy:
    """What `settings` want; SettingsError for pseudonyms without a usable key in the environment."""
    name = settings.personal_data_key_env
    new = f'Make one and keep it safe: export {name}=$(openssl rand -hex 32). Without a key: personal_data = "mask".'
    keys = read_keys(settings, environ, next_step=new) if settings.personal_data == PSEUDONYMS else None
    return PersonalPolicy(settings.personal_data, keys)


def read_keys(settings: CaptureSettings, environ: Mapping[str, str], *, next_step: str = "") -> Keys:
    """The keys from the environment; SettingsError with `next_step` when there is no secret, or a short one."""
    name = settings.personal_data_key_env
    secret = environ.get(name, "")
    if len(secret) < LEAST_SECRET:
        what = f"has {len(secret)} characters, fewer than {LEAST_SECRET}" if secret else "is not set"
        next_step = next_step or "Give the key that was set when it was captured."
        raise SettingsError(f"Pseudonyms need a key, and environment variable {name} {what}.", next_step)
    return Keys(secret)
