"""Folders of event files, written by the packages whose files they are."""

import pytest
from torch.utils.tensorboard import SummaryWriter

from undying._base.errors import UndyingError
from undying.scores import Reading, read_scores


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Two arms, six seeds, two scalars, and a folder beside the runs that holds none of them."""
    folder = tmp_path_factory.mktemp("board")
    for arm in ("relu", "gelu"):
        for seed in range(6):
            with SummaryWriter(str(folder / arm / f"seed_{seed}" / "version_0")) as writer:
                for step in (0, 10, 20):
                    writer.add_scalar("eval/return", step + seed + (5 if arm == "gelu" else 0), step)
                    writer.add_scalar("loss", 1 / (1 + step + seed), step)
    with SummaryWriter(str(folder / "hparams")) as writer:
        writer.add_text("note", "no scalar")
    return folder


def test_runs_are_folders_named_by_arm_and_seed(board):
    results = read_scores([board], Reading(metric=("eval/return",)))
    relu, gelu = results.activations
    assert {relu.name: list(relu.score.values), gelu.name: list(gelu.score.values)} == {
        "relu": [20 + seed for seed in range(6)],
        "gelu": [25 + seed for seed in range(6)],
    }
    assert relu.curves["test_eval_return"].steps == [0, 10, 20]
    assert len(results.data["sha256"]) == 64


def test_a_run_with_several_scalars_needs_a_choice(board):
    with pytest.raises(UndyingError, match="has 2 metrics; choose with --metric: eval/return, loss"):
        read_scores([board])
    assert len(read_scores([board], Reading(metric=("loss", "eval/return"))).metrics) == 2


def test_a_step_that_is_there_twice_is_refused(tmp_path):
    with SummaryWriter(str(tmp_path / "relu-seed0")) as writer:
        writer.add_scalar("loss", 1.0)
        writer.add_scalar("loss", 2.0)
    with pytest.raises(UndyingError, match=r"relu-seed0, loss, step 0: relu, seed 0 has loss at step 0 already"):
        read_scores([tmp_path])


def test_a_folder_without_event_files_and_a_single_file_are_refused(board, tmp_path):
    with pytest.raises(UndyingError, match="holds no event files"):
        read_scores([tmp_path])
    with pytest.raises(UndyingError, match="one event file; name the folder of all runs"):
        read_scores([next(board.rglob("*tfevents*"))])
