"""Jobs: what does not fit together is said before anything is trained."""

from pathlib import Path

import pytest

from tvm_fastconv.errors import TrainError
from tvm_fastconv.train.models import make_model
from tvm_fastconv.train.running import Checkpoint, Job, Settings, run_job, save_checkpoint

pytest.importorskip("lightning_fabric")
pytest.importorskip("sklearn")


@pytest.mark.parametrize("name", ["name", "classes", "size", "methods"])
def test_options_of_a_network_are_not_what_the_job_says_itself(name: str) -> None:
    with pytest.raises(TrainError, match=f"'{name}' is no option of a network"):
        run_job(Job(data="digits", network="digits_net", options={name: 3}))


def test_images_of_one_size_are_not_brought_to_another() -> None:
    with pytest.raises(TrainError, match="digits has images of 8×8, which stay so; size is 28"):
        run_job(Job(data="digits", network="lenet5", size=28))


@pytest.mark.parametrize("what", ["the teacher", "the network to compress"])
def test_a_network_for_other_images_is_refused(tmp_path: Path, what: str) -> None:
    network = {"name": "lenet5", "classes": 10, "channels": 1, "size": 28}
    state, path = make_model(**network).state_dict(), tmp_path / "other.ckpt"
    settings = Settings().as_dict()
    save_checkpoint(
        Checkpoint(data="mnist", network=network, structure={}, state=state, settings=settings), path
    )
    given = {"teacher": path} if what == "the teacher" else {"compress_from": path, "methods": "cp"}
    with pytest.raises(
        TrainError, match=f"{what} is for mnist, whose images or classes are other than digits'"
    ):
        run_job(Job(data="digits", network="digits_net", **given))
