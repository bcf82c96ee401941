"""Sites and positions that watch leaves out of a step: each is named, and the others are counted."""

import pytest
import torch
from torch import nn

import undying


class Head(nn.Module):
    """A unit a proposal, of which there are as many as ``proposals`` says."""

    def __init__(self, proposals):
        super().__init__()
        self.linear, self.act, self.scores = nn.Linear(4, 8), nn.ReLU(), nn.ReLU()
        self.proposals = iter(proposals)

    def forward(self, x):
        h = self.act(self.linear(x))
        n = next(self.proposals, 1)
        self.scores(torch.ones(5, n))
        return h


@pytest.mark.parametrize("passes", [1, 2])
def test_a_site_whose_count_of_units_varies_is_left_out_by_name(passes):
    memory = undying.Memory()
    with undying.watch(net := Head([3, 5, 3, 7]), every=1, sinks=memory) as watching:
        for step in range(4 // passes):
            for _ in range(passes):
                net(torch.rand(6, 4))
            if step + passes == 2:
                with pytest.warns(UserWarning, match="left out: scores: .*had 3 units in one .* and 5 in another"):
                    watching.step()
            else:
                watching.step()
    assert ["scores" in {site.name for site in record.census.sites} for record in memory][2 - passes :] == [False] * (
        4 // passes - 2 + passes
    )
    assert all("5 in another" in record.to_dict()["left_out"]["scores"] for record in memory[2 - passes :])
    assert all(record.census["act"].samples == 6 * passes for record in memory)


def test_what_skip_names_is_left_out_and_what_names_nothing_is_said():
    x, memory = torch.rand(6, 4), undying.Memory()
    with undying.watch(net := Head([3] * 3), every=1, sinks=memory, skip="sco*", probe=x) as watching:
        net(x)
        watching.step()
    assert [site.name for site in memory[0].census.sites] == [site.name for site in memory[0].probe.sites] == ["act"]
    assert memory[0].left_out == {"scores": "skipped, as it matches 'sco*'"}
    with undying.watch(net, every=1, skip=["head*", "scores"], axes={"act#2": 1}) as watching:
        net(x)
        with pytest.warns(UserWarning, match="no site; sites: act, scores") as said:
            watching.step()
    assert [str(warning.message) for warning in said] == [
        "watch: skip='head*' matches no site; sites: act, scores",
        "watch: axes names 'act#2', which is no site; sites: act, scores",
    ]


def test_units_on_the_probe_are_compared_where_it_still_reaches_them():
    net = Head([3, 1, 4, 1, 3])
    net.linear.weight.data.abs_()
    net.linear.bias.data.zero_()
    x, memory = torch.rand(6, 4), undying.Memory()
    with undying.watch(net, every=1, sinks=memory, probe=x) as watching:
        for unit in range(2):
            net(x)
            net.linear.bias.data[unit] = -100.0
            if unit == 0:
                with pytest.warns(UserWarning, match="probe does not reach the same units as before; .* at scores"):
                    watching.step()
        x += 1
        with pytest.warns(UserWarning, match="the probe holds other numbers than before"):
            watching.step()
    assert [record.died for record in memory] == [{"act": [0]}, {}]
    assert memory[1].probe["act"].silent.tolist()[:2] == [True, True]


class Tokens(nn.Module):
    """Every unit fires on the padding token 0, three of six on nothing else."""

    def __init__(self):
        super().__init__()
        self.embed, self.lin, self.act = nn.Embedding(10, 4), nn.Linear(4, 6), nn.ReLU()
        with torch.no_grad():
            self.embed.weight.zero_()[0, 0] = 1.0
            self.lin.weight.zero_()[:, 0] = 5.0
            self.lin.bias.copy_(torch.tensor([-1.0, -1, -1, 1, 1, 1]))

    def forward(self, ids, attention_mask=None):
        return self.act(self.lin(self.embed(ids)))

    def training_step(self, batch, number):
        return self(batch["ids"]).sum()


MASK = (torch.arange(7) < torch.tensor([[3], [5], [6], [2]])).long()
BATCH = {"ids": torch.randint(1, 10, (4, 7)) * MASK, "attention_mask": MASK}


@pytest.mark.parametrize(
    ("mask", "run", "settings"),
    [
        ("attention_mask", lambda net: net(**BATCH), {"probe": BATCH}),
        ("attention_mask", lambda net: net(BATCH["ids"], MASK), {}),
        ("attention_mask", lambda net: net.training_step(BATCH, 0), {"method": "training_step"}),
        (lambda batch: batch["ids"] != 0, lambda net: net(**BATCH), {"probe": BATCH}),
        (lambda batch: batch != 0, lambda net: net(BATCH["ids"]), {"probe": BATCH["ids"]}),
        (lambda batch: batch[1], lambda net: net(BATCH["ids"], MASK), {}),
    ],
)
def test_padding_is_left_out_as_in_the_census(mask, run, settings):
    net, memory = Tokens(), undying.Memory()
    with undying.watch(net, every=1, sinks=memory, mask=mask, **settings) as watching:
        run(net)
        watching.step()
    for counted in (memory[0].census, memory[0].probe):
        if counted is not None:
            assert counted["act"].silent.tolist() == [True] * 3 + [False] * 3
            assert int(counted["act"].fired[3]) == int(MASK.sum())


def test_a_pass_without_its_mask_is_said():
    net, memory = Tokens(), undying.Memory()
    with undying.watch(net, every=1, sinks=memory, mask="padding") as watching:
        with pytest.warns(UserWarning, match="a forward pass is not counted: mask='padding', but the batch has 'ids'"):
            net(BATCH["ids"])
        watching.mask = "attention_mask"
        net(BATCH["ids"], attention_mask=None)  # the model takes every token for one
        watching.step()
        for mask, reason in ((MASK * 0, "the mask leaves no value"), (MASK[:, :3], "site 'act', input .* mask")):
            net(BATCH["ids"], mask)
            with (
                pytest.warns(UserWarning, match="no activation"),
                pytest.warns(UserWarning, match=f"left out: act: {reason}"),
            ):
                watching.step()
            watching._said.clear()
    assert [record.step for record in memory] == [0]
    assert not memory[0].census["act"].silent.any()
