"""Errors meant for the user: one message that says what is wrong, where, and what is allowed.

The command line prints the message alone and exits with code 2; library callers catch ``FastconvError``.
"""

_QUOTED = 400  # characters


def quoted(error: BaseException) -> str:
    """Return what is worth quoting of another library's message: the beginning of its first paragraph."""
    return str(error).strip().split("\n\n")[0][:_QUOTED] or type(error).__name__


class FastconvError(Exception):
    """Base of every error caused by what the caller handed over."""


class ModelError(FastconvError):
    """The model cannot be imported: unsupported operators, bad constants, bad example inputs."""


class TargetError(FastconvError):
    """The target is unknown or names a feature that does not exist."""


class MethodError(FastconvError):
    """A method or its parameters are unknown, or a layer pattern matches nothing."""


class ArtifactError(FastconvError):
    """A file is not a compiled model that this machine and this version can run."""


class TrainError(FastconvError):
    """A data set, a setting or a checkpoint of training cannot be used."""


class InputError(FastconvError):
    """An input to a compiled model has the wrong count, shape or dtype."""
