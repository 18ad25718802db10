"""Whole models on a device behind a tracker, in turns: sent there and timed there; runs in a worker process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tvm_ffi

from tvm_fastconv.runtime.compiled_model import load

from .model_times import ModelTimes, time_models
from .rpc_address import Address
from .rpc_trial import asking, open_session, parse_times

TIME_MODELS = "fastconv.time_models"
"""The function of a server of ours that times whole models."""


def time_models_on_device(
    paths: Sequence[Path],
    inputs: Sequence[np.ndarray],
    threads: int,
    address: Address,
    turns: int,
    seconds: float,
) -> list[ModelTimes]:
    """What compiled models take, in turns.

    Raises
    ------
    DeviceError
        The device does not answer within ``seconds``.
    """
    session = open_session(address, seconds)

    def time() -> list[ModelTimes]:
        import tvm

        for path in paths:
            session.upload(str(path))
        names = [path.name for path in paths]
        arrays = [tvm.runtime.tensor(array, session.cpu(0)) for array in inputs]
        told = session.get_function(TIME_MODELS)(turns, threads, len(names), *names, *arrays)
        for name in names:
            session.remove(name)
        return _parse(str(told), len(names), turns)

    return asking(time)


def serve_models(turns: int, threads: int, count: int, *parts: Any) -> str:
    """In a server: what ``count`` models take, as JSON; ``parts`` are the names of files, and inputs."""
    place = tvm_ffi.get_global_func("tvm.rpc.server.workpath")
    models = [load(place(name), threads=threads) for name in parts[:count]]
    inputs = [array.numpy() for array in parts[count:]]
    return json.dumps([asdict(times) for times in time_models(models, inputs, turns)])


def _parse(text: str, models: int, turns: int) -> list[ModelTimes]:
    """What `serve_models` has told; a ``ValueError`` if it is something else."""
    found = json.loads(text)
    if not isinstance(found, list) or len(found) != models:
        raise ValueError("it has told no times")
    for each in found:
        lists = [each["whole"], *each["layers"].values()]
        parse_times(json.dumps(lists), len(lists), turns)
    return [ModelTimes(each["whole"], each["layers"]) for each in found]
