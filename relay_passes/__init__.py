"""Graph passes. The graph IR is Relax, which replaced Relay in TVM 0.20; the folder keeps the older name.

Every pass is an ordinary ``tvm.transform`` pass on any Relax module. Importing this package registers the pipeline
``"fastconv"``: ``tvm.compile(mod, target, relax_pipeline="fastconv")``.
"""

from tvm_fastconv.topi.build_operator import PASS_CONFIG

from .pipeline import fastconv_pipeline, graph_passes, schedule_passes

__all__ = ["PASS_CONFIG", "fastconv_pipeline", "graph_passes", "schedule_passes"]
