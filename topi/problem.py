"""Problems: what an operator is asked for, as far as time and knobs depend on it; no names and no data."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tvm_fastconv.typed_json import from_json, one_line

if TYPE_CHECKING:
    from typing_extensions import Self


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
        return one_line(asdict(self))

    @classmethod
    def from_key(cls, key: str) -> "Self":
        """Inverse of `key`.

        Raises
        ------
        ValueError
            The text is no key of such a problem.
        """
        return from_json(cls, json.loads(key), "problem")
