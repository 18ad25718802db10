"""``fastconv serve``: let others tune on this machine."""

import socket
import time
from typing import Annotated

import typer

from tvm_fastconv.extras import require
from tvm_fastconv.notices import notify

from .arguments import Secret, parse_address, read_secret
from .output import print_facts, progress

TRACKER_SECONDS = 5.0
"""To answer, or a notice says that none does."""


def serve_verb(
    tracker: Annotated[str, typer.Option(help="HOST:PORT of python -m tvm.exec.rpc_tracker.")],
    key: Annotated[str, typer.Option(help="What devices of this kind are called, such as rpi4.")],
    host: Annotated[
        str, typer.Option(help="Where to listen; by default for this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65000, help="The first port to try.")] = 9091,
    announce: Annotated[
        str | None, typer.Option(help="The host by which the tuner reaches this machine.")
    ] = None,
    secret_file: Secret = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure this machine's row first, which takes a C compiler.")
    ] = False,
) -> None:
    """Serve a tracker's tuners until interrupted.

    Whoever knows the key and the secret can run anything here, and nothing is encrypted: listen on a network that you
    trust, or through a tunnel.
    """
    require("tornado", "cloudpickle", "psutil")
    address, secret = parse_address(tracker), read_secret(secret_file)
    with progress("looking at this machine"):
        from tvm_fastconv.autotune.rpc_address import Description
        from tvm_fastconv.autotune.serve import serving
        from tvm_fastconv.machine_files import target_and_machine
        from tvm_fastconv.measure.machine_row import measure_machine
        from tvm_fastconv.measure.roofline import measure_clock
        from tvm_fastconv.runtime.cpu import processor_name
        from tvm_fastconv.targets import spec_of

        target, row = target_and_machine("native")
        row = measure_machine() if measure else row
        description = Description(spec_of(target), row, processor_name(), measure_clock())
    try:
        socket.create_connection(address, timeout=TRACKER_SECONDS).close()
    except OSError as error:
        notify(f"no tracker answers at {tracker} yet: {error}; this waits for one")
    with serving(description, key, secret, address, host, port, announce) as bound:
        print_facts(
            {
                "key": key,
                "address": f"{host}:{bound}",
                "tracker": tracker,
                "processor": description.processor,
                "machine": row.name,
            }
        )
        while True:
            time.sleep(3600)
