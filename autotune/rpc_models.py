"""Whole models on a device behind a tracker, in turns: sent there and timed there; runs in a worker process."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm_ffi

from tvm_fastconv.measure.timing import interleave
from tvm_fastconv.runtime.compiled_model import load

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
) -> list[list[float]]:
    """Seconds of a call of each compiled model, by turns.

    Raises
    ------
    DeviceError
        The device does not answer within ``seconds``.
    """
    session = open_session(address, seconds)

    def time() -> list[list[float]]:
        import tvm

        for path in paths:
            session.upload(str(path))
        names = [path.name for path in paths]
        arrays = [tvm.runtime.tensor(array, session.cpu(0)) for array in inputs]
        told = session.get_function(TIME_MODELS)(turns, threads, len(names), *names, *arrays)
        for name in names:
            session.remove(name)
        return parse_times(str(told), len(names), turns)

    return asking(time)


def serve_models(turns: int, threads: int, count: int, *parts: Any) -> str:
    """In a server: seconds of ``count`` models by turns, as JSON; ``parts`` are the names of files, and inputs."""
    place = tvm_ffi.get_global_func("tvm.rpc.server.workpath")
    models = [load(place(name), threads=threads) for name in parts[:count]]
    inputs = [array.numpy() for array in parts[count:]]
    calls = {str(i): functools.partial(model, *inputs) for i, model in enumerate(models)}
    return json.dumps([timing.samples for timing in interleave(calls, turns).values()])
