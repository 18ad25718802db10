"""The processors of 64 bits that the table has, by LLVM's names."""

from tvm_fastconv.topi.arm_machines import ARM_ROWS
from tvm_fastconv.topi.x86_machines import X86_ROWS

ROWS = X86_ROWS | ARM_ROWS
