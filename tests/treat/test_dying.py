"""The case of the page on dying networks: a functional CNN that gives one answer to everything, and its cure."""

import re
from pathlib import Path

import torch

import undying

PAGE = (Path(__file__).parents[2] / "docs" / "my-network-is-dying.md").read_text(encoding="utf-8")


def test_diagnosed_treated_and_ended_as_relu_with_the_accuracy_that_the_page_states(capsys):
    blocks = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "certify" not in block]
    stated = float(re.search(r"\(the code above\) \| ([\d.]+) \[", PAGE).group(1))
    space = {}
    with torch.random.fork_rng([]):
        exec(blocks[0], space)  # ends with a constant network
        assert space["accuracy"](space["net"]) < 0.2
        relu, same = type(space["net"]).forward, space["net"]
        exec("\n".join(blocks[1:]), space)
    census = space["census"]
    assert [site.label for site in census.values()] == ["conv1 -> relu", "conv2 -> relu#2", "fc1 -> relu#3"]
    assert census["relu#2"].dead.all()
    assert space["net"] is same
    assert type(same).forward is relu
    assert {row.old for row in undying.audit(same, space["x"][:8]).rows} == {"F.relu"}
    assert 100 * space["accuracy"](same) > stated - 4
    assert space["report"].effect.largest_change == 0
    assert "of the test images are right" in capsys.readouterr().out
