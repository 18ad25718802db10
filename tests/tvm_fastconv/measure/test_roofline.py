import pytest

from tvm_fastconv.measure import roofline


@pytest.fixture(scope="module")
def library():
    return roofline.build_library()


def test_probe_counts_the_work_it_does(library):
    per_round = library.multiply_add(1)
    assert per_round in (2 * library.vector_lanes() * chains for chains in (12, 24))
    assert library.multiply_add(10) == 10 * per_round


def test_bit_probe_counts_the_work_it_does(library):
    per_round = library.xor_popcount(1)
    assert per_round in (64 * 8, 128 * 16, 256 * 10, 512 * 24)  # bits of a register times chains
    assert library.xor_popcount(10) == 10 * per_round


def test_probe_remembers_its_best_run():
    rates = roofline.Probe(lambda rounds: _spin(rounds))
    first = rates.best_rate
    assert first > 0
    for _ in range(3):
        assert rates.run() >= roofline.PROBE_SECONDS / 10
    assert rates.best_rate >= first


def _spin(rounds):
    return float(sum(1 for _ in range(1000 * rounds)))


def test_peaks_cover_arithmetic_and_every_level_of_memory(library):
    peaks = roofline.measure_peaks(repeats=1)
    assert peaks.lanes == library.vector_lanes()
    assert list(peaks.read_gb_s) == list(peaks.copy_gb_s) == list(roofline.memory_levels())
    assert min(peaks.fma_gflops, peaks.xnor_gmacs, *peaks.read_gb_s.values(), *peaks.copy_gb_s.values()) > 0


def test_memory_levels_grow():
    sizes = list(roofline.memory_levels().values())
    assert sizes == sorted(sizes)
    assert sizes[-1] >= roofline.DRAM_BYTES


def test_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no-such-compiler"):
        roofline.build_library()
