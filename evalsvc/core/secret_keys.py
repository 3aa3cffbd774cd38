"""Derived secrets: each is an HMAC of a stored salt under one of the operator's keys, and is not stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

SHORTEST = 32
"""Characters of a key: ``openssl rand -hex 32`` gives 64."""


@dataclass(frozen=True)
class SecretKeys:
    """The current keys, newest first: the first key makes new secrets, the older keys keep theirs valid."""

    keys: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str) -> SecretKeys:
        """Parse comma-separated keys.

        Raises:
            ValueError: a key is too short. The message contains no key.
        """
        keys = [part.strip() for part in text.split(",")] if text else []
        if any(len(key) < SHORTEST for key in keys):
            raise ValueError(f"each key needs at least {SHORTEST} characters: make one with 'openssl rand -hex 32'")
        return cls(tuple(key.encode() for key in dict.fromkeys(keys)))

    def __bool__(self) -> bool:
        return bool(self.keys)

    @property
    def names(self) -> tuple[str, ...]:
        """Identifiers of the keys that reveal nothing about them, 16 hexadecimal digits each."""
        return tuple(hmac.new(key, b"evalsvc key", hashlib.sha256).hexdigest()[:16] for key in self.keys)

    def secrets(self, purpose: str, salt: str) -> list[bytes]:
        """The secret of a salt under each key, 32 bytes each."""
        message = f"evalsvc {purpose}\0{salt}".encode()
        return [hmac.new(key, message, hashlib.sha256).digest() for key in self.keys]


NO_KEYS = SecretKeys()


def new_salt() -> str:
    """256 random bits as hexadecimal digits."""
    return secrets.token_hex(32)
