"""TVM's saved form of things: 64-bit numbers, and texts behind their length."""

import struct


class StreamReader:
    """Reads from the front of ``data``; what ends in the middle of something is a `ValueError`."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        """So many bytes."""
        if size > len(self.data) - self.at:
            raise ValueError("the packed modules end in the middle of one")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self) -> int:
        """An unsigned number of 64 bits."""
        return int.from_bytes(self.take(8), "little")

    def text(self) -> bytes:
        """As many bytes as the number in front says."""
        return self.take(self.number())


def text(data: bytes) -> bytes:
    """``data`` behind its length."""
    return struct.pack("<Q", len(data)) + data
