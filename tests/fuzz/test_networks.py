import random

import pytest
import torch
from tvm import relax

from tvm_fastconv.frontend.torch_rules import RULES, Rule

from .campaign import case_of
from .network import Draft, Input, Network, Step, program
from .networks import RECIPES, Bundle, Networks, _is_calm, _with_fewer_steps
from .operators import OPERATORS

IMAGE = Input("torch.randn((1, 4, 6, 6))", 3)


def test_every_operator_is_in_a_recipe_and_every_case_is_the_same_again() -> None:
    assert {name for recipe in RECIPES for name in recipe} == set(OPERATORS)
    assert case_of(Networks(), 0, 0) == case_of(Networks(), 0, 0)


def test_a_wrong_rule_is_found_and_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (Step(1, "scale", 1, 0), Step(2, "flip", 2, 1), Step(3, "roll", 4, 2))
    case = Bundle((Network((IMAGE,), steps),))
    assert Networks().run(case) is None
    wrong = Rule(lambda op, emit: emit(relax.op.flip(op.input, 2)))
    monkeypatch.setitem(RULES, "flip.default", wrong)
    assert "is wrong by" in (Networks().run(case) or "")
    simpler = [n for n in _with_fewer_steps(case.networks[0]) if Networks().run(Bundle((n,)))]
    assert min(len(network.steps) for network in simpler) < len(steps)


def test_the_printed_program_runs_by_itself() -> None:
    case = case_of(Networks(), 0, 0)
    code = Networks().code(case)
    assert "tests" not in code
    exec(compile(code, "printed", "exec"), {})


def test_networks_that_turn_with_the_last_bit_are_not_drawn() -> None:
    draft = Draft(Network((IMAGE,), ()))
    draft.forward = ["v1 = torch.sign(x0 + 1e8 - 1e8 - x0)"]
    assert not _is_calm(program([draft]))


def test_thresholds_keep_away_from_values() -> None:
    rng = random.Random(0)
    draft = Draft(Network((IMAGE,), ()))
    for number in range(1, 20):
        draft.add(Step(number, "compare", rng.randrange(1000), 0), OPERATORS["compare"])
    limits = torch.tensor([float(line.split()[-1]) for line in draft.forward])
    image = draft.values[0].data.flatten()
    assert (image[:, None] - limits).abs().min() > 1e-4 * image.abs().max()
