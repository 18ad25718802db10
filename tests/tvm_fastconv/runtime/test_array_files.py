from pathlib import Path

import numpy as np
import pytest

from tvm_fastconv.errors import ArtifactError, InputError
from tvm_fastconv.report import TensorSpec
from tvm_fastconv.runtime.array_files import random_inputs, read_inputs, write_outputs

IMAGE = TensorSpec(name="image", shape=("batch", 3, 4), dtype="float32")
SCALE = TensorSpec(name="scale", shape=(2,), dtype="int32")


def test_one_npy_per_input_in_order(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, 3, 4), np.float32))
    np.save(tmp_path / "b.npy", np.array([5, 6], np.int32))
    image, scale = read_inputs([tmp_path / "a.npy", tmp_path / "b.npy"], [IMAGE, SCALE])
    assert image.shape == (1, 3, 4)
    assert list(scale) == [5, 6]


def test_npz_goes_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", scale=np.array([5, 6], np.int32), image=np.ones((1, 3, 4), np.float32))
    image, scale = read_inputs([tmp_path / "in.npz"], [IMAGE, SCALE])
    assert image.shape == (1, 3, 4)
    assert list(scale) == [5, 6]
    with pytest.raises(InputError, match=r"no array named 'other'; it holds scale, image"):
        read_inputs([tmp_path / "in.npz"], [TensorSpec(name="other", shape=(1,), dtype="float32")])


def test_bad_input_files(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "empty.npy").touch()
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "good.npy", np.zeros(2, np.float32))
    for name in ("text.npy", "empty.npy", "pickled.npy"):
        with pytest.raises(InputError, match=f"{name} is not a .npy or .npz file"):
            read_inputs([tmp_path / name], [SCALE])
    with pytest.raises(InputError, match=r"cannot read .*missing.npy: No such file"):
        read_inputs([tmp_path / "missing.npy"], [SCALE])
    with pytest.raises(InputError, match=r"1 files for 2 inputs .*image \(batch, 3, 4\) float32"):
        read_inputs([tmp_path / "good.npy"], [IMAGE, SCALE])


def _header(shape: str, rest: bytes = b"") -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + rest


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "huge.npy",
            _header("(10000000000000000,)"),
            "huge.npy does not fit into memory: Unable to allocate",
        ),
        ("short.npy", _header("(3,)", bytes(8)), "short.npy is not a .npy"),
        ("expression.npy", _header("(2**9,)", bytes(8)), "expression.npy is not a .npy"),
        ("nested.npy", _header("(" * 9 + "1"), "nested.npy is not a .npy"),
        ("overflow.npy", _header(f"({2**63},)"), "overflow.npy is not a .npy"),
        ("zip.npz", b"PK\x03\x04" + bytes(40), "zip.npz is not a .npy"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith(("npy", "npz")) else "",
)
def test_files_that_promise_what_they_do_not_hold(
    name: str, data: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_inputs([tmp_path / name], [SCALE])


@pytest.mark.parametrize("name", ["a\0b.npy", "\ud800.npy", "x" * 300])
def test_names_that_no_file_has(name: str) -> None:
    with pytest.raises(InputError):
        read_inputs([name], [SCALE])


def test_outputs_round_trip(tmp_path: Path) -> None:
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 2], np.int32)
    one = [TensorSpec(name="scores", shape=(2, 3), dtype="float32")]
    write_outputs(tmp_path / "y.npy", [first], one)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), first)
    write_outputs(
        tmp_path / "y.npz", [first, second], [TensorSpec(name="file", shape=(2, 3), dtype="float32"), SCALE]
    )
    loaded = np.load(tmp_path / "y.npz")
    np.testing.assert_array_equal(loaded["file"], first)
    np.testing.assert_array_equal(loaded["scale"], second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["y.npy", "y.npz"]


def test_bad_output_files(tmp_path: Path) -> None:
    output = np.zeros(2, np.int32)
    with pytest.raises(InputError, match=r"cannot write 2 outputs to .*y.npy; allowed: .npz"):
        write_outputs(tmp_path / "y.npy", [output, output], [IMAGE, SCALE])
    with pytest.raises(InputError, match=r"y\.txt"):
        write_outputs(tmp_path / "y.txt", [output], [SCALE])
    with pytest.raises(ArtifactError, match="cannot write"):
        write_outputs(tmp_path / "no" / "y.npy", [output], [SCALE])
    assert not list(tmp_path.iterdir())


def test_random_inputs() -> None:
    image, scale = random_inputs([IMAGE, SCALE])
    assert (image.shape, image.dtype, scale.shape, scale.dtype) == ((1, 3, 4), np.float32, (2,), np.int32)
    assert image.std() > 0
    np.testing.assert_array_equal(image, random_inputs([IMAGE])[0])
