"""The public identity of a job: a UUID made from its integer id and the site's key.

The first 32 bits are a keyed permutation of the id (a four-round Feistel network), so the
first eight hexadecimal digits alone lead back to the id and name the job's directory; the
rest is a keyed digest, so that ids of different sites never collide. Nothing is stored.
"""

from __future__ import annotations

from hashlib import blake2s
from uuid import UUID

_ROUNDS = 4
#: Ids beyond this have no eight-digit form.
LARGEST_ID = 2**32 - 1


class JobIdentity:
    """Translate between a site's integer ids and its job UUIDs.

    Parameters
    ----------
    key
        The site's secret, 16 to 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._tables = [self._round_table(n) for n in range(_ROUNDS)]

    def _round_table(self, n: int) -> tuple[bytes, int, int]:
        digest = blake2s(bytes([n]), key=self._key, digest_size=8).digest()
        multiplier = int.from_bytes(digest[:4], "big") | 1
        offset = int.from_bytes(digest[4:], "big")
        return digest, multiplier, offset

    @staticmethod
    def _mix(half: int, multiplier: int, offset: int) -> int:
        x = (half * multiplier + offset) & 0xFFFFFFFF
        x ^= x >> 15
        x = (x * 0x2C1B3C6D) & 0xFFFFFFFF
        return (x >> 16) & 0xFFFF

    def short(self, job: int) -> str:
        """Return the eight hexadecimal digits of job id *job* (1 to 2**32 - 1)."""
        if not 0 <= job <= LARGEST_ID:
            raise ValueError(f"job id {job} is outside 0 to {LARGEST_ID}")
        left, right = job >> 16, job & 0xFFFF
        for _, multiplier, offset in self._tables:
            x = (right * multiplier + offset) & 0xFFFFFFFF  # `_mix`, a million times
            x = ((x ^ (x >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
            left, right = right, left ^ (x >> 16)
        return f"{(left << 16) | right:08x}"

    def number(self, digits: str) -> int:
        """Return the job id whose first eight hexadecimal digits are *digits*."""
        value = int(digits[:8], 16)
        left, right = value >> 16, value & 0xFFFF
        for _, multiplier, offset in reversed(self._tables):
            left, right = right ^ self._mix(left, multiplier, offset), left
        return (left << 16) | right

    def uuid(self, job: int) -> UUID:
        """Return the UUID (variant RFC 9562, version 8) of job id *job*."""
        return UUID(self.text(job))

    def text(self, job: int) -> str:
        """Return the UUID of job id *job* as text, lower case, with dashes."""
        rest = blake2s(job.to_bytes(8, "big"), key=self._key, digest_size=12).hexdigest()
        variant = "89ab"[int(rest[8], 16) & 3]
        return f"{self.short(job)}-{rest[:4]}-8{rest[5:8]}-{variant}{rest[9:12]}-{rest[12:24]}"

    def parse(self, text: str) -> int | None:
        """Return the id that a whole UUID (with or without dashes) names, or None."""
        digits = text.replace("-", "").lower()
        if len(digits) != 32 or any(c not in "0123456789abcdef" for c in digits):
            return None
        job = self.number(digits)
        return job if self.uuid(job).hex == digits else None

    def having_prefix(self, prefix: str, largest: int, limit: int = 2**20) -> list[int] | None:
        """Return the ids up to *largest* whose UUID starts with 1 to 8 hex digits *prefix*.

        The cheaper of two enumerations is used; None when both exceed *limit* steps.
        """
        free = 16 ** (8 - len(prefix))
        if free <= largest:
            if free > limit:
                return None
            base = int(prefix, 16) * free
            found = (self.number(f"{base + n:08x}") for n in range(free))
            return sorted(n for n in found if 1 <= n <= largest)
        if largest > limit:
            return None
        return [n for n in range(1, largest + 1) if self.short(n).startswith(prefix)]
