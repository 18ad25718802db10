import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tvm_fastconv

BAD_MODELS = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()
    def forward(self, x):
        return self.block(x)

class Block(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(torch.linalg.qr(x)[0])

def odd():
    return Odd()

def empty():
    return nn.Sequential()

def volume():
    return nn.Conv3d(1, 4, 3)

def plane():
    return nn.Conv2d(1, 4, 3)

def poisoned():
    model = nn.Sequential(nn.Conv2d(1, 4, 3))
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("nan")
    return model

def fails():
    raise RuntimeError("no weights today")

def number():
    return 3
"""


def test_compile_writes_the_file_and_says_what_it_is(
    fastconv: Callable, network: Path, tmp_path: Path
) -> None:
    done = fastconv("compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / "m.so", "--json")
    assert done.code == 0
    facts = json.loads(done.out)
    assert facts["bytes"] == (tmp_path / "m.so").stat().st_size
    assert facts["layers"] == 2
    assert facts["verify"].startswith("verified against PyTorch")
    assert tvm_fastconv.load(tmp_path / "m.so").manifest.inputs[0].shape == (1, 1, 8, 8)
    assert os.listdir(tmp_path) == ["m.so"]


def test_progress_goes_to_stderr(fastconv: Callable, network: Path, tmp_path: Path) -> None:
    done = fastconv(
        "compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / "m.so", "--no-verify"
    )
    assert "generating code ..." in done.err
    assert "..." not in done.out
    assert "not asked for" in done.out


def test_methods_and_dumps(fastconv: Callable, network: Path, tmp_path: Path) -> None:
    (tmp_path / "methods.toml").write_text('"0" = "dense"\n"3" = { method = "dense" }\n')
    done = fastconv(
        "compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / "m.so",
        "--methods", tmp_path / "methods.toml", "--dump-ir", tmp_path / "ir",
    )  # fmt: skip
    assert done.code == 0
    assert list((tmp_path / "ir").iterdir())


@pytest.mark.parametrize(
    ("factory", "shape", "message"),
    [
        ("empty", "1x1x8x8", "operator|computes|empty"),
        ("odd", "1x1x8x8", "block"),
        ("volume", "1x1x8x8x8", "conv3d"),
        ("plane", "1x1x8x8x8", "[1, 1, 8, 8, 8]"),
        ("plane", "1x0x8x8", "'1x0x8x8' is not a shape"),
        ("poisoned", "1x1x8x8", "NaN|nan|finite"),
        ("fails", "1x1x8x8", "no weights today"),
        ("number", "1x1x8x8", "returned a int"),
        ("missing", "1x1x8x8", "it defines: "),
    ],
)
def test_bad_models(factory: str, shape: str, message: str, fastconv: Callable, tmp_path: Path) -> None:
    source = tmp_path / "bad.py"
    source.write_text(BAD_MODELS)
    done = fastconv("compile", f"{source}:{factory}", "--shape", shape, "-o", tmp_path / "m.so")
    _assert_one_message(done, message)
    assert not (tmp_path / "m.so").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.pt2", "does not exist"),
        ("text.pt2", "cannot be read as an exported program"),
        ("text.onnx", "text.onnx"),
        ("text.pt", "pickle"),
        ("text", "names no model"),
        (".", "names no model"),
    ],
)
def test_wrong_files(name: str, message: str, fastconv: Callable, tmp_path: Path) -> None:
    (tmp_path / name).is_dir() or name.startswith("missing") or (tmp_path / name).write_text("hello")
    _assert_one_message(fastconv("compile", tmp_path / name, "-o", tmp_path / "m.so"), message)
    assert not (tmp_path / "m.so").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--target", "vax"], "unknown target 'vax'"),
        (["--target", "x86_64-linux-gnu -mcpu=znver99"], "did you mean znver"),
        (["--shape", "8by8"], "not a shape"),
        (["--methods", "absent.toml"], "cannot read absent.toml"),
        (["--dump-ir", "/dev/null"], "cannot write the graph to /dev/null"),
        (["--dump-ir", "/proc"], "cannot write the graph to /proc/00_"),
        (["--dump-ir", "a\0b"], "null byte"),
    ],
)
def test_wrong_options(
    option: list[str], message: str, fastconv: Callable, network: Path, tmp_path: Path
) -> None:
    done = fastconv("compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / "m.so", *option)
    _assert_one_message(done, message)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"*" = "magic"', "unknown method 'magic'; known: dense"),
        ('"*" = { method = "dense", speed = 2 }', "speed"),
        ('"*" = 3', "neither a method's name nor a table"),
        ('"no.such.layer" = "dense"', "matches no layer"),
        ("hello", "is not TOML"),
    ],
)
def test_wrong_methods(text: str, message: str, fastconv: Callable, network: Path, tmp_path: Path) -> None:
    (tmp_path / "methods.toml").write_text(text)
    done = fastconv(
        "compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / "m.so",
        "--methods", tmp_path / "methods.toml",
    )  # fmt: skip
    _assert_one_message(done, message)
    assert os.listdir(tmp_path) == ["methods.toml"]


@pytest.mark.parametrize(("output", "message"), [("", "is a folder"), ("no/m.so", "cannot write")])
def test_wrong_outputs(output: str, message: str, fastconv: Callable, network: Path, tmp_path: Path) -> None:
    done = fastconv("compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / output)
    _assert_one_message(done, message)
    assert not os.listdir(tmp_path)


def _assert_one_message(done: tuple[int, str, str], message: str) -> None:
    code, out, err = done
    errors = [
        line for line in err.splitlines() if not line.endswith(" ...") and not line.startswith("note: ")
    ]
    assert (code, out) == (2, "")
    assert len([line for line in errors if line.startswith("error: ")]) == 1, err
    assert "Traceback" not in err
    assert any(part in "\n".join(errors) for part in message.split("|")), err


def test_the_model_is_not_written_over(fastconv: Callable, network: Path, tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Conv2d(1, 4, 3).eval(), (torch.zeros(1, 1, 8, 8),))
    torch.export.save(program, tmp_path / "m.pt2")
    before = (tmp_path / "m.pt2").read_bytes()
    done = fastconv("compile", tmp_path / "m.pt2", "-o", tmp_path / "m.pt2")
    assert done.code == 2
    assert "is the model itself" in done.err
    assert (tmp_path / "m.pt2").read_bytes() == before


def test_a_c_library_is_a_folder_of_files(fastconv: Callable, network: Path, tmp_path: Path) -> None:
    named = ["--emit", "c-library", "--name", "small", "--separate-weights"]
    done = fastconv(
        "compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / "lib", *named, "--json"
    )
    assert done.code == 0
    facts = json.loads(done.out)
    files = ["small.h", "libsmall.a", "libsmall.so", "small.weights"]
    assert [Path(facts[key]).name for key in ("file", "file 1", "file 2", "file 3")] == files
    assert sorted(os.listdir(tmp_path / "lib")) == sorted(files)
    assert facts["bytes"] == sum((tmp_path / "lib" / file).stat().st_size for file in files)
    assert facts["verify"].startswith("verified against PyTorch")


def test_the_c_compiler_can_be_named(fastconv: Callable, network: Path, tmp_path: Path) -> None:
    done = fastconv(
        "compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / "m.so", "--cc", "no-such-cc"
    )
    assert (done.code, os.listdir(tmp_path)) == (2, [])
    assert "C compiler 'no-such-cc' for" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "net"], "are of --emit c-library"),
        (["--separate-weights"], "are of --emit c-library"),
        (["--emit", "c-library", "--keep-cuda", "x"], "--keep-cuda is not of --emit c-library"),
        (["--emit", "c-library", "--allow-tf32"], "--allow-tf32 is not of --emit c-library"),
        (["--allow-tf32"], "the target is a CPU, which has no TF32; allowed: GPUs from sm_80 on"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    fastconv: Callable, network: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    done = fastconv("compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / "out", *options)
    assert (done.code, os.listdir(tmp_path)) == (2, [])
    assert message in " ".join(done.err.split())
