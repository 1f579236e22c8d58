"""What a client would rather have, by its `Accept` header (RFC 9110, 12.5.1)."""

import re
from collections.abc import Iterator

Q = re.compile(r"q\s*=\s*(0(?:\.\d*)?|1(?:\.0*)?)")


def prefers(accept: str, kind: str, usual: str) -> bool:
    """Whether this media type is wanted rather than the usual one. Of two that are wanted alike it is the one that is
    named, and the usual one where neither is."""
    wanted, otherwise = _quality(accept, kind), _quality(accept, usual)
    is_named = any(name == kind for name, _ in _ranges(accept))
    return wanted > otherwise or (is_named and wanted == otherwise > 0)


def _quality(accept: str, kind: str) -> float:
    """From 0, not wanted at all, to 1: that of the most specific range that this media type is in."""
    found = dict(_ranges(accept))
    ranges = (kind, f"{kind.partition('/')[0]}/*", "*/*")
    return next((found[one] for one in ranges if one in found), 0.0)


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        yield name, next((float(q[1]) for one in parameters if (q := Q.fullmatch(one))), 1.0)
