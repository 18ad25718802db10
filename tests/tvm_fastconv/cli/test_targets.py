import json
from collections.abc import Callable


def test_native(fastconv: Callable) -> None:
    facts = json.loads(fastconv("targets", "--json").out)
    assert facts["float32_lanes"] in (4, 8, 16)
    assert "raspberry-pi/4b-aarch64" in facts["tags"]


def test_a_named_target(fastconv: Callable) -> None:
    done = fastconv("targets", "x86_64-linux-gnu -mcpu=haswell")
    assert done.code == 0
    assert "avx2" in done.out
    assert "avx512f" not in done.out.split("mcpu_for")[0]


def test_an_unknown_one(fastconv: Callable) -> None:
    done = fastconv("targets", "vax")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: unknown target 'vax'; allowed: ")
