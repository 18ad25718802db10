"""``python -m tvm_fastconv.cli`` is ``fastconv``."""

from . import main

main()
