"""The binary convolution example of CNTK: a binary CNN for CIFAR-10, with its first and last layer in floats."""

from ..data.augment import Augmentation
from ..running import Job, Settings


def binary_conv_net(
    data: str = "cifar10",
    binary: bool = True,
    *,
    epochs: int = 100,
    batch_size: int = 128,
    width: int = 128,
    progressive: bool = False,
    devices: int = 1,
    nodes: int = 1,
) -> Job:
    """BinaryNet's convolutional network; ``fastconv compile`` swaps every binary layer for the operator on bits.

    One machine::

        fastconv train cifar10 binary_conv_net --method binary --epochs 100 --crop 4 --flip -o binary
        fastconv compile binary/best.ckpt -o binary.so && fastconv eval binary.so --data cifar10

    Several GPUs or machines: ``--devices``, ``--nodes`` and ``torchrun``, as in `lookup_alexnet`.

    Parameters
    ----------
    data, epochs, batch_size, width, devices, nodes
        See `load_data`, `Settings` and `BinaryConvNet`.
    binary
        Whether the inner layers are binary.
    progressive
        From floats to binary inputs to binary weights.
    """
    return Job(
        data=data,
        network="binary_conv_net",
        options={"width": width},
        methods="binary" if binary else None,
        settings=Settings(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=1e-3,
            progressive=progressive,
            devices=devices,
            nodes=nodes,
            augmentation=Augmentation(crop=4, flip=True),
        ),
    )
