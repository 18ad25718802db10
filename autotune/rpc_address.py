"""Where devices behind a tracker are found, and what they say of themselves."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from tvm_fastconv.topi.machine import Machine


@dataclass(frozen=True)
class Address:
    """Where devices are found.

    Attributes
    ----------
    host, port : str, int
        Of the tracker.
    key : str
        As the devices are called.
    secret : str
        Shared with them, or nobody is found.
    """

    host: str
    port: int
    key: str
    secret: str = ""

    @property
    def name(self) -> str:
        """The key that the tracker knows."""
        return tracker_key(self.key, self.secret)


@dataclass(frozen=True)
class Description:
    """What a server says of its device."""

    target: str
    machine: Machine
    processor: str
    clock: float

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Description:
        """Inverse of `to_json`.

        Raises
        ------
        ValueError
            It is none.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or set(found) != {"target", "machine", "processor", "clock"}:
            raise ValueError("it describes no device")
        machine = Machine.from_json(json.dumps(found["machine"]))
        clock = float(found["clock"])
        if not 1e6 < clock < 1e11:
            raise ValueError(f"its clock of {clock:g} Hz is none")
        return cls(str(found["target"]), machine, str(found["processor"])[:200], clock)


def tracker_key(key: str, secret: str) -> str:
    """What a device is called on the tracker: nobody who lacks the secret can ask for it."""
    return key if not secret else f"{key}-{hashlib.sha256(secret.encode()).hexdigest()[:32]}"
