"""Random command lines of ``fastconv``: a sensible one first, then what a hurried or a hostile hand makes of it."""

import random
from collections.abc import Callable

from .command_files import BASE

ODD = [
    "", "-", "--", "-o", "--help", "--json", "missing", "text", "empty", "folder", ".", "..", "/proc", "/proc/self/mem",
    "fifo", "/dev/zero", "/dev/full", "missing/m.so",
    "text/m.so", "x" * 300, "a\0b.so", "\udcff.so", "\udcff", "[red]m.so", "m\n.so", "\x1b[2J.so",
    "größe.so", "0", "-1", "1e3", "nan", "99999999999999999999", "9" * 5000, "²", "None", "*", "$HOME", "~", "%s{}",
]  # fmt: skip
"""Words that fit nowhere, and some that do; none names a folder that may be written to, but the case's own."""

FACTORIES = [
    *["small"] * 8, "binary", "two", "quits", "stops", "fails", "exits_later", "volume", "branches", "sorts",
    "fourier", "text", "number", "missing", "small.x", "", "os.path", "nn.ReLU", "Odd",
]  # fmt: skip
_SOURCES = [
    "model.pt2", "model.pt2", "model.onnx", "model.onnx", "net:small", "torch.nn:Identity", "no.module:f", "text",
    "model.so", "empty:f", "folder", "x.npy",
]  # fmt: skip
_SHAPES = [
    *["1x1x8x8"] * 20, "2x1x8x8", "1x1x8", "1x1x8x8x8", "1x2x8x8", "1x1x999999999999x8", "1x1x80000x80000", "0x1x8x8",
    "-1x1x8x8", "8by8", "1X1X8X8", "x", "1x1x8x8x", " 1x1x8x8", "1x1x8x²", "x".join("1" * 70), "9" * 5000,
]  # fmt: skip
_X86 = "x86_64-linux-gnu"
_TARGETS = [
    *["native"] * 8, *[_X86] * 8, f"{_X86} -mcpu=haswell", f"{_X86} -mcpu=znver99", f"{_X86} -mattr=+avx2",
    f"{_X86} -mattr=avx2,,", f"{_X86} -num-cores=99999999999999999999", f"{_X86} -num-cores=0", "aarch64-linux-gnu",
    "riscv64-linux-gnu", "x86_64-windows-msvc", "x86_64", "-mcpu=haswell", "native -mcpu=haswell -mcpu=skylake",
    "aws/cpu/c5.large", "llvm", "cuda", '{"kind": "llvm"}', " ", "native -O3", f"{_X86} -mcpu={'a' * 5000}",
    "linux-x86_64",
]  # fmt: skip
_THREADS = [*["1", "2"] * 4, "0", "-1", "64", "1024", "1025", "99999999999", "1.5", "x", "1_0"]
_RIVALS = ["", "torch", "torch,torch", "magic", ",", "onnxruntime", " torch "]


def line(rng: random.Random, files: list[str]) -> list[str]:
    """Return a command line; ``files`` are the names of the files that were made for it."""
    verb = rng.choices(list(_VERBS), [8, 6, 2, 2, 3, 2, 1, 1, 1, 2, 1, 1, 2])[0]
    words = [verb, *_VERBS[verb](rng, files)]
    if verb not in ("demo", "tune", "serve", "train"):  # what is right there takes a minute, or for ever
        for _ in range(rng.choice([0] * 7 + [1, 1, 2])):
            _spoil(rng, words, files)
    return words


def _spoil(rng: random.Random, words: list[str], files: list[str]) -> None:
    place = rng.randrange(len(words))
    how = rng.randrange(5)
    if how == 0 and len(words) > 1:
        del words[place]
    elif how == 1:
        words.insert(place + 1, rng.choice(words))
    elif how == 2:
        words[place] = rng.choice([*ODD, *BASE, *files])
    elif how == 3:
        words.insert(place + 1, rng.choice([*ODD, *BASE, *files]))
    else:
        other = rng.randrange(len(words))
        words[place], words[other] = words[other], words[place]


def _maybe(rng: random.Random, share: float, option: str, *values: str) -> list[str]:
    if rng.random() >= share:
        return []
    return [option, rng.choice(values)] if values else [option]


def _file(rng: random.Random, files: list[str], suffix: str, usual: str) -> str:
    """Return the name of a file of a kind: the usual one, one made for this line, or any other."""
    made = [name for name in files if name.endswith(suffix)]
    return rng.choice([*[usual] * 4, *(made * 3 or [usual] * 3), rng.choice([*ODD, *BASE, *files])])


