"""tensorflow-xnor-bnn's experiment: a fully connected binary network, first and last layer in floats."""

from ..running import Job, Settings


def xnor_mlp(
    data: str = "mnist",
    binary: bool = True,
    *,
    hidden: int = 512,
    layers: int = 3,
    epochs: int = 2,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Job:
    """BinaryNet's MLP; 1 000 steps of 128 images are two epochs of MNIST.

    Its options here: hidden units are ``hidden``, the batch, the rate and binary on or off are of that name; the folder
    of ``run_job`` is the log directory, and every epoch is evaluated. One machine::

        fastconv train mnist binary_mlp --method binary --option hidden=512 --epochs 2 --learning-rate 1e-3 -o xnor

    Parameters
    ----------
    data, epochs, batch_size, learning_rate, seed
        See `load_data` and `Settings`.
    binary
        Whether the hidden layers between the first and the last are binary.
    hidden, layers
        See `BinaryMlp`.
    """
    return Job(
        data=data,
        network="binary_mlp",
        options={"hidden": hidden, "layers": layers, "activation": "none" if binary else "relu"},
        methods="binary" if binary else None,
        settings=Settings(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed),
    )
