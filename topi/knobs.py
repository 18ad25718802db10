"""Knob sets: what may be chosen about an operator without changing what it computes."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from tvm_fastconv.typed_json import one_line

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class KnobSet(ABC):
    """Base of all knob sets: frozen dataclasses of positive integers, one class for each template.

    Their ``machine`` is a row of the kind of target that the template is for.

    Raises
    ------
    ValueError
        A knob is no positive integer.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ValueError(f"knob {field.name} is {value!r}; allowed: integers from 1")

    @classmethod
    @abstractmethod
    def space(cls, problem: Any, machine: Any) -> Iterator["Self"]:
        """Every legal value for ``problem``, as its operator's entry in `operators` names it."""

    @classmethod
    @abstractmethod
    def default(cls, problem: Any, machine: Any) -> "Self | None":
        """The value with the least estimated cycles; ``None`` where there is none."""

    @abstractmethod
    def cycles(self, problem: Any, machine: Any) -> float:
        """Estimated cycles of one core for the whole of ``problem``."""

    def to_json(self) -> str:
        """One line, as block annotations and tuning records hold it."""
        return one_line(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Self":
        """Inverse of `to_json`.

        Raises
        ------
        ValueError
            The text holds other knobs, or other values than positive integers.
        """
        found, known = json.loads(text), {field.name for field in fields(cls)}
        if not isinstance(found, dict) or set(found) != known:
            raise ValueError(f"{text} does not hold the knobs {', '.join(sorted(known))}")
        return cls(**found)
