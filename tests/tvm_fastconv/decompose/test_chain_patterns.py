"""Which convolutions, one after the other, are a chain that has a name: on weights alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from tvm_fastconv.configs import CP, DepthwiseSeparable, FixedStencil, Method, SpatialSeparable, Tucker
from tvm_fastconv.decompose.chain_patterns import PATTERNS, Factor, is_linear
from tvm_fastconv.decompose.factor_chains import chain_of

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((24, 16, 3, 3), np.float32)


def _factor(outputs: int, inputs: int, *kernel: int, groups: int = 1, linear: bool = True) -> Factor:
    weight = RNG.standard_normal((outputs, inputs // groups, *kernel), np.float32)
    return Factor(weight=weight, groups=groups, linear=linear)


def _first(factors: Sequence[Factor]) -> tuple[str, str] | None:
    """The method and operator of the first pattern that takes all of ``factors``."""
    taking = (p for p in PATTERNS if p.length == len(factors) and p.matches(factors))
    return next(((pattern.method, pattern.op) for pattern in taking), None)


@pytest.mark.parametrize(
    "config",
    [
        CP(rank=4),
        Tucker(ranks=(6, 8)),
        SpatialSeparable(rank=1),
        DepthwiseSeparable(multiplier=2),
        FixedStencil(),
    ],
    ids=lambda config: type(config).__name__,
)
def test_what_a_decomposition_makes_is_known_by_its_name(config: Method) -> None:
    chain = chain_of(WEIGHT, config)
    factors = [
        Factor(weight=weight, groups=stage.groups)
        for stage, weight in zip(chain.stages, chain.weights, strict=True)
    ]
    found = _first(factors)
    assert found is not None
    assert found[0] == chain.method
    assert (factors[0].channels, factors[-1].out_channels) == (16, 24)
    nonlinear = [dataclasses.replace(factor, linear=False) for factor in factors]
    assert is_linear(factors)
    assert not is_linear(nonlinear)
    kept = chain.method in ("separable", "fixed")
    assert (_first(nonlinear) == found) is kept


def test_more_channels_inside_are_an_inverted_bottleneck() -> None:
    wide = [
        _factor(48, 16, 1, 1, linear=False),
        _factor(48, 48, 3, 3, groups=48, linear=False),
        _factor(24, 48, 1, 1),
    ]
    assert _first(wide) == ("separable", "inverted_bottleneck")
    narrow = [_factor(16, 16, 1, 1, linear=False), _factor(16, 16, 3, 3, groups=16), _factor(24, 16, 1, 1)]
    assert _first(narrow) is None


@pytest.mark.parametrize(
    "factors",
    [
        [_factor(16, 16, 3, 3), _factor(24, 16, 1, 1)],
        [_factor(16, 16, 3, 1), _factor(24, 16, 3, 1)],
        [_factor(8, 16, 1, 1), _factor(24, 8, 1, 1)],
        [_factor(16, 16, 3, 3, groups=4), _factor(24, 16, 1, 1)],
        [_factor(16, 16, 3, 3, groups=16), _factor(24, 16, 1, 1, groups=2)],
    ],
    ids=["dense", "along one axis", "1x1 only", "groups of several channels", "1x1 in groups"],
)
def test_other_pairs_have_no_name(factors: list[Factor]) -> None:
    assert _first(factors) is None


def test_shared_kernels_are_several_the_same_for_every_channel_and_not_zero() -> None:
    kernels = RNG.standard_normal((3, 5, 5), np.float32)
    shared = Factor(weight=np.tile(kernels, (8, 1, 1))[:, None], groups=8)
    np.testing.assert_array_equal(shared.shared_kernels, kernels)
    other = shared.weight.copy()
    other[4] += 1
    assert dataclasses.replace(shared, weight=other).shared_kernels is None
    assert dataclasses.replace(shared, weight=0 * shared.weight).shared_kernels is None
    assert _factor(8, 8, 3, 3, groups=8).shared_kernels is None