def _output(rng: random.Random, suffix: str) -> str:
    return rng.choice([*[f"out{suffix}"] * 5, "folder/out" + suffix, rng.choice(ODD)])


def _model(rng: random.Random, files: list[str]) -> str:
    made = [name for name in files if name.endswith((".pt2", ".onnx"))]
    usual = f"net.py:{rng.choice(FACTORIES)}"
    return rng.choice([usual, usual, rng.choice(made or [usual]), rng.choice(_SOURCES)])


def _compile(rng: random.Random, files: list[str]) -> list[str]:
    model = _model(rng, files)
    shapes = 1 if ":" in model and rng.random() < 0.9 else rng.choice([0, 0, 1, 2])
    return [
        model,
        *(word for _ in range(shapes) for word in ("--shape", rng.choice(_SHAPES))),
        "-o", _output(rng, ".so"),
        *_maybe(rng, 0.3, "--target", *_TARGETS),
        *(["--target", _file(rng, files, ".json", "row.json")] if rng.random() < 0.15 else []),
        *(["--machine", _file(rng, files, ".json", "row.json")] if rng.random() < 0.15 else []),
        *(["--methods", _file(rng, files, ".toml", "methods.toml")] if rng.random() < 0.3 else []),
        *(["--records", rng.choice([*BASE, *files, *ODD])] if rng.random() < 0.1 else []),
        *(["--emit", rng.choice(["c-library", "library", "c"])] if rng.random() < 0.2 else []),
        *_maybe(rng, 0.7, "--no-verify"),
        *_maybe(rng, 0.05, "--dump-ir", "ir", "folder", "text", "\udcff", "a\0b", "text/ir"),
        *_maybe(rng, 0.3, "--json"),
    ]  # fmt: skip


def _deploy(rng: random.Random, files: list[str]) -> list[str]:
    model = _model(rng, files)
    return [
        model, *(["--shape", rng.choice(_SHAPES)] if ":" in model else []),
        "-o", rng.choice(["kit", "kit", "missing/kit", "folder", rng.choice(ODD)]),
        *_maybe(rng, 0.5, "--name", "net", "net", "int", "2", "", "\udcff"),
        *_maybe(rng, 0.2, "--target", *_TARGETS),
        *(["--methods", _file(rng, files, ".toml", "methods.toml")] if rng.random() < 0.2 else []),
        *_maybe(rng, 0.1, "--cc", "cc", "false", "missing", ""), *_maybe(rng, 0.2, "--tvm-runtime"),
        *_maybe(rng, 0.3, "--json"),
    ]  # fmt: skip


def _run(rng: random.Random, files: list[str]) -> list[str]:
    model = _file(rng, files, ".so", "model.so")
    if rng.random() < 0.2:
        return [model, "--check", *_maybe(rng, 0.5, "--threads", *_THREADS), *_maybe(rng, 0.3, "--json")]
    suffix = rng.choice([".npy", ".npy", ".npz"])
    inputs = [_file(rng, files, suffix, f"x{suffix}") for _ in range(rng.choice([1, 1, 1, 2]))]
    output = _output(rng, rng.choice([".npy", ".npz", ".txt"]))
    return [
        model, *(word for name in inputs for word in ("-i", name)), "-o", output,
        *_maybe(rng, 0.2, "--threads", *_THREADS), *_maybe(rng, 0.3, "--json"),
    ]  # fmt: skip


def _eval(rng: random.Random, files: list[str]) -> list[str]:
    data = ["--data", rng.choice(["digits", rng.choice(["imagenet", *ODD])])]
    return [_file(rng, files, ".so", "model.so"), *data, *_maybe(rng, 0.3, "--threads", *_THREADS)]


def _bench(rng: random.Random, files: list[str]) -> list[str]:
    return [
        _file(rng, files, ".so", "model.so"), *_maybe(rng, 0.5, "--against", *_RIVALS),
        *(["--source", _model(rng, files)] if rng.random() < 0.5 else []),
        *_maybe(rng, 0.3, "--threads", *_THREADS), "--repeats", rng.choice(["1", "1", "1", "2", "0", "x"]),
    ]  # fmt: skip


def _report(rng: random.Random, files: list[str]) -> list[str]:
    return [
        _file(rng, files, ".so", "model.so"), *_maybe(rng, 0.3, "--profile"), *_maybe(rng, 0.3, "--json"),
        *(["--trace", _output(rng, ".json")] if rng.random() < 0.3 else []), *_maybe(rng, 0.2, "--threads", *_THREADS),
    ]  # fmt: skip


