import os
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from tvm_fastconv.artifact.artifact import (
    MANIFEST_SECTION,
    abi_name,
    amend_manifest,
    check_output_path,
    read_artifact,
    replacing,
    seal,
)
from tvm_fastconv.artifact.manifest import FORMAT_VERSION
from tvm_fastconv.errors import ArtifactError
from tvm_fastconv.runtime import tvm_runtime

SEAL = struct.Struct("<8sIIQ")


@pytest.fixture
def copy(chain, tmp_path):
    return Path(shutil.copy(chain.path, tmp_path / "copy.so"))


def rewrite(path, place, data):
    with open(path, "r+b") as file:
        file.seek(*place)
        file.write(data)


def test_reads_what_was_written(chain):
    artifact = read_artifact(chain.path)
    assert artifact.manifest == chain.manifest
    assert artifact.manifest.file_size == chain.path.stat().st_size
    assert artifact.manifest.checksum.startswith("crc32:")
    assert len(artifact.read_reference()) == 2 * 128


def test_cut_short_at_any_byte(copy):
    for size in range(os.path.getsize(copy) - 1, -1, -1):
        os.truncate(copy, size)
        with pytest.raises(ArtifactError, match=r"cut short|no ELF file"):
            read_artifact(copy)


def test_any_changed_byte_is_noticed(copy):
    data = copy.read_bytes()
    with open(copy, "r+b", buffering=0) as file:
        for place in range(len(data)):
            file.seek(place)
            file.write(bytes([data[place] ^ 1 << place % 8]))
            with pytest.raises(ArtifactError):
                read_artifact(copy)
            file.seek(place)
            file.write(data[place : place + 1])
    read_artifact(copy)


def test_appended_bytes_are_noticed(copy):
    rewrite(copy, (0, os.SEEK_END), b"x")
    with pytest.raises(ArtifactError, match="cut short or was altered: the seal at its end is missing"):
        read_artifact(copy)


@pytest.mark.parametrize(("change", "age"), [(1, "a newer"), (-1, "an older")])
def test_another_format_says_so(copy, change, age):
    size, version = os.path.getsize(copy), FORMAT_VERSION + change
    rewrite(copy, (-SEAL.size, os.SEEK_END), SEAL.pack(b"FASTCONV", version, 0, size + 100))
    with pytest.raises(
        ArtifactError, match=rf"copy\.so was compiled by {age} tvm-fastconv: format {version}"
    ):
        read_artifact(copy)


def test_foreign_library_says_so(tmp_path):
    path = shutil.copy(tvm_runtime.runtime_library(), tmp_path / "foreign.so")
    with pytest.raises(ArtifactError, match="a shared library, but not a model compiled by tvm-fastconv"):
        read_artifact(path)
    seal(path)
    with pytest.raises(ArtifactError, match="sealed but has no manifest"):
        read_artifact(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("{}"), "is not a compiled model: it is no ELF file"),
        (lambda path: path.mkdir(), "cannot open .*/file: it is a folder, not a regular file"),
        (lambda path: None, "cannot open .*/file: No such file or directory"),
        (lambda path: path.symlink_to("/proc/self/mem"), "cannot read .*/file: Input/output error"),
    ],
)
def test_other_paths(tmp_path, make, message):
    make(tmp_path / "file")
    with pytest.raises(ArtifactError, match=message):
        read_artifact(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\0b.so", "null byte"),
        ("\ud800.so", "surrogates not allowed"),
        ("x" * 300, "File name too long"),
        (b"\xff.so", "No such file or directory"),
    ],
    ids=["nul", "no text", "long", "bytes"],
)
def test_names_that_no_file_has(name, message):
    with pytest.raises(ArtifactError, match=f"cannot open .*: .*{message}"):
        read_artifact(name)


def test_bad_manifest_names_the_field(copy):
    artifact = read_artifact(copy)
    text = artifact.manifest.to_section().replace(b'"verify":"', b'"verifi":"')
    rewrite(copy, (artifact.elf.sections[MANIFEST_SECTION].offset,), text)
    os.truncate(copy, os.path.getsize(copy) - SEAL.size)
    seal(copy)
    with pytest.raises(ArtifactError, match=r"copy\.so: manifest\.verifi is unknown"):
        read_artifact(copy)


def test_amend_manifest_changes_the_file_in_place(copy, chain):
    amended = amend_manifest(copy, verify="max relative error 1e-7", notices=("one",))
    assert read_artifact(copy).manifest == amended
    assert (amended.verify, amended.notices) == ("max relative error 1e-7", ("one",))
    assert os.path.getsize(copy) == chain.manifest.file_size
    assert amend_manifest(copy, verify=chain.manifest.verify, notices=()) == chain.manifest
    assert copy.read_bytes() == chain.path.read_bytes()
    with pytest.raises(ValueError, match="the manifest grew to"):
        amend_manifest(copy, verify="x" * 10000)
    read_artifact(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: {"weights": (replace(m.weights[0], offset=640),)},
            r"ends at byte 896 of \.fastconv\.weights",
        ),
        (
            lambda m: {
                "reference": replace(m.reference, outputs=(replace(m.reference.outputs[0], offset=192),))
            },
            r"ends at byte 320 of \.fastconv\.reference, which has 256",
        ),
        (lambda m: {"format_version": 7}, f"the seal says format {FORMAT_VERSION}, the manifest 7"),
    ],
)
def test_manifest_that_contradicts_the_file(copy, chain, change, message):
    with pytest.raises(ArtifactError, match=message):
        amend_manifest(copy, **change(chain.manifest))


def test_copy_outlives_the_original(chain, tmp_path):
    path = tmp_path / "original.so"
    shutil.copy(chain.path, path)
    artifact = read_artifact(path)
    path.unlink()
    artifact.copy_to(tmp_path / "saved.so")
    assert (tmp_path / "saved.so").read_bytes() == chain.path.read_bytes()


def test_the_file_is_closed_with_the_artifact(chain):
    artifact = read_artifact(chain.path)
    file = artifact.file
    assert not file.closed
    del artifact
    assert file.closed


def test_abi_name_ignores_patch_versions():
    assert abi_name("aarch64", "0.27.0.post1", "0.1.14.post1") == "aarch64 tvm-0.27 ffi-0.1"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", "is a folder"),
        ("missing/model.so", "cannot write .*: No such file or directory"),
        ("file/model.so", "cannot write .*: Not a directory"),
        ("/dev/null", "is no regular file"),
        ("/proc/model.so", "cannot write"),
        ("a\0b.so", "cannot write .*null byte"),
        ("\ud800.so", "cannot write .*surrogates not allowed"),
        ("x" * 300, "cannot write .*: File name too long"),
    ],
)
def test_unwritable_output(tmp_path, path, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=message):
        check_output_path(tmp_path / path)
    assert os.listdir(tmp_path) == ["file"]


def test_replacing_is_all_or_nothing(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")

    def write(fail):
        with replacing(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(fail=True)
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["out"])
    write(fail=False)
    assert (path.read_text(), os.listdir(tmp_path)) == ("new", ["out"])


@pytest.mark.parametrize("name", ["x" * 255, "\U0001f600" * 63, os.fsdecode(b"\xff" * 255), b"bytes"])
def test_any_name_that_a_file_may_have(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    with replacing(os.fsencode(path) if isinstance(name, bytes) else path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
