"""The losses of dead latents against their sources, written out sample by sample in float64."""

import torch
from torch import nn

from undying.lab.autoencoders.dead import auxk_loss, ghost_loss
from undying.lab.autoencoders.model import SparseAutoencoder, TopK

DEAD = torch.tensor([1, 4, 6])


def setting():
    torch.manual_seed(0)
    sae = SparseAutoencoder(4, 8, nn.ReLU()).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    before = sae.encoder(x)
    residual = x - sae.decoder(torch.relu(before))
    return sae, before, residual


def gradients(sae, loss):
    return torch.autograd.grad(loss, [sae.encoder.weight, sae.decoder.weight], retain_graph=True)


def test_ghost_gradients():
    sae, before, residual = setting()
    fixed = residual.detach()
    parts = []
    for sample in range(5):
        given = sum(before[sample, j].exp() * sae.decoder.weight[:, j] for j in DEAD.tolist())
        scale = (fixed[sample].norm() / (2 * given.norm())).detach()
        parts.append((given * scale - fixed[sample]).square())
    loss = torch.stack(parts).mean()
    error = fixed.square().mean()
    expected = loss * (error / loss.detach())
    found = ghost_loss(sae, before, residual, DEAD)
    torch.testing.assert_close(found, error, rtol=1e-4, atol=0)  # as large as the reconstruction's
    for mine, theirs in zip(gradients(sae, found), gradients(sae, expected), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-9)
    encoder, decoder = gradients(sae, found)
    assert torch.equal(encoder.any(1).nonzero().flatten(), DEAD)
    assert torch.equal(decoder.any(0).nonzero().flatten(), DEAD)


def test_ghosts_far_from_firing_neither_vanish_nor_overflow():
    sae, before, residual = setting()
    for shift in (-2000.0, 2000.0):
        loss = ghost_loss(sae, before + shift, residual, DEAD)
        encoder, decoder = gradients(sae, loss)
        assert encoder.isfinite().all()
        assert encoder[DEAD].any()
        assert decoder[:, DEAD].isfinite().all()
        assert decoder[:, DEAD].any()


def test_the_auxiliary_loss():
    sae, before, residual = setting()
    fixed = residual.detach()
    parts = []
    for sample in range(5):
        largest = sorted(DEAD.tolist(), key=lambda j: -float(before[sample, j].detach()))[:2]  # half of the four inputs
        given = sum(torch.relu(before[sample, j]) * sae.decoder.weight[:, j] for j in largest)
        parts.append((given - fixed[sample]).square())
    expected = torch.stack(parts).mean() / 32
    found = auxk_loss(sae, before, residual, DEAD)
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(gradients(sae, found), gradients(sae, expected), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_topk_keeps_the_largest_that_are_above_0():
    x = torch.tensor([[3.0, -1.0, 2.0, 1.0], [-3.0, -1.0, 0.5, -2.0]])
    assert TopK(2)(x).tolist() == [[3, 0, 2, 0], [0, 0, 0.5, 0]]


def test_decoder_columns_have_length_1():
    sae = SparseAutoencoder(4, 8, nn.ReLU())
    with torch.no_grad():
        sae.decoder.weight.mul_(torch.rand(8) + 0.5)
    direction = nn.functional.normalize(sae.decoder.weight.detach(), dim=0)
    sae.normalize()
    torch.testing.assert_close(sae.decoder.weight.detach(), direction)
