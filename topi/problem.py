"""Problems: what an operator is asked for, as far as time and knobs depend on it; no names and no data."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Base of all problems: frozen dataclasses of sizes, strides, bits, counts.

    Attributes
    ----------
    batch : int
        1 where it is symbolic.
    """

    batch: int = 1

    @property
    def key(self) -> str:
        """One line of text, the same for equal problems, as block annotations and tuning records hold it."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
