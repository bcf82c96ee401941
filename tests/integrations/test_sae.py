"""Resampling of dead latents: what is written, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import undying
from undying.integrations.sae import resample_

LATENTS, WIDTH = 24, 6


class Autoencoder(nn.Module):
    def __init__(self, transposed=False):
        super().__init__()
        self.transposed = transposed
        if transposed:  # as SAELens holds them
            self.w_enc, self.w_dec = (
                nn.Parameter(torch.randn(WIDTH, LATENTS)),
                nn.Parameter(torch.randn(LATENTS, WIDTH)),
            )
            self.b_enc = nn.Parameter(torch.randn(LATENTS))
        else:
            self.encoder, self.decoder = nn.Linear(WIDTH, LATENTS), nn.Linear(LATENTS, WIDTH)

    def latents(self, x):
        return (x @ self.w_enc + self.b_enc if self.transposed else self.encoder(x)).relu()

    def forward(self, x):
        return self.latents(x) @ self.w_dec if self.transposed else self.decoder(self.latents(x))

    def parts(self):
        """(encoder, decoder, its rows by latent, its columns, its bias), each a view."""
        if self.transposed:
            return self.w_enc, self.w_dec, self.w_enc.T, self.w_dec, self.b_enc
        return self.encoder, self.decoder, self.encoder.weight, self.decoder.weight.T, self.encoder.bias


def trained(transposed):
    torch.manual_seed(0)
    net, x = Autoencoder(transposed), torch.randn(200, WIDTH)
    with torch.no_grad():
        net.parts()[4][[1, 5, 20]] = -100.0
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        (net(x) - x).square().mean().backward()
        optimizer.step()
    dead = ~(net.latents(x) > 0).any(0)
    assert dead[[1, 5, 20]].all()
    return net, optimizer, x, dead, (net(x) - x).square().sum(1)


@pytest.mark.parametrize("transposed", [False, True])
def test_dead_latents_fire_and_nothing_else_changes(transposed):
    net, optimizer, x, dead, losses = trained(transposed)
    before = copy.deepcopy(net)
    state = copy.deepcopy(optimizer.state_dict()["state"])
    encoder, decoder, rows, columns, bias = net.parts()
    done = resample_(encoder, decoder, dead, x, losses, optimizer, bias=bias if transposed else None)
    assert torch.equal(done, dead.nonzero().flatten())
    *_, old_rows, old_columns, old_bias = before.parts()
    assert torch.equal(rows[~dead], old_rows[~dead])
    assert torch.equal(columns[~dead], old_columns[~dead])
    assert torch.equal(bias[~dead], old_bias[~dead])
    torch.testing.assert_close(columns[dead].norm(dim=1), torch.ones(len(done)))
    mean = old_rows[~dead].norm(dim=1).mean()
    torch.testing.assert_close(rows[dead], 0.2 * mean * columns[dead])
    directions = nn.functional.normalize(x, dim=1)
    assert ((columns[dead] @ directions.T) > 1 - 1e-5).any(1).all()  # each is that of a sample
    assert (bias[dead] == 0).all()
    assert (net.latents(x)[:, dead] > 0).any(0).all()
    for number, parameter in enumerate(net.parameters()):
        now, then = optimizer.state_dict()["state"][number], state[number]
        assert now["step"] == then["step"]
        if parameter.shape == (WIDTH,):  # the decoder's bias
            assert torch.equal(now["exp_avg"], then["exp_avg"])
            continue
        by_latent = (lambda t: t) if parameter.shape[0] == LATENTS else (lambda t: t.T)
        for key in ("exp_avg", "exp_avg_sq"):
            assert not by_latent(now[key])[dead].any()
            assert torch.equal(by_latent(now[key])[~dead], by_latent(then[key])[~dead])
        assert not by_latent(parameter.grad)[dead].any()


def test_samples_are_drawn_by_their_squared_loss():
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(3, 4000), nn.Linear(4000, 3)
    losses = torch.tensor([1.0, 2.0, 0.0])
    resample_(encoder, decoder, torch.ones(4000, dtype=torch.bool), torch.eye(3), losses)
    shares = (decoder.weight.T == 1).double().mean(0)
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.8, 0.0], dtype=torch.float64), atol=0.03, rtol=0)


def test_what_does_not_fit_is_refused_and_nothing_changes():
    net, _, x, dead, losses = trained(False)
    before = copy.deepcopy(net.state_dict())
    other = torch.optim.SGD([net.decoder.weight], 0.1)
    square = nn.Parameter(torch.randn(LATENTS, LATENTS))
    for arguments, error in [
        ((net.encoder, net.decoder, dead[:5], x, losses), "encoder must have 5 latents"),
        ((net.encoder, net.decoder, dead.long(), x, losses), "bool mask"),
        ((net.encoder, net.decoder, dead, x[:, :3], losses), r"need inputs \(samples, 6\)"),
        ((net.encoder, net.decoder, dead, x, losses[:3]), "a loss for each"),
        ((net.encoder, net.decoder, dead, x, -losses), "at least 0"),
        ((net.encoder, net.decoder, dead, x, 0 * losses), "not all 0"),
        ((net.encoder, net.decoder, dead, x, losses, other), "does not hold 'encoder.weight'"),
        ((square, net.decoder, dead, x, losses), "encoder is square"),
    ]:
        with pytest.raises(ValueError, match=error):
            resample_(*arguments)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_since_fired_says_which():
    net, optimizer, x, _, _ = trained(False)
    named = nn.Sequential(net.encoder, nn.ReLU(), net.decoder)
    since = undying.SinceFired()
    with undying.watch(named, optimizer, every=1, sinks=since):
        for batch in x.split(50):
            optimizer.zero_grad()
            (named(batch) - batch).square().mean().backward()
            optimizer.step()
    dead = since.dead(200)["1"]
    losses = (named(x) - x).square().sum(1)
    assert set(resample_(net.encoder, net.decoder, dead, x, losses, optimizer).tolist()) >= {1, 5, 20}


def test_of_square_layers_the_memory_of_the_same_latents_is_reset():
    torch.manual_seed(0)
    encoder, decoder, x = nn.Linear(5, 5), nn.Linear(5, 5), torch.randn(60, 5)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
    (decoder(encoder(x).relu()) - x).square().mean().backward()
    optimizer.step()
    dead = torch.tensor([False, True, False, False, True])
    resample_(encoder, decoder, dead, x, torch.ones(60), optimizer)
    for weight, by_latent in ((encoder.weight, 0), (decoder.weight, 1)):
        memory = optimizer.state[weight]["exp_avg"].movedim(by_latent, 0)
        assert not memory[dead].any()
        assert memory[~dead].any(1).all()
    torch.testing.assert_close(decoder.weight.T[dead].norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("layer", ["encoder", "decoder"])
@pytest.mark.parametrize("norm", [torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.spectral_norm])
def test_a_computed_weight_is_refused(layer, norm):
    net = Autoencoder()
    norm(getattr(net, layer))
    before, dead = copy.deepcopy(net.state_dict()), torch.arange(LATENTS) < 3
    with pytest.raises(ValueError, match=f"weight of the {layer} is computed from others.*remove_parametrizations"):
        resample_(net.encoder, net.decoder, dead, torch.randn(9, WIDTH), torch.rand(9))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_samples_without_a_direction_are_not_drawn():
    net, x, losses = Autoencoder(), torch.randn(9, WIDTH), torch.full((9,), 1e-6)
    dead = torch.arange(LATENTS) < 12
    x[4], losses[4] = 0, 1e6
    resample_(net.encoder, net.decoder, dead, x, losses)
    assert (net.encoder.weight[:12].norm(dim=1) > 0).all()
    torch.testing.assert_close(net.decoder.weight[:, :12].norm(dim=0), torch.ones(12))
    for bad, reason in (
        (torch.zeros(9, WIDTH), "has no direction"),
        (torch.full((9, WIDTH), torch.nan), "must be finite"),
    ):
        before = copy.deepcopy(net.state_dict())
        with pytest.raises(ValueError, match=reason):
            resample_(net.encoder, net.decoder, dead, bad, losses)
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_rows_of_a_tied_weight_have_length_1():
    weight, dead = nn.Parameter(torch.randn(LATENTS, WIDTH) * 3), torch.arange(LATENTS) < 3
    resample_(weight, weight, dead, torch.randn(9, WIDTH), torch.rand(9))
    torch.testing.assert_close(weight[:3].norm(dim=1), torch.ones(3))
