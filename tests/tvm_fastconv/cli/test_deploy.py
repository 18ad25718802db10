import json
import os
from collections.abc import Callable
from pathlib import Path


def test_deploy_writes_a_kit_and_says_what_comes_next(
    fastconv: Callable, network: Path, tmp_path: Path
) -> None:
    kit = tmp_path / "kit"
    done = fastconv(
        "deploy", f"{network}:small", "--shape", "1x1x8x8", "--name", "small", "-o", kit, "--json"
    )
    assert done.code == 0
    facts = json.loads(done.out)
    assert facts["kit"] == str(kit)
    assert facts["next"].endswith("build/small check")
    assert {"README.md", "CMakeLists.txt", "small.h", "libsmall.a", "main.c", "run.py", "reference"} <= set(
        os.listdir(kit)
    )
    assert "@" not in "".join(
        (kit / name).read_text() for name in ("README.md", "main.c", "main.cc", "run.py")
    )


def test_a_folder_that_is_there_is_left_alone(fastconv: Callable, network: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    done = fastconv("deploy", f"{network}:small", "--shape", "1x1x8x8", "-o", tmp_path)
    assert (done.code, os.listdir(tmp_path)) == (2, ["mine"])
    assert "is there already" in done.err


def test_a_kit_for_tvms_runtime(fastconv: Callable, network: Path, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    command = ["deploy", f"{network}:small", "--shape", "1x1x8x8", "--name", "small", "-o", kit]
    assert fastconv(*command, "--tvm-runtime", "--json").code == 0
    assert {"small.so", "runtime", "include", "main.c", "main.cc", "run.py"} <= set(os.listdir(kit))
