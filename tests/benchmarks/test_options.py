import argparse
import os

import pytest

from benchmarks import options
from benchmarks.runner import Settings


def _parse(*arguments):
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def restarted(monkeypatch):
    """What the process would be restarted with, and on which cores."""
    seen = {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: seen.update(cores=cores))
    monkeypatch.setattr(os, "execve", lambda path, argv, env: seen.update(argv=argv, env=env))
    monkeypatch.delenv(options.PINNED, raising=False)
    return seen


def test_process_is_restarted_on_its_cores_with_every_library_told(restarted):
    options.pin_process(2, "avx2")
    assert list(restarted["cores"]) == [2, 3]
    told = {
        name: restarted["env"][name] for name in ("OMP_NUM_THREADS", "TVM_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")
    }
    assert told == {"OMP_NUM_THREADS": "2", "TVM_NUM_THREADS": "2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def test_restarted_process_goes_on(restarted, monkeypatch):
    options.pin_process(1, "native")
    monkeypatch.setenv(options.PINNED, restarted.pop("env")[options.PINNED])
    restarted.clear()
    options.pin_process(1, "native")
    assert restarted == {}


@pytest.mark.parametrize("threads", [0, 5])
def test_impossible_threads_are_refused(restarted, threads):
    with pytest.raises(SystemExit, match="1 to 4"):
        options.settings_of(_parse("--threads", str(threads)))
    assert restarted == {}


def test_unknown_engines_are_refused(restarted):
    with pytest.raises(SystemExit, match=r"tensorrt.*known are fastconv, torch"):
        options.settings_of(_parse("--engines", "torch,tensorrt"))


def test_settings_follow_the_options(restarted):
    settings = options.settings_of(_parse("--engines", "torch, openvino", "--repeats", "3"), min_time=0.5)
    assert settings == Settings(engines=("torch", "openvino"), repeats=3, min_time=0.5)


def test_conditions_do_not_share_a_file():
    usual = Settings(engines=())
    limited = Settings(engines=(), threads=2, isa="avx2")
    assert options.results_name("networks", usual) == "networks"
    assert options.results_name("networks", limited, batch=16) == "networks-b16-t2-avx2"
