"""Write the module to a folder: between other passes, it shows what each of them did."""

from pathlib import Path

import tvm
import tvm_ffi

from tvm_fastconv.errors import FastconvError

tvm_ffi.register_error(FastconvError)  # or TVM would hand it on as a RuntimeError


@tvm.transform.module_pass(opt_level=0, name="DumpIR")
class DumpIR:
    """Write the module's script to ``folder/NN_name.py``; weights are left out.

    Parameters
    ----------
    folder : Path
    number : int
        Position in the pipeline.
    name : str
        The pass that ran before.
    """

    def __init__(self, folder: Path, number: int, name: str) -> None:
        self.path = folder / f"{number:02d}_{name}.py"

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        """Write ``mod`` and return it as it is."""
        try:
            self.path.write_text(mod.script())
        except OSError as error:
            raise FastconvError(f"cannot write the graph to {self.path}: {error.strerror}") from None
        return mod


def with_dumps(passes: list[tvm.transform.Pass], folder: Path, first: int = 0) -> list[tvm.transform.Pass]:
    """``passes`` with a `DumpIR` behind each of them, numbered from ``first``; ``FastconvError`` without a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # a ValueError is about the name
        raise FastconvError(f"cannot write the graph to {folder}: {error}") from None
    both: list[tvm.transform.Pass] = []
    for number, step in enumerate(passes, first):
        both += [step, DumpIR(folder, number, step.info.name.rpartition(".")[2])]
    return both
