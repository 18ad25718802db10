"""What a user may ask of a layer: frozen, keyword-only configs, and which layers a pattern names."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

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
        1: the sign, and the mean magnitude under each window. More would need the range of the activations.
    """

    weight_bits: int = 1
    activation_bits: int = 1

    def __post_init__(self) -> None:
        _check_int("weight_bits", self.weight_bits, 1, 8)
        _check_int("activation_bits", self.activation_bits, 1, 1)


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


def _check_int(name: str, value: object, low: int, high: int | None) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < low
        or (high is not None and value > high)
    ):
        allowed = f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"
        raise MethodError(f"{name} is {value!r}; allowed: {allowed}")


def _instead(config: object) -> str:
    """What to write in place of what is no config."""
    for name, cls in METHODS.items():
        if config is cls or (isinstance(config, str) and config == name):
            return f"write fc.{cls.__name__}()"
    return "known are " + ", ".join(f"fc.{cls.__name__}()" for cls in METHODS.values())


def _check_share(name: str, value: object, allowed: str, holds: Callable[[float], bool]) -> None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int | float) or not holds(value)
    ):
        raise MethodError(f"{name} is {value!r}; allowed: {allowed}")


METHODS: dict[str, type] = {"dense": Dense, "bitserial": Bitserial, "lookup": Lookup}
"""Method name, as reports and method files spell it, to its config."""

Method = Dense | Bitserial | Lookup
Methods = Method | Mapping[str, Method]


def resolve_methods(methods: Methods | None, layers: Iterable[str]) -> dict[str, Method]:
    """Which config applies to which layer.

    Parameters
    ----------
    methods : config, or mapping from shell-style pattern over layer names to config
        One config applies to every layer. Later patterns may not contradict earlier ones.
    layers : iterable of str
        Names of the model's layers.

    Returns
    -------
    dict
        Layer name to config, for the layers that are named.

    Raises
    ------
    MethodError
        Something is no config, a pattern matches no layer, or two patterns give one layer different configs.
    """
    names = list(layers)
    if methods is None:
        return {}
    patterns = methods if isinstance(methods, Mapping) else {"*": methods}
    chosen: dict[str, tuple[str, Method]] = {}
    for pattern, config in patterns.items():
        if not isinstance(pattern, str):
            raise MethodError(
                f"{pattern!r} is no pattern over layer names: write it as a text, {str(pattern)!r}"
            )
        if type(config) not in METHODS.values():
            raise MethodError(f"{config!r} for layers {pattern!r} is not a method; {_instead(config)}")
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches and isinstance(methods, Mapping):
            raise MethodError(
                f"the pattern {pattern!r} matches no layer; the layers are {', '.join(names) or 'none'}"
            )
        for name in matches:
            other, known = chosen.setdefault(name, (pattern, config))
            if known != config:
                raise MethodError(
                    f"layer {name!r} is named by {other!r} as {known} and by {pattern!r} as {config}"
                )
    return {name: config for name, (_, config) in chosen.items()}
