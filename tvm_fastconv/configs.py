"""What a user may ask of a layer: frozen, keyword-only configs. Which layers they apply to says `method_patterns`."""

from collections.abc import Callable
from dataclasses import dataclass

from .errors import MethodError


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Run the layer as a dense convolution, whatever structure its weights have."""


@dataclass(frozen=True, kw_only=True)
class Bitserial:
    """Run the layer on packed bits; a layer with more levels is approximated as in XNOR-Net (arXiv:1603.05279).

    Attributes
    ----------
    weight_bits : int
        1 to 8, with one scale per filter.
    activation_bits : int
        1 to 8. `compile` takes 1 alone: the sign, and the mean magnitude under each window. More need the range of the
        activations, which `compress_` reads off its calibration.
    """

    weight_bits: int = 1
    activation_bits: int = 1

    def __post_init__(self) -> None:
        _check_int("weight_bits", self.weight_bits, 1, 8)
        _check_int("activation_bits", self.activation_bits, 1, 8)


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """Run the layer as lookups into a dictionary (Bagherinezhad et al., LCNN, arXiv:1611.06473).

    With nothing set, a layer runs as lookups if its weights have that structure. With a dictionary size and one of
    the others, its weights are approximated first.

    Attributes
    ----------
    dictionary_size : int, optional
        Vectors that all filters and taps share, in each group of channels.
    density : float, optional
        Largest share of nonzeros among the coefficients, above 0 and at most 1.
    error : float, optional
        Largest relative error of the weights (Frobenius norm), above 0 and below 1.
    """

    dictionary_size: int | None = None
    density: float | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        set_fields = [name for name in ("density", "error") if getattr(self, name) is not None]
        if self.dictionary_size is None and set_fields:
            raise MethodError(f"dictionary_size is None with {set_fields[0]} set; allowed: 1 or more")
        if self.dictionary_size is None:
            return
        _check_int("dictionary_size", self.dictionary_size, 1, None)
        if len(set_fields) != 1:
            raise MethodError(
                f"density is {self.density} and error is {self.error}; allowed with a dictionary_size: one of them"
            )
        _check_share("density", self.density, "above 0, at most 1", lambda share: 0 < share <= 1)
        _check_share("error", self.error, "above 0, below 1", lambda share: 0 < share < 1)


@dataclass(frozen=True, kw_only=True)
class CP:
    """Replace the layer by 1×1, depthwise k×1, depthwise 1×k, 1×1 (Lebedev et al., arXiv:1412.6553).

    Attributes
    ----------
    rank : int, optional
        Channels between the four. At full rank, where more would change nothing, it is capped.
    ratio : float, optional
        Largest share of the layer's parameters that the four have, above 0 and at most 1.
    error : float, optional
        Largest relative error of the weights (Frobenius norm), above 0 and below 1.
    """

    rank: int | None = None
    ratio: float | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        _check_one(self, ("rank", "ratio", "error"))
        if self.rank is not None:
            _check_int("rank", self.rank, 1, None)
        _check_share("ratio", self.ratio, "above 0, at most 1", lambda share: 0 < share <= 1)
        _check_share("error", self.error, "above 0, below 1", lambda share: 0 < share < 1)


@dataclass(frozen=True, kw_only=True)
class Tucker:
    """Replace the layer by 1×1, k×k between fewer channels, 1×1 (Kim et al., arXiv:1511.06530).

    Attributes
    ----------
    ranks : tuple of two int, optional
        Input and output channels of the convolution in the middle, capped where more would change nothing.
    error : float, optional
        Largest relative error of the weights (Frobenius norm), above 0 and below 1.
    """

    ranks: tuple[int, int] | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        _check_one(self, ("ranks", "error"))
        if self.ranks is not None:
            if not isinstance(self.ranks, tuple) or len(self.ranks) != 2:
                raise MethodError(
                    f"ranks is {self.ranks!r}; allowed: a pair, (input channels, output channels)"
                )
            for place, rank in enumerate(self.ranks):
                _check_int(f"ranks[{place}]", rank, 1, None)
        _check_share("error", self.error, "above 0, below 1", lambda share: 0 < share < 1)


@dataclass(frozen=True, kw_only=True)
class SpatialSeparable:
    """Replace the layer by k×1, then 1×k (Jaderberg et al., arXiv:1405.3866). With nothing set, ``rank`` is 1.

    Attributes
    ----------
    rank : int, optional
        Channels between the two, in multiples of the output channels and capped at full rank.
    error : float, optional
        Largest relative error of the weights (Frobenius norm), above 0 and below 1.
    """

    rank: int | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        if self.rank is None and self.error is None:
            object.__setattr__(self, "rank", 1)
        _check_one(self, ("rank", "error"))
        if self.rank is not None:
            _check_int("rank", self.rank, 1, None)
        _check_share("error", self.error, "above 0, below 1", lambda share: 0 < share < 1)


@dataclass(frozen=True, kw_only=True)
class DepthwiseSeparable:
    """Replace the layer by a depthwise convolution and a 1×1 one (Guo et al., arXiv:1808.05517).

    Attributes
    ----------
    multiplier : int
        Kernels for each input channel, capped where more would change nothing.
    """

    multiplier: int = 1

    def __post_init__(self) -> None:
        _check_int("multiplier", self.multiplier, 1, None)


@dataclass(frozen=True, kw_only=True)
class FixedStencil:
    """Replace the layer, 3×3, by five fixed stencils on each input channel and a 1×1 convolution."""


def _check_one(config: object, names: tuple[str, ...]) -> None:
    if sum(getattr(config, name) is not None for name in names) != 1:
        values = [f"{name} is {getattr(config, name)!r}" for name in names]
        raise MethodError(f"{', '.join(values[:-1])} and {values[-1]}; allowed: one of them, the others None")


def _check_int(name: str, value: object, low: int, high: int | None) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < low
        or (high is not None and value > high)
    ):
        allowed = f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"
        raise MethodError(f"{name} is {value!r}; allowed: {allowed}")


def _check_share(name: str, value: object, allowed: str, holds: Callable[[float], bool]) -> None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int | float) or not holds(value)
    ):
        raise MethodError(f"{name} is {value!r}; allowed: {allowed}")


Method = Dense | Bitserial | Lookup | CP | Tucker | SpatialSeparable | DepthwiseSeparable | FixedStencil

METHODS: dict[str, type] = {
    "dense": Dense,
    "bitserial": Bitserial,
    "lookup": Lookup,
    "cp": CP,
    "tucker": Tucker,
    "spatial": SpatialSeparable,
    "separable": DepthwiseSeparable,
    "fixed": FixedStencil,
}
"""Method name, as reports and method files spell it, to its config."""
