"""In which order of axes the operators of a kind of target want planes: the one place that says so."""

WANTED = {"llvm": "NHWC", "cuda": "NHWC"}
"""Kind of target, in TVM's words → layout. All CPUs are ``"llvm"``."""


def wanted_layout(kind: str) -> str:
    """The layout that `PlanLayout` is to plan for targets of ``kind``.

    Raises
    ------
    LookupError
        Nothing says which.
    """
    if kind not in WANTED:
        raise LookupError(
            f"no layout is known for targets of kind {kind}; known: {', '.join(sorted(WANTED))}"
        )
    return WANTED[kind]
