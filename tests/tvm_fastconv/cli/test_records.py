"""``fastconv records`` and the options of ``fastconv tune``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tvm_fastconv.autotune.records import append_records, read_records

from ...autotune.test_records import _trial, _verdict


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "r.jsonl"
    append_records(
        path, [_trial(), _trial(None, error="it broke"), _verdict(), _verdict(ratio=3.0, low=2.9, high=3.1)]
    )
    return path


def test_list_counts(fastconv: Callable, records: Path) -> None:
    done = fastconv("records", "list", records, "--json")
    assert done.code == 0
    (row,) = json.loads(done.out)
    assert (row["op"], row["trials"], row["failed"], row["verdicts"], row["faster"]) == ("conv2d", 2, 1, 1, 1)
    assert "conv2d" in fastconv("records", "list", records).out


def test_best_shows_what_compile_takes(fastconv: Callable, records: Path) -> None:
    (verdict,) = json.loads(fastconv("records", "best", records, "--json").out)
    assert verdict["ratio"] == 3.0
    assert "3.000" in fastconv("records", "best", records).out


def test_show_finds_by_name(fastconv: Callable, records: Path) -> None:
    assert len(json.loads(fastconv("records", "show", records, "24 to 40", "--json").out)) == 4
    assert "it broke" in fastconv("records", "show", records, "conv2d").out
    done = fastconv("records", "show", records, "abacus")
    assert (done.code, done.out) == (2, "")
    assert "knows no problem whose name holds 'abacus'" in done.err


def test_merge_and_prune_write_files(fastconv: Callable, records: Path, tmp_path: Path) -> None:
    other = tmp_path / "s.jsonl"
    append_records(other, [_trial(), _trial(3e-5)])
    done = fastconv("records", "merge", records, other, "-o", tmp_path / "all.jsonl")
    assert done.code == 0
    assert len(read_records(tmp_path / "all.jsonl")) == 5
    assert fastconv("records", "prune", tmp_path / "all.jsonl").code == 0
    assert len(read_records(tmp_path / "all.jsonl")) == 3
    assert (
        fastconv("records", "prune", tmp_path / "all.jsonl", "--no-trials", "-o", tmp_path / "b.jsonl").code
        == 0
    )
    assert len(read_records(tmp_path / "b.jsonl")) == 1
    assert len(read_records(tmp_path / "all.jsonl")) == 3


def test_a_file_that_is_not_there_is_one_message(fastconv: Callable, tmp_path: Path) -> None:
    for words in (["list"], ["best"], ["merge", "-o", tmp_path / "x"], ["prune"], ["show"]):
        more = [] if words[0] != "show" else ["conv2d"]
        done = fastconv("records", words[0], tmp_path / "none.jsonl", *more, *words[1:])
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("error: cannot read the records")
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rpc", "127.0.0.1:9190"], "--rpc and --key belong together"),
        (["--key", "box"], "--rpc and --key belong together"),
        (["--rpc", "nowhere", "--key", "box"], "'nowhere' is no address; write HOST:PORT"),
        (["--rpc", "host:99999999999", "--key", "box"], "is no address"),
        (["--rpc", "127.0.0.1:1", "--key", "box", "--secret-file", "none"], "cannot read the secret none"),
        (["--threads", "0"], "threads is 0"),
        (["--target", "aarch64-linux-gnu"], "this machine cannot run what is compiled for aarch64-linux-gnu"),
    ],
)
def test_tune_says_what_is_wrong(
    fastconv: Callable, network: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    arguments = ("tune", f"{network}:small", "--shape", "1x1x8x8", "--records", tmp_path / "r.jsonl")
    done = fastconv(*arguments, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_compile_says_which_records_cannot_be_read(fastconv: Callable, network: Path, tmp_path: Path) -> None:
    arguments = ("compile", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path / "m.so")
    done = fastconv(*arguments, "--records", tmp_path / "none.jsonl")
    assert done.code == 2
    assert "cannot read the records" in done.err
    assert not (tmp_path / "m.so").exists()
