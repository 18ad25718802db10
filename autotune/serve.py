"""A server that measures for others: TVM's RPC server, which also says what device this is."""

from __future__ import annotations

import functools
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tvm_ffi
from tvm import rpc
from tvm.rpc import server

from .rpc_address import Description, tracker_key
from .rpc_models import TIME_MODELS, serve_models
from .rpc_trial import DESCRIBE, TIME, serve_times
from .worker import end_with_parent


@contextmanager
def serving(
    description: Description,
    key: str,
    secret: str,
    tracker: tuple[str, int],
    host: str = "127.0.0.1",
    port: int = 9090,
    announced: str | None = None,
    prepare: Callable[[str], None] | None = None,
) -> Iterator[int]:
    """Serve until the block ends; yields the port.

    Whoever is served can run any code: TVM's protocol has no other check than the key, of which ``secret`` is part, and
    nothing is encrypted. So ``host`` is this machine alone unless somebody decides otherwise.

    Parameters
    ----------
    key, secret : str
        By which the device is asked for.
    tracker : tuple of str and int
        Host and port.
    host, port : str, int
        To listen at; of the ports from ``port``, the first that is free.
    announced : str, optional
        The host by which others reach this device, if the tracker sees it by another.
    prepare : callable, optional
        In place of `announce`, which it calls, in the process of the server.
    """
    # The server is a process of its own, which has to find this module.
    os.environ["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    described = functools.partial(prepare or announce, description.to_json())
    process = rpc.Server(
        host, port, port + 100, key=tracker_key(key, secret), tracker_addr=tracker, custom_addr=announced,
        silent=True, server_init_callback=described,
    )  # fmt: skip
    try:
        yield int(process.port)
    finally:
        process.terminate()


def announce(description: str) -> None:
    """In the process of the server: tell and time for others, and outlive sessions that crash."""
    end_with_parent()
    serve_session, folder = server._serving, os.getcwd()

    def outlive(connection: socket.socket, *more: object) -> None:
        end_with_parent()  # this is a process of its own
        try:
            serve_session(connection, *more)
        except RuntimeError:  # which would end TVM's loop, and leave a process that listens to nobody
            os.chdir(folder)
            connection.close()

    server._serving = outlive
    tvm_ffi.register_global_func(DESCRIBE, lambda: description, override=True)
    tvm_ffi.register_global_func(TIME, serve_times, override=True)
    tvm_ffi.register_global_func(TIME_MODELS, serve_models, override=True)
