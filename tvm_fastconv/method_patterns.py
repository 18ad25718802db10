"""Which layers of a model a user's method applies to."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from .configs import METHODS, Method
from .errors import MethodError

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


def _instead(config: object) -> str:
    """What to write in place of what is no config."""
    for name, cls in METHODS.items():
        if config is cls or (isinstance(config, str) and config == name):
            return f"write fc.{cls.__name__}()"
    return "known are " + ", ".join(f"fc.{cls.__name__}" for cls in METHODS.values())
