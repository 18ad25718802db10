from pathlib import Path

import pytest

import tvm_fastconv as fc
from tvm_fastconv import Dense, Lookup
from tvm_fastconv.cli.method_files import read_methods
from tvm_fastconv.errors import MethodError


def test_names_and_tables(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('"layer1.*" = "dense"\n"layer2.*" = { method = "dense" }\n')
    assert read_methods(tmp_path / "m.toml") == {"layer1.*": Dense(), "layer2.*": Dense()}


def test_a_method_with_parameters(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        '"a" = "lookup"\n"b" = { method = "lookup", dictionary_size = 64, density = 0.05 }\n'
    )
    assert read_methods(tmp_path / "m.toml") == {"a": Lookup(), "b": Lookup(dictionary_size=64, density=0.05)}


def test_separable_methods(tmp_path: Path) -> None:
    lines = {
        '"a" = { method = "cp", ratio = 0.1 }': fc.CP(ratio=0.1),
        '"b" = { method = "tucker", ranks = [32, 48] }': fc.Tucker(ranks=(32, 48)),
        '"c" = "spatial"': fc.SpatialSeparable(rank=1),
        '"d" = { method = "separable", multiplier = 2 }': fc.DepthwiseSeparable(multiplier=2),
        '"e" = "fixed"': fc.FixedStencil(),
    }
    (tmp_path / "m.toml").write_text("\n".join(lines))
    assert list(read_methods(tmp_path / "m.toml").values()) == list(lines.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"a*" = "magic"', r"m.toml, 'a\*': unknown method 'magic'; known: dense"),
        ('"a*" = { method = ["dense"] }', "unknown method"),
        ('"a*" = { speed = 1 }', "neither a method's name nor a table"),
        ('"a*" = true', "neither a method's name nor a table"),
        ('"a*" = { method = "dense", speed = 1 }', "no parameter 'speed'; allowed: none"),
        ('"a*" = { method = "lookup", density = 0.1 }', r"m.toml, 'a\*': dictionary_size is None"),
        ('"a*" = "cp"', "'a\\*': rank is None, ratio is None and error is None; allowed: one of them"),
        ('"a*" = { method = "tucker", ranks = [3] }', r"ranks is \(3,\); allowed: a pair"),
        ("a* = dense", "is not TOML"),
        pytest.param("a = " + "[" * 5000 + "]" * 5000, "is not TOML", id="nested"),
    ],
)
def test_bad_files(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(MethodError, match=message):
        read_methods(tmp_path / "m.toml")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"cannot read .*m\.toml: No such file"):
        read_methods(tmp_path / "m.toml")


def test_nesting_without_end_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('"*" = ' + "[" * 100_000)
    with pytest.raises(MethodError, match=r"m\.toml is not TOML"):
        read_methods(tmp_path / "m.toml")
