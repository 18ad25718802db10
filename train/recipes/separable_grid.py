"""The notebook "Speeding up Convolutional Neural Networks": three networks with their convolutions in four forms."""

from ..data.augment import Augmentation
from ..models.all_cnn import form_methods
from ..running import Job, Settings

NETWORKS = {"all_cnn_c": "all_cnn_c", "wider": "wider_all_cnn", "adequately_designed": "adequately_designed"}
"""Plan to the network's name."""


def separable_grid(
    plan: str,
    form: str,
    data: str = "cifar100",
    *,
    epochs: int = 50,
    batch_size: int = 32,
    width: float = 1.0,
    devices: int = 1,
    nodes: int = 1,
) -> Job:
    r"""One cell of the grid, with the notebook's SGD: rate 0.01, momentum 0.8, decay 0.001.

    One machine, for All-CNN-C with factorised convolutions::

        fastconv train cifar100 all_cnn_c --method fac --epochs 50 --batch-size 32 --optimizer sgd \\
            --schedule constant --learning-rate 0.01 --momentum 0.8 --weight-decay 0.001 -o fac

    Several GPUs or machines: ``--devices``, ``--nodes`` and ``torchrun``, as in `lookup_alexnet`.

    Parameters
    ----------
    plan
        One of `NETWORKS`.
    form
        One of `all_cnn.FORMS`.
    data, epochs, batch_size, width, devices, nodes
        See `load_data`, `Settings` and `AllCnn`.
    """
    return Job(
        data=data,
        network=NETWORKS[plan],
        options={"width": width},
        methods=form_methods(plan, form, width),
        settings=Settings(
            epochs=epochs,
            batch_size=batch_size,
            optimizer="sgd",
            learning_rate=0.01,
            momentum=0.8,
            weight_decay=1e-3,
            schedule="constant",
            devices=devices,
            nodes=nodes,
            augmentation=Augmentation(flip=True, crop=2),
        ),
    )
