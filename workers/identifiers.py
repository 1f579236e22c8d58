"""Identifiers that sort by creation: `job_01k3...`, a prefix and a ULID in lower-case Crockford base 32.

Source: https://github.com/ulid/spec (48 bits of milliseconds, 80 random bits, 26 characters).
"""

import hashlib
import re
import secrets
import threading
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26
RANDOM_BITS = 80

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """An identifier that sorts after every other one made by this process."""
    return f"{prefix}_{_encode(_next())}"


def stable_id(prefix: str, name: str) -> str:
    """The same identifier for the same name, everywhere and for ever; it sorts before every new_id."""
    digest = hashlib.sha256(f"{prefix}:{name}".encode()).digest()
    return f"{prefix}_{_encode(int.from_bytes(digest[: RANDOM_BITS // 8], 'big'))}"


def is_id(prefix: str, text: str) -> bool:
    """Whether this may be an identifier with this prefix. A mere name may begin with the prefix too."""
    return re.fullmatch(rf"{prefix}_[{ALPHABET}]{{{LENGTH}}}", text) is not None


def _next() -> int:
    global _last
    fresh = (time.time_ns() // 1_000_000) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    with _lock:
        _last = max(fresh, _last + 1)
        return _last


def _encode(number: int) -> str:
    return "".join(ALPHABET[number >> shift & 31] for shift in range(5 * (LENGTH - 1), -1, -5))
