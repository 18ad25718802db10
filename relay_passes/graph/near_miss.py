"""What almost is of a kind that is looked for: not ``None``, which says that nobody would have expected it."""

from typing import NamedTuple


class NearMiss(NamedTuple):
    """Why something is not what it nearly is, in words for the report."""

    reason: str
