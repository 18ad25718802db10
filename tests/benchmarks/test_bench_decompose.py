import pytest

from benchmarks import bench_decompose as bench
from benchmarks.runner import Settings


def test_every_decomposition_is_timed_beside_the_rival(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = bench.run(Settings(engines=()), (16, 8, 3, 3), write=False)
    assert list(seconds) == ["CP", bench.RIVAL, "Tucker", "lookup"]
    assert min(seconds.values()) > 0
    printed = capsys.readouterr().out
    assert all(f"{way}: " in printed for way in seconds)
    assert f"{seconds[bench.RIVAL] / seconds['CP']:.2f} times" in printed
