"""Folders are gone when their process is, and only then."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tvm_fastconv import temporary
from tvm_fastconv.errors import ArtifactError
from tvm_fastconv.temporary import sweep, temporary_folder

KEEP = """
import sys
from tvm_fastconv.temporary import temporary_folder
with temporary_folder(*sys.argv[1:]) as folder:
    (folder / "weights").write_text("w")
    print(folder, flush=True)
    sys.stdin.read()
"""
REMOVE_ALL = """
import os
from tvm_fastconv.temporary import remove_all, temporary_folder
with temporary_folder() as first, temporary_folder() as second:
    (first / "weights").write_text("w")
    remove_all()
    print(first.exists(), second.exists())
    os._exit(0)
"""
FORK = """
import os
from tvm_fastconv.temporary import temporary_folder
with temporary_folder() as folder:
    if not (child := os.fork()):
        pass  # its end of the block is no end of the folder
    else:
        os.waitpid(child, 0)
        print(folder.exists(), flush=True)
"""

LEFT, THEIRS = "fastconv-0000000000000000", "fastconv-00000000000000ff"
"""Names of folders that ended processes left."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def start(*arguments: object) -> tuple[subprocess.Popen, Path]:
    """Start a process that keeps a folder; returns the folder too."""
    command = [sys.executable, "-c", KEEP, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_private_and_gone_at_the_end(place: Path) -> None:
    with temporary_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.parent == place
        (folder / "weights").write_text("w")
    with temporary_folder(place) as hidden:
        assert hidden.name.startswith(".")
    with pytest.raises(ZeroDivisionError), temporary_folder() as folder:
        raise ZeroDivisionError
    assert os.listdir(place) == []


def test_what_a_killed_process_left_is_removed_by_the_next(place: Path) -> None:
    for arguments in ((), (place,)):
        process, folder = start(*arguments)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert (folder / "weights").exists()
        with temporary_folder(*arguments):
            assert not folder.exists()


def test_a_folder_in_use_is_left_alone(place: Path) -> None:
    process, folder = start()
    with temporary_folder() as other:
        sweep(place)
        assert (folder / "weights").exists()
        assert other.exists()
    process.communicate("end")
    assert not folder.exists()


def test_nothing_else_is_removed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "target").mkdir()
    (place / "target" / "file").touch()
    (place / LEFT).symlink_to("target")
    (place / LEFT.replace("0", "1")).touch()
    (place / "fastconv-data").mkdir()
    (place / "other-folder").mkdir()
    before = sorted(os.listdir(place))
    sweep(place)
    assert sorted(os.listdir(place)) == before
    assert (place / "target" / "file").exists()
    (place / THEIRS).mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        sweep(place)
    assert (place / THEIRS).exists()
    sweep(place)
    assert not (place / THEIRS).exists()


def test_links_inside_are_not_followed(place: Path) -> None:
    (place / "precious").mkdir()
    (place / "precious" / "file").touch()
    (place / LEFT).mkdir()
    (place / LEFT / "link").symlink_to(place / "precious")
    sweep(place)
    assert os.listdir(place) == ["precious"]
    assert (place / "precious" / "file").exists()


def test_one_that_was_swept_before_it_was_locked_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = []

    def lock(descriptor: int, flags: int) -> None:
        if not swept:
            swept.extend(place.glob("fastconv-*"))
            swept[0].rmdir()

    monkeypatch.setattr(fcntl, "flock", lock)
    with temporary_folder() as folder:
        assert folder.exists()
        assert folder != swept[0]
    assert os.listdir(place) == []


def test_a_place_that_is_not_there_is_an_error(place: Path) -> None:
    with (
        pytest.raises(ArtifactError, match="cannot make a temporary folder: No such file"),
        temporary_folder(place / "absent"),
    ):
        pass
    assert not temporary._made


@pytest.mark.parametrize(("script", "out"), [(REMOVE_ALL, "False False\n"), (FORK, "True\n")])
def test_in_a_process_of_its_own(script: str, out: str, place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (out, "")
    assert os.listdir(place) == []
