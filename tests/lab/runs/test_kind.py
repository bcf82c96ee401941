"""A store holds runs of every kind, and says so of one that it does not know."""

import json

import pytest

from undying._base.errors import UndyingError
from undying.lab.runs.cartpole import CartPoleRun
from undying.lab.runs.kind import KINDS, Kind, kind_named, kind_of
from undying.lab.settings import AnyRun, RunConfig
from undying.lab.status import run_state
from undying.lab.store import Store

COMPARED = RunConfig(
    data="digits",
    data_sha256="0" * 64,
    model="mlp",
    activation="relu",
    seed=0,
    epochs=1,
    lr=0.01,
    optimizer="adam",
    batch_size=64,
)
PLAYED = CartPoleRun(activation="relu", seed=0, epochs=1, lr=0.0003, batch_size=64, steps=128, passes=1)


def test_every_kind_is_found_by_what_its_config_calls_it():
    for name in KINDS:
        kind = kind_named(name)
        assert isinstance(kind, Kind)
        assert issubclass(kind.config, AnyRun)
        assert kind.config.kind == name
    assert kind_of(PLAYED) is kind_named("cartpole")
    assert "kind" not in COMPARED.to_dict()  # ids of before there were kinds stay
    assert PLAYED.to_dict()["kind"] == "cartpole"


@pytest.mark.parametrize("config", [COMPARED, PLAYED], ids=["compared", "played"])
def test_a_config_is_read_back_as_what_it_was(tmp_path, config):
    folder = tmp_path / "runs" / config.id
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    assert Store(tmp_path).config(config.id) == config
    assert run_state(Store(tmp_path), config.id).status == "interrupted"


def test_an_unknown_kind_is_a_damaged_run(tmp_path):
    folder = tmp_path / "runs" / PLAYED.id
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**PLAYED.to_dict(), "kind": "chess"}))
    with pytest.raises(UndyingError, match="it is not a run's: 'chess'"):
        Store(tmp_path).config(PLAYED.id)


def test_the_store_and_a_config_bring_in_no_trainer(fresh):
    program = (
        "import sys\nimport undying.lab.store\n"
        f"print([name for name in {list(KINDS.values())!r} if name in sys.modules])"
    )
    done = fresh(program)
    assert done.stdout.strip() == "[]", done.stderr
