"""fxnn's claim: fixed stencils learn faster than free 3×3 convolutions, at equal iterations and architecture."""

from ..running import Job, Settings

BATCH = 64


def fixed_stencils(
    data: str = "mnist", fixed: bool = True, *, epochs: int = 11, width: int = 16, seed: int = 0
) -> Job:
    """The plain network, or the same with `FixedStencilConv2d` for every inner 3×3 convolution.

    fxnn's 10 000 iterations are 11 epochs of MNIST; the errors of every epoch are in ``metrics.csv``. One machine::

        fastconv train mnist fxnn --method fixed --epochs 11 --batch-size 64 --learning-rate 1e-3 -o fixed
        fastconv train mnist fxnn --epochs 11 --batch-size 64 --learning-rate 1e-3 -o plain

    Parameters
    ----------
    data, epochs, width, seed
        See `load_data`, `Settings` and `Fxnn`.
    fixed
        Whether to use the stencils.
    """
    settings = Settings(epochs=epochs, batch_size=BATCH, learning_rate=1e-3, seed=seed)
    return Job(
        data=data,
        network="fxnn",
        options={"width": width},
        methods="fixed" if fixed else None,
        settings=settings,
    )
