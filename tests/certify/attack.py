"""An attack on certificates by a forward pass of its own, and networks to attack."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

import undying
from undying import certify


def pre_activations(net, x, kinds=(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, undying.SUGAR, undying.BAReLU)):
    """{site: input of each activation module's call}, gathered by plain hooks."""
    seen, counts, handles = {}, {}, []

    def hook(name):
        def record(_, args):
            counts[name] = counts.get(name, 0) + 1
            seen[name if counts[name] == 1 else f"{name}#{counts[name]}"] = args[0].clone()

        return record

    for name, module in net.named_modules():
        if isinstance(module, kinds):
            handles.append(module.register_forward_pre_hook(hook(name)))
    net(x)
    for handle in handles:
        handle.remove()
    return seen


def by_unit(x):
    """(samples and positions, units) of an (N, C, ...) tensor."""
    return x.movedim(1, -1).flatten(0, -2)


def inputs_in(box, generator=None, n=64):
    """Random points, random corners, and points with a few coordinates at an end."""
    low, high = box.low.clamp(min=-1e4), box.high.clamp(max=1e4)
    u = torch.rand(n, *low.shape[1:], generator=generator, dtype=torch.float64)
    corners = (torch.rand(u.shape, generator=generator) < 0.5).double()
    mixed = torch.where(torch.rand(u.shape, generator=generator) < 0.5, corners, u)
    return low + torch.cat([u, corners, mixed, torch.zeros_like(u[:1]), torch.ones_like(u[:1])]) * (high - low)


def within(box, x, dtype):
    """``x`` in the network's type, and still in the box."""
    low, high = box.low.to(dtype), box.high.to(dtype)
    assert torch.equal(low.double(), box.low)
    assert torch.equal(high.double(), box.high)
    return torch.minimum(torch.maximum(x.to(dtype), low), high)


def ascend(net, box, site, units, starts, steps=8):
    """Projected sign-gradient ascent, in float64, on the largest value of each unit, from each start."""
    width = box.high - box.low
    x = starts.repeat_interleave(len(units), 0)
    targets = units.repeat(len(starts))
    for i in range(steps):
        x = x.detach().requires_grad_()
        values = pre_activations(net, x)[site]
        peaks = values.movedim(1, -1).flatten(1, -2).amax(1) if values.dim() > 2 else values
        (gradient,) = torch.autograd.grad(peaks[torch.arange(len(x)), targets].sum(), x)
        x = torch.minimum(torch.maximum(x + width * gradient.sign() * 0.7 / (1 + i), box.low), box.high)
    return x.detach()


def check(net, box, seed=0, dtypes=(torch.float32, torch.float64)):
    """The certificate of a network, after an attack on it."""
    net.eval()
    certificate = certify(net, box)
    assert all(site.reached for site in certificate.sites)
    generator = torch.Generator().manual_seed(seed)
    batches = [inputs_in(box, generator)]
    wide = copy.deepcopy(net).double()
    for site in certificate.sites:
        units = site.dead.nonzero().flatten()[:6]
        if len(units):
            batches.append(ascend(wide, box, site.name, units, batches[0][[0, 70]]))
    for dtype in dtypes:
        seen = pre_activations(copy.deepcopy(net).to(dtype), within(box, torch.cat(batches), dtype))
        assert seen.keys() == {site.name for site in certificate.sites}
        for site in certificate.sites:
            values = by_unit(seen[site.name]).double()
            assert (values[:, site.dead] <= 0).all(), site.name
            assert (values <= site.upper).all(), site.name
            assert (values >= site.lower).all(), site.name
    # What fires at the centre is not certified, whatever the bounds.
    centre = within(box, (box.low.clamp(-1e4) + box.high.clamp(max=1e4)) / 2, torch.float32)
    for name, value in pre_activations(copy.deepcopy(net).float(), centre).items():
        assert not (certificate[name].dead & (by_unit(value) > 0).any(0)).any()
    return certificate


def scatter_biases(net, generator):
    """Spread the biases, so that some units cannot fire, some barely and some always do."""
    with torch.no_grad():
        for module in net.modules():
            if getattr(module, "bias", None) is not None:
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 2)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator))
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.1)
                if module.affine:
                    module.weight.copy_(torch.randn(module.weight.shape, generator=generator))
    return net.eval()


ACTIVATIONS = [nn.ReLU, undying.SUGAR, nn.ReLU6, undying.BAReLU, lambda: nn.ReLU(inplace=True), nn.GELU, nn.SiLU]


class Residual(nn.Module):
    def __init__(self, width, act):
        super().__init__()
        self.conv, self.act, self.last = nn.Conv2d(width, width, 3, padding=1), act, type(act)()

    def forward(self, x):
        return self.last(self.act(self.conv(x)) + x)


class Parallel(nn.Module):
    def __init__(self, width, act):
        super().__init__()
        self.one, self.two, self.act = nn.Conv2d(width, 3, 1), nn.ConvTranspose2d(width, 2, 3, padding=1), act

    def forward(self, x):
        return self.act(torch.cat([self.one(x), -self.two(x)], 1))


def bias_at(module, *units):
    """Make some units impossible, and let the others fire."""
    with torch.no_grad():
        module.bias.fill_(10.0)
        module.bias[list(units)] = -1e6
    return module


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(3, 5), nn.Linear(5, 7), nn.ReLU(inplace=True)
        self.alias = self.act

    def forward(self, x):
        return F.relu(self.alias(self.b(self.act(self.a(x)))) - 1).relu_()


class Ends(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.a, self.act, self.b, self.act2, self.step = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), step

    def forward(self, x):
        x = self.act(self.a(x))
        return self.act2(self.b(self.step(x)))
