import itertools

from hypothesis import given
from hypothesis import strategies as st

from tvm_fastconv import report
from tvm_fastconv.relay_passes.module.plan_memory import ALIGNMENT, Life, plan_memory

LIVES = st.lists(
    st.builds(
        lambda size, first, calls: Life(size, first, first + calls),
        st.integers(1, 1000),
        st.integers(0, 10),
        st.integers(0, 5),
    ),
    max_size=12,
)


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _largest_sum(lives: list[Life]) -> int:
    """Bytes that live at once: what no plan can do without."""
    return max(
        (sum(_rounded(b.size) for b in lives if b.first <= at <= b.last) for at in range(16)), default=0
    )


@given(LIVES)
def test_what_lives_at_once_lies_apart(lives: list[Life]) -> None:
    offsets, total = plan_memory(lives)
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    assert all(offset + life.size <= total for offset, life in zip(offsets, lives, strict=True))
    for (a, one), (b, other) in itertools.combinations(zip(offsets, lives, strict=True), 2):
        if one.first <= other.last and other.first <= one.last:
            assert a + one.size <= b or b + other.size <= a
    assert _largest_sum(lives) <= total <= sum(_rounded(life.size) for life in lives)


def test_a_chain_takes_its_two_largest_neighbours() -> None:
    sizes = [640, 6400, 3200, 640, 64]
    lives = [Life(size, at, at + 1) for at, size in enumerate(sizes)]
    assert plan_memory(lives)[1] == 9600


def test_a_gap_is_used_where_it_is_large_enough() -> None:
    lives = [Life(256, 0, 3), Life(128, 0, 1), Life(64, 2, 3), Life(64, 2, 3)]
    offsets, total = plan_memory(lives)
    assert total == 384
    assert sorted(offsets[2:]) == [256, 320]


def test_all_agree_on_the_alignment() -> None:
    assert ALIGNMENT == report.ALIGNMENT


def test_nothing_takes_nothing() -> None:
    assert plan_memory([]) == ([], 0)
