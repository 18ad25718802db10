"""One to eight bits: DoReFa's, without anything learned, and LSQ's, with learned steps."""

import math

import torch
from torch import nn

from tvm_fastconv.decompose.few_levels import few_levels

from .quantizers import (
    ACTIVATIONS,
    WEIGHTS,
    Quantizer,
    along_filters,
    register,
    signs,
    straight_through,
)

CANDIDATES = 32
"""Steps tried for activations that are there to start from."""


@register(ACTIVATIONS, "dorefa")
class DorefaActivations(Quantizer):
    """``round(n x) / n`` for x clipped to 0..1, n = 2^bits − 1 (Zhou et al., DoReFa-Net, arXiv:1606.06160, eq. 5)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        clipped, top = x.clamp(0, 1), 2**self.bits - 1
        return straight_through(torch.round(clipped * top) / top, clipped)


@register(WEIGHTS, "dorefa")
class DorefaWeights(Quantizer):
    """Odd multiples of 1 / (2^bits − 1) (Zhou et al., DoReFa-Net, arXiv:1606.06160, eq. 8 and 9).

    One bit is the sign times the mean magnitude of the whole weight.
    """

    gives_signs = True

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        if self.bits == 1:
            return weight.detach().abs().mean() * straight_through(signs(weight), weight)
        squashed, top = torch.tanh(weight), 2**self.bits - 1
        largest = squashed.detach().abs().max().clamp(min=torch.finfo(weight.dtype).tiny)
        shares = squashed / (2 * largest) + 0.5
        return 2 * straight_through(torch.round(shares * top) / top, shares) - 1


class LearnedSteps(Quantizer):
    """One learned step, or one per filter."""

    def _steps(self, values_per_step: int, highest: int) -> torch.Tensor:
        """Above 0, with the paper's share of their gradient (section 2.2), in which values are those of one image."""
        steps = self.step.abs()
        return straight_through(steps, steps / math.sqrt(values_per_step * highest))


@register(ACTIVATIONS, "lsq")
class LsqActivations(LearnedSteps):
    """``step · round(clip(x / step, 0, 2^bits − 1))`` with one learned step (Esser et al., LSQ, arXiv:1902.08153).

    Without values to start from, the step is the paper's for rectified standard Gaussian noise.
    """

    def __init__(self, bits: int, channels: int, axis: int = 1) -> None:
        super().__init__(bits, channels, axis)
        mean = 1 / math.sqrt(2 * math.pi)  # of rectified noise
        self.step = nn.Parameter(torch.tensor(2 * mean / math.sqrt(self.levels[1])))

    @property
    def levels(self) -> tuple[int, int]:
        """The lowest and the highest, in steps."""
        return 0, 2**self.bits - 1

    @torch.no_grad()
    def start_from(self, values: torch.Tensor) -> None:
        """The step with the least squared error."""
        values = values.flatten().float()
        largest = float(values.abs().max()) or 1.0
        steps = torch.linspace(1, 0.02, CANDIDATES) * largest / max(self.levels[1], 1)

        def missed(step: float) -> float:
            self.step.fill_(step)
            return float((self(values) - values).square().mean())

        self.step.fill_(min(steps.tolist(), key=missed))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        low, high = self.levels
        step = self._steps(x[0].numel(), high)
        clipped = (x / step).clamp(low, high)
        return step * straight_through(torch.round(clipped), clipped)


@register(ACTIVATIONS, "signed_lsq")
class SignedLsqActivations(LsqActivations):
    """`LsqActivations` for values of both signs: −2^(bits − 1) to 2^(bits − 1) − 1 steps, and with one bit ±step."""

    gives_signs = True

    @property
    def levels(self) -> tuple[int, int]:
        """The lowest and the highest, in steps."""
        half = 2 ** (self.bits - 1)
        return (-half, half - 1) if self.bits > 1 else (-1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        if self.bits > 1:
            return super().forward(x)
        step = self._steps(x[0].numel(), 1)
        return step * straight_through(signs(x), (x / step).clamp(-1, 1))


@register(WEIGHTS, "lsq")
class LsqWeights(LearnedSteps):
    """Odd multiples of a learned step per filter, up to 2^bits − 1 (after Esser et al., LSQ, arXiv:1902.08153).

    The paper's levels have a 0 and one step for the whole layer. Odd ones are sums ±1 ±2 ±4 ..., which run on as many
    bit planes as there are bits.
    """

    gives_signs = True

    def __init__(self, bits: int, channels: int, axis: int = 1) -> None:
        super().__init__(bits, channels, axis)
        self.step = nn.Parameter(torch.ones(channels))

    @torch.no_grad()
    def start_from(self, values: torch.Tensor) -> None:
        """The steps with the least squared error, by `decompose.few_levels`."""
        found = few_levels(values.detach().cpu().float().numpy(), self.bits)
        self.step.copy_(torch.from_numpy(found.scale).clamp(min=torch.finfo(torch.float32).tiny))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """``(O, ...)``, same shape."""
        top = 2**self.bits - 1
        step = along_filters(self._steps(weight[0].numel(), top), weight)
        clipped = (weight / step).clamp(-top, top)
        return step * straight_through(2 * torch.floor(clipped / 2) + 1, clipped)
