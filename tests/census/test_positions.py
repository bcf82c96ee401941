"""A mask is laid on positions that still lie as it has them, and on no others."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying

N = T = 5
MASK = (torch.arange(T) < torch.tensor([[2], [5], [1], [3], [4]])).long()


class Tokens(nn.Module):
    """relu of a layer behind ``before``, with the positions brought back by ``after``."""

    def __init__(self, before, after=lambda h: h):
        super().__init__()
        self.before, self.after, self.lin, self.out = before, after, nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x, m):
        self.h = self.after(self.lin(self.before(x)))
        return self.out(F.relu(self.h)).flatten(0, -2).mean(0, keepdim=True)


def batch():
    return {"x": torch.randn(N, T, 4), "m": MASK}


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (lambda x: x.transpose(0, 1), "time before samples"),
        (lambda x: x.permute(1, 0, 2).reshape(-1, 4), "time before samples"),
        (lambda x: x.flip(1), "flip"),
        (lambda x: torch.flip(x, (-2,)), "flip"),
        (lambda x: x.roll(1, 1), "roll"),
        (lambda x: x[MASK.sum(1).argsort()], "getitem"),
        (lambda x: x[:, torch.arange(T - 1, -1, -1)], "getitem"),
        (lambda x: x.index_select(1, torch.arange(T - 1, -1, -1)), "index_select"),
    ],
)
def test_positions_that_moved_are_refused_by_name(before, words):
    with pytest.raises(ValueError, match=f"site 'relu': the mask has samples first .*{words}"):
        undying.census(Tokens(before), batch(), mask="m")


class TimeFirst(nn.Module):
    """Takes (T, N, C), which a square batch does not show."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.lin, self.out = layer, nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x, m):
        h = (
            self.layer(x, x, x, key_padding_mask=m == 0)[0]
            if isinstance(self.layer, nn.MultiheadAttention)
            else self.layer(x)[0]
        )
        return self.out(F.relu(self.lin(h)))


@pytest.mark.parametrize(
    "layer", [nn.MultiheadAttention(4, 2), nn.GRU(4, 4), nn.LSTM(4, 4)], ids=lambda m: type(m).__name__
)
def test_time_first_is_refused_where_a_layer_shows_it(layer):
    with pytest.raises(ValueError, match="time before samples"):
        undying.census(TimeFirst(layer), batch(), mask="m")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda x: x, lambda h: h),
        (lambda x: x.transpose(0, 1), lambda h: h.transpose(1, 0)),
        (lambda x: x.transpose(1, 2).flip(1).transpose(1, 2), lambda h: h),
        (lambda x: x.flip(2), lambda h: h),
        (lambda x: nn.GRU(4, 4, batch_first=True)(x)[0], lambda h: h),
        (lambda x: nn.GRU(4, 4)(x.transpose(0, 1))[0].transpose(0, 1), lambda h: h),
        (lambda x: nn.MultiheadAttention(4, 2, batch_first=True)(x, x, x, key_padding_mask=MASK == 0)[0], lambda h: h),
        (lambda x: x.reshape(-1, 4), lambda h: h),
    ],
)
def test_positions_that_are_as_they_were_count_where_the_mask_says(before, after):
    site = undying.census(Tokens(before, after), batch(), mask="m")["relu"]
    assert site.values == int(MASK.sum())


def test_indexing_the_mask_itself_moves_no_positions():
    """As libraries make the mask of attention."""
    rows, columns = torch.arange(N)[:, None], torch.arange(T)

    def attended(x):
        kept = (MASK == 1)[rows, columns][:, None, None, :]
        return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], attn_mask=kept)[:, 0]

    assert undying.census(Tokens(attended), batch(), mask="m")["relu"].values == int(MASK.sum())


def test_a_table_of_whole_numbers_that_is_looked_up_moves_no_positions():
    """As RoBERTa finds the types of its tokens."""
    positions = torch.arange(T).expand(N, T)
    net = Tokens(lambda x: x + torch.gather(torch.zeros(N, T, dtype=torch.long), 1, positions)[..., None])
    assert undying.census(net, batch(), mask="m")["relu"].values == int(MASK.sum())


def test_counts_are_those_of_brute_force():
    net, given = Tokens(lambda x: x.transpose(0, 1), lambda h: h.transpose(0, 1)), batch()
    site = undying.census(net, given, mask="m")["relu"]
    net(**given)
    assert torch.equal(site.fired, ((net.h > 0) * MASK[..., None]).sum((0, 1)))