def _targets(rng: random.Random, files: list[str]) -> list[str]:
    target = rng.choice([rng.choice(_TARGETS), _file(rng, files, ".json", "row.json")])
    return [target, *_maybe(rng, 0.3, "--json"), *_maybe(rng, 0.1, "-o", "out.json", "text")]


def _demo(rng: random.Random, files: list[str]) -> list[str]:
    return ["-o", rng.choice(["folder", "missing/m.so", "x" * 300, "a\0b"])]


def _tune(rng: random.Random, files: list[str]) -> list[str]:
    """What ends before anything is measured: no file can be written there, or no such device asked."""
    wrong = [
        ["--records", rng.choice(["folder", "missing/r.jsonl", "a\0b", "/dev/full/r", "fifo"])],
        [
            "--records",
            "r.jsonl",
            "--rpc",
            rng.choice(["nowhere", "127.0.0.1:1", ":9", "h:99999999999", *ODD]),
        ],
        ["--records", "r.jsonl", "--rpc", rng.choice(["nowhere", "127.0.0.1:1", "\udcff:1"]), "--key", "box"],
        ["--records", "r.jsonl", "--trials", rng.choice(["0", "-1", "x", "1.5"])],
        ["--records", "r.jsonl", "--threads", rng.choice(["0", "-1", "1025", "99999999999"])],
        ["--records", "r.jsonl", "--target", "aarch64-linux-gnu"],
        [
            "--records",
            "r.jsonl",
            *_maybe(rng, 0.3, "--program"),
            "--export-batch",
            rng.choice(["folder", "fifo", "/dev/full", "a\0b"]),
        ],
        ["--records", "r.jsonl", "--import-batch", _file(rng, files, ".json", "results.json")],
    ]
    return [
        _model(rng, files),
        "--shape",
        rng.choice(_SHAPES),
        *rng.choice(wrong),
        *_maybe(rng, 0.3, "--json"),
    ]


def _serve(rng: random.Random, files: list[str]) -> list[str]:
    tracker = rng.choice(["nowhere", ":1", "h:0", "h:99999999999", "", "-"])
    return ["--tracker", tracker, "--key", rng.choice(["box", *ODD])]


def _records(rng: random.Random, files: list[str]) -> list[str]:
    verb = rng.choice(["list", "best", "show", "merge", "prune"])
    names = [rng.choice([*BASE, *files, *ODD]) for _ in range(rng.choice([1, 1, 2]))]
    more = {
        "show": ["conv2d"],
        "merge": ["-o", _output(rng, ".jsonl")],
        "prune": ["-o", _output(rng, ".jsonl")],
    }
    return [verb, *(names[:1] if verb in ("show", "prune") else names), *more.get(verb, [])]


def _train(rng: random.Random, files: list[str]) -> list[str]:
    """What ends before anything is trained."""
    wrong = [
        ["--epochs", rng.choice(["0", "-1", "x", "1.5"])],
        ["--batch-size", rng.choice(["5000", "0", "x"])],
        ["--method", rng.choice(["magic", "", "\udcff"])],
        ["--methods", rng.choice(["missing", "folder", "fifo", "text"])],
        ["--method", "cp", "--methods", "methods.toml"],
        ["--option", rng.choice(["widht=3", "width", "=", "width=x", "width=-1"])],
        ["--precision", "8"],
        ["--learning-rate", rng.choice(["nan", "0", "inf"])],
        ["--compress-from", _file(rng, files, ".so", "model.so"), *_maybe(rng, 0.5, "--method", "cp")],
        ["--teacher", _file(rng, files, ".npz", "x.npz")],
    ]
    network = rng.choice(["digits_net", "digits_net", "lenet5", "", "net:small"])
    out = rng.choice(["out", "out", "missing/out", "text"])
    return [rng.choice(["digits", "digits", "nothing", "a\0b"]), network, "-o", out, *rng.choice(wrong)]


def _export(rng: random.Random, files: list[str]) -> list[str]:
    checkpoint = rng.choice([*BASE, *files, *ODD])
    return [checkpoint, "-o", _output(rng, rng.choice([".pt2", ".pt2", ".txt"]))]


_VERBS: dict[str, Callable[[random.Random, list[str]], list[str]]] = {
    "compile": _compile, "run": _run, "eval": _eval, "bench": _bench, "report": _report, "targets": _targets,
    "demo": _demo, "tune": _tune, "serve": _serve, "records": _records, "train": _train, "export": _export,
    "deploy": _deploy,
}  # fmt: skip
