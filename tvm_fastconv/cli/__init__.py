"""The command line ``fastconv``: parses and prints; every verb is a library function first, one file per verb.

Results go to stdout, progress and notices to stderr. What the user got wrong is one message and exit code 2. A verb
imports what it needs inside its function, so that ``fastconv report`` does not wait for a compiler.
"""

import io
import sys
import warnings
from collections.abc import Callable, Sequence

import typer

from tvm_fastconv.errors import FastconvError
from tvm_fastconv.extras import missing_package

from .bench import bench_verb
from .compile import compile_verb
from .demo import demo_verb
from .deploy import deploy_verb
from .eval import eval_verb
from .export import export_verb
from .output import print_error, print_warning
from .records import records_app
from .report import report_verb
from .run import run_verb
from .serve import serve_verb
from .signals import ending_tidily
from .targets import targets_verb
from .train import train_verb
from .tune import tune_verb

VERBS: dict[str, Callable[..., None]] = {
    "train": train_verb,
    "export": export_verb,
    "compile": compile_verb,
    "deploy": deploy_verb,
    "tune": tune_verb,
    "serve": serve_verb,
    "run": run_verb,
    "eval": eval_verb,
    "bench": bench_verb,
    "report": report_verb,
    "targets": targets_verb,
    "demo": demo_verb,
}

app = typer.Typer(
    help="Compile PyTorch CNNs to a .so that is fast and needs no PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _name, _verb in VERBS.items():
    app.command(_name)(_verb)
app.add_typer(records_app, name="records")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``fastconv`` on ``arguments``, by default those of the process."""
    warnings.showwarning = print_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        with ending_tidily():
            app(args=arguments if arguments is None else list(arguments), prog_name="fastconv")
    except FastconvError as error:
        print_error(f"error: {error}")
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (text := missing_package(error)) is None:
            raise
        print_error(f"error: {text}")
        sys.exit(2)
