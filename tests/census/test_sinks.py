"""Where records go: files that are kept, and what is no sink."""

import json
import warnings

import pytest
import torch
from torch import nn

import undying


def watched(sinks, steps=1, **settings):
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=1, sinks=sinks, **settings) as watching:
        for _ in range(steps):
            net(torch.rand(5, 4)).sum().backward()
            optimizer.step()
    return watching


def test_half_a_line_is_cut_off_and_what_is_no_number_is_text(tmp_path):
    path = tmp_path / "watch.jsonl"
    path.write_text('{"step": 0}\n{"step": 5, "gra')
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    with torch.no_grad():
        net[2].weight[0, 0] = float("nan")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with undying.watch(net, optimizer, every=1, probe=torch.ones(2, 4), sinks=[undying.JSONL(path)]):
        net(torch.rand(5, 4)).square().mean().backward()
        optimizer.step()
    first, second = undying.JSONL.read(path)
    assert first == {"step": 0}
    assert second["gradient_norm"] == "nan"
    assert second["sites"]["1"]["units"] == 8
    with path.open("a") as file:
        file.write('{"half')
    assert len(undying.JSONL.read(path)) == 2
    assert json.loads(path.read_text().splitlines()[1])["step"] == 0


@pytest.mark.parametrize("there", ["", '{"step": 0}\n', '{"step": 0}\n{"step": 1}', '{"step": 7}'])
def test_records_that_are_there_stay(tmp_path, there):
    path = tmp_path / "watch.jsonl"
    path.write_text(there)
    before = undying.JSONL.read(path)
    assert before == [json.loads(line) for line in there.split("\n") if line]
    watched(path, steps=2, first=8)
    assert [record["step"] for record in undying.JSONL.read(path)] == [*(record["step"] for record in before), 8, 9]


@pytest.mark.parametrize("half", [b"{", b'{"step"', b'{"step": 5, "gra', '{"step": 5, "died": {"é'.encode()[:-1]])
def test_a_file_that_is_half_a_record_is_begun_anew(tmp_path, half):
    path = tmp_path / "watch.jsonl"
    path.write_bytes(half)
    watched(path)
    assert [record["step"] for record in undying.JSONL.read(path)] == [0]


def test_a_file_of_other_content_is_refused_or_kept(tmp_path):
    for content in (
        b"a,b\n1,2\n",
        b"no newline",
        b"\x89PNG\r\n\x1a\n\x00",
        b"[1, 2]\n",
        b'{\n  "step": 1\n}\n',
        b"{half",
    ):
        path = tmp_path / "other"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="other holds something else than lines of JSON; give JSONL another file"):
            watched(path)
        assert path.read_bytes() == content
    path = tmp_path / "census.json"
    found = undying.census(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(4, 2))
    found.save(path)
    with pytest.warns(UserWarning, match="something else than records of watch, which are appended"):
        watched(path)
    census, record = undying.JSONL.read(path)
    assert (census, record["step"]) == (found.to_dict(), 0)


def test_a_path_and_a_sink_alone_are_understood(tmp_path):
    for given in (str(tmp_path / "a.jsonl"), tmp_path / "b.jsonl", [tmp_path / "c.jsonl", undying.Memory()]):
        watched(given)
    assert [len(undying.JSONL.read(tmp_path / f"{name}.jsonl")) for name in "abc"] == [1, 1, 1]
    memory = undying.Memory()
    watched(memory, steps=2)
    assert [record.step for record in memory] == [0, 1]


def test_what_is_no_sink_is_refused_before_training(tmp_path):
    with (tmp_path / "file").open("w") as file:
        for given in (undying.Memory, [undying.Memory], print, 3, [3], {"watch.jsonl": 1}, file, b"watch.jsonl"):
            with pytest.raises(TypeError, match=r"is no sink: give a path, undying.Memory\(\)"):
                watched(given)


def test_a_closed_file_opens_again_wherever_the_process_is_then(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sink = undying.JSONL("watch.jsonl")
    watched(sink)
    monkeypatch.chdir("/")
    watched(sink)
    assert [record["step"] for record in undying.JSONL.read(tmp_path / "watch.jsonl")] == [0, 0]


def test_a_watch_that_was_left_open_does_not_write_each_record_twice(tmp_path):
    net, memory = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), undying.Memory()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for sink in (memory, tmp_path / "watch.jsonl"):
        left_open = undying.watch(net, optimizer, every=1, sinks=sink)
        with pytest.raises(ValueError, match=r"an earlier watch of this Sequential is open .* close\(\) that one"):
            undying.watch(net, optimizer, every=1, sinks=sink)
        other = undying.watch(net, optimizer, every=1, sinks=undying.Memory())
        left_open.close()
        other.close()
        with undying.watch(net, optimizer, every=1, sinks=sink):
            net(torch.rand(5, 4)).sum().backward()
            optimizer.step()
    assert [record.step for record in memory] == [0]
    assert [record["step"] for record in undying.JSONL.read(tmp_path / "watch.jsonl")] == [0]


def test_a_sink_that_fails_does_not_end_training():
    class Full:
        def write(self, record):
            raise OSError("disk full")

        def close(self):
            raise OSError("still full")

    memory = undying.Memory()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        watched([Full(), memory], steps=2)
    assert [record.step for record in memory] == [0, 1]
    texts = [str(warning.message) for warning in said]
    assert {warning.filename for warning in said} == {__file__}  # the user's line, wherever in the watch it is said
    assert [text.split(": ", 1)[1] for text in texts] == [
        "Full did not take the record of step 0: OSError: disk full",  # and of each later one the same
        "Full could not be closed: OSError: still full",
    ]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "watch.jsonl"
    path.write_text('{"step": 0}\n{"step": 1, "cens\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"watch\.jsonl: line 2 is no record"):
        undying.JSONL.read(path)


def test_what_a_prompt_shows_of_records_is_short():
    memory = undying.Memory()
    assert repr(memory) == "Memory(no record)"
    watched(memory, steps=5, probe=torch.randn(20, 4))
    last = memory[-1]
    assert repr(memory).startswith("Memory(5 records, steps 0 to 4; the last: Record(step 4: 1 site, 8 units")
    assert len(repr(memory)) < 400
    assert f"{100 * last.probe.silent_fraction:.1f} % silent on the probe" in repr(last)
    assert f"{sum(map(len, last.died.values()))} died" in repr(last)
    change = undying.Changes(
        *(torch.tensor(units) for units in ([True, True, False], [False] * 3, [False, False, True]))
    )
    assert repr(change) == "2 died: 0-1; 0 revived; 1 still silent: 2"
