"""Blocks of executed instructions as qemu's plugin lists them: count, address, code."""

from benchmarks.arm_blocks import Block, joined

ADD, LOAD, JUMP, RETURN = "8b000020", "f9400000", "54ffff81", "d65f03c0"


def test_a_block_that_a_page_cuts_is_one() -> None:
    """The loop's second half is entered from elsewhere, too."""
    lines = [f"10 ff8 {LOAD} {ADD}", f"15 1000 {ADD} {JUMP}"]
    assert joined(lines) == [Block(10, (LOAD, ADD, ADD, JUMP)), Block(5, (ADD, JUMP))]


def test_over_several_pages() -> None:
    lines = [f"3 ffc {ADD}", f"3 1000 {LOAD}", f"4 1004 {RETURN}"]
    assert joined(lines) == [Block(3, (ADD, LOAD, RETURN)), Block(1, (RETURN,))]


def test_a_branch_ends_a_block() -> None:
    lines = [f"7 ff8 {ADD} {JUMP}", f"2 1000 {RETURN}"]
    assert joined(lines) == [Block(7, (ADD, JUMP)), Block(2, (RETURN,))]
