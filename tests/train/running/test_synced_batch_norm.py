"""Batch norm over two processes against PyTorch's over the whole batch: results, statistics, all gradients."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import copy, sys
import torch
from torch import distributed, nn
from tvm_fastconv.train.running.synced_batch_norm import SyncedBatchNorm

rank, file = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
for affine in (True, False):
    for kind, shape in ((nn.BatchNorm2d, (8, 5, 4, 3)), (nn.BatchNorm1d, (8, 5))):
        torch.manual_seed(0)
        whole = kind(5, affine=affine, momentum=0.3).double()
        for parameter in whole.parameters():
            nn.init.normal_(parameter)
        part = SyncedBatchNorm(copy.deepcopy(whole)).train()
        x, slopes = torch.randn(shape).double() + 3, torch.randn(shape).double()
        mine, x = x[rank::2].clone().requires_grad_(), x.requires_grad_()
        want, got = whole(x), part(mine)
        want.backward(slopes)
        got.backward(slopes[rank::2])
        pairs = [(got, want[rank::2]), (mine.grad, x.grad[rank::2])]
        pairs += list(zip(part.buffers(), whole.buffers(), strict=True))
        for parameter, other in zip(part.parameters(), whole.parameters(), strict=True):
            distributed.all_reduce(parameter.grad)
            pairs.append((parameter.grad, other.grad))
        for left, right in pairs:
            # float64, sums in another order
            torch.testing.assert_close(left, right, rtol=0, atol=1e-12 * max(1.0, float(right.detach().abs().max())))
distributed.destroy_process_group()
"""


def test_two_processes_normalize_as_one_does(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT]
    started = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in started:
        _, errors = process.communicate(timeout=600)  # a hang ends as a failure
        assert process.returncode == 0, errors[-3000:]
