"""Checkpoints: one file of tensors and plain data, whole or not there, from which training goes on to the same end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from tvm_fastconv.errors import TrainError, quoted
from tvm_fastconv.regular_files import open_regular

from ..models import make_model
from ..structure import restructure_
from .settings import Settings

FORMAT = "tvm-fastconv training 1"

_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, KeyError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What PyTorch raises on files that are damaged, or hold anything but tensors and plain data."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a training stands.

    Attributes
    ----------
    data : str
        Name of the data set.
    network : dict
        Arguments of `make_model` but for the methods: ``name``, ``classes``, ``channels``, ``size`` and options. Empty
        where the network was made by the caller.
    structure : dict
        See `structure_of`.
    state : dict
        Of the network as it is tested and exported: the average over steps, if there is one.
    settings : dict
        See `Settings.as_dict`.
    training : dict
        What going on takes: the network's own state, the optimizer's, and the position.
    history : list of dict
        One row of metrics for each epoch.
    """

    data: str
    network: dict[str, Any]
    structure: dict[str, dict[str, Any]]
    state: dict[str, torch.Tensor]
    settings: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    def model(self) -> nn.Module:
        """The network, in eval mode.

        Raises
        ------
        TrainError
            The checkpoint does not say which network it is of, or holds another's state.
        """
        if not self.network:
            raise TrainError(
                "the checkpoint is of a network that its maker built; build it and load the state into it"
            )
        try:
            model = make_model(**self.network)
        except TypeError as error:
            raise TrainError(f"the checkpoint names no network: {error}") from None
        restructure_(model, self.structure)
        self.load_into(model)  # in float32, whatever it was trained in
        return model.eval()

    def load_into(self, model: nn.Module) -> None:
        """Give ``model`` the state.

        Raises
        ------
        TrainError
            It is another network.
        """
        try:
            model.load_state_dict(self.state)
        except RuntimeError as error:
            raise TrainError(
                f"the checkpoint is of another network: {str(error).splitlines()[-1].strip()}"
            ) from None

    def parsed_settings(self) -> Settings:
        """The settings."""
        return Settings.from_dict(self.settings)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write ``checkpoint`` to ``path``: a reader sees the file that was there before, or all of the new one.

    Raises
    ------
    TrainError
        It cannot be written.
    """
    fields = {name.name: getattr(checkpoint, name.name) for name in dataclasses.fields(checkpoint)}
    part = path.with_name(f".{path.name}.part")  # one name: what a kill left is written over
    try:
        with open(part, "wb") as file:
            torch.save({"format": FORMAT, **fields}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise TrainError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _check_sums(file: IO[bytes]) -> None:
    """PyTorch writes sums of what it stores, and does not look at them when it reads."""
    with zipfile.ZipFile(file) as parts:
        damaged = parts.testzip()
    if damaged:
        raise zipfile.BadZipFile(f"{damaged} is not what was written")
    file.seek(0)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read ``path``; nothing in it is run.

    Raises
    ------
    TrainError
        It is not there, is damaged, or is no checkpoint of ours.
    """
    try:
        file = open_regular(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise TrainError(f"checkpoint {os.fspath(path)} cannot be read: {why}") from None
    try:
        with file:
            _check_sums(file)
            found = torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        # PyTorch's own words on code in a pickle advise to run it.
        code = isinstance(error, pickle.UnpicklingError)
        why = "it holds more than tensors and plain data, which is not read" if code else quoted(error)
        raise TrainError(
            f"{os.fspath(path)} is no checkpoint of fastconv train, or is damaged: {why}"
        ) from None
    names = {each.name for each in dataclasses.fields(Checkpoint)}
    if not isinstance(found, dict) or found.get("format") != FORMAT or not names <= found.keys():
        raise TrainError(f"{os.fspath(path)} is no checkpoint of fastconv train")
    return Checkpoint(**{name: found[name] for name in names})
