"""How many instructions ARM's CPUs execute for an inference: what it was, within one in a hundred.

The counts are of the versions in ``constraints.txt``. ``python -m tests.arm.test_instructions`` writes them anew: look
at what has become of each before you commit them.
"""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.arm_blocks import executed_blocks
from tvm_fastconv.demo import NETWORKS
from tvm_fastconv.train.models import make_model

pytestmark = [pytest.mark.arm, pytest.mark.slow]

COUNTS = Path(__file__).with_name("instructions.json")
NAMES = ("dense", "bitserial", "lookup", "spatial", "separable", "fixed")
CPUS = ("cortex-a53", "cortex-a76")
TOLERANCE = 0.01


def _count(name: str, cpu: str) -> int:
    torch.manual_seed(0)
    model = make_model("digits_net", classes=10, channels=1, size=8, **NETWORKS[name]).eval()
    return sum(block.instructions for block in executed_blocks(model, torch.randn(1, 1, 8, 8), cpu, cpu))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", NAMES)
def test_no_more_and_no_fewer_than_before(name: str, cpu: str) -> None:
    assert _count(name, cpu) == pytest.approx(json.loads(COUNTS.read_text())[cpu][name], rel=TOLERANCE)


if __name__ == "__main__":
    found = {cpu: {name: _count(name, cpu) for name in NAMES} for cpu in CPUS}
    COUNTS.write_text(json.dumps(found, indent=2) + "\n")
