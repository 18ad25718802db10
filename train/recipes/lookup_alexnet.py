"""LCNN's AlexNet (Bagherinezhad et al., arXiv:1611.06473), as tf-lcnn trained it on MNIST and ImageNet."""

from ..data.augment import Augmentation
from ..running import Job, Settings

REFERENCE_BATCH = 256
"""What the learning rate is for; with more processes and larger batches it is scaled."""


def lookup_alexnet(
    data: str = "mnist",
    preset: str | None = "lcnn-fast",
    *,
    epochs: int = 65,
    batch_size: int = 256,
    learning_rate: float = 0.01,
    warmup: float = 5.0,
    size: int = 224,
    width: float = 1.0,
    devices: int = 1,
    nodes: int = 1,
    precision: str = "32-true",
) -> Job:
    r"""AlexNet with lookups in all layers but the last; without ``preset`` the dense network.

    One machine::

        fastconv train mnist alexnet --method lcnn-fast --size 224 --epochs 65 --batch-size 256 --optimizer sgd \\
            --learning-rate 0.01 --reference-batch 256 --warmup 5 --weight-decay 5e-4 -o lcnn-fast

    Four GPUs: add ``--devices 4 --batch-size 1024``. Two machines of four: the same under
    ``torchrun --nnodes 2 --nproc-per-node 4 ... -m tvm_fastconv.cli train`` with ``--devices 4 --nodes 2``.

    Parameters
    ----------
    data
        See `load_data`; ``imagenet-1k`` is the paper's.
    preset
        ``lcnn-fast`` or ``lcnn-accurate``.
    epochs, batch_size, learning_rate, warmup, size, width, devices, nodes, precision
        See `Settings` and `AlexNet`.
    """
    return Job(
        data=data,
        network="alexnet",
        options={"width": width},
        methods=preset,
        size=size,
        settings=Settings(
            epochs=epochs,
            batch_size=batch_size,
            optimizer="sgd",
            learning_rate=learning_rate,
            reference_batch=REFERENCE_BATCH,
            weight_decay=5e-4,
            warmup=warmup,
            precision=precision,
            devices=devices,
            nodes=nodes,
            augmentation=Augmentation(flip=data == "imagenet-1k", crop=8),
        ),
    )
