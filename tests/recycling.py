"""Networks with planted deaths, and what is asked of them before and after recycling."""

import torch
import torch.nn.functional as F
from torch import nn

import undying


def expected_slices(net):
    """Of ``mlp`` by hand: rows of what makes the planted units, and what weighs them and is no such row."""
    where = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in net.named_parameters()}
    where["0.weight"][[1, 4]] = True
    where["0.bias"][[1, 4]] = True
    where["2.weight"][[0, 5, 8]] = True
    where["2.weight"][:, [1, 4]] = True
    where["2.bias"][[0, 5, 8]] = True
    where["4.weight"][:, [0, 5, 8]] = True
    return where


def stepped(net, *optimizers):
    """One step with gradients everywhere, after which the planted units are still silent."""
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    for optimizer in optimizers:
        optimizer.step()


class Net(nn.Module):
    """A forward given as a function of the network and its input."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.run = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.run(self, x)


def die(parameter, *units):
    """Plant a death: a bias so low that nothing brings the unit above 0."""
    with torch.no_grad():
        parameter[list(units)] = -1e4
    return parameter


def output(net, x):
    net.eval()
    with torch.no_grad():
        return net(x)


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in b)


def mlp():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 9), nn.ReLU(), nn.Linear(9, 3))
    die(net[0].bias, 1, 4)
    die(net[2].bias, 0, 5, 8)
    return net, torch.randn(40, 6), {"1": [1, 4], "3": [0, 5, 8]}


def all_dead():
    net = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    die(net[0].bias, *range(4))
    die(net[2].bias, *range(4))
    return net, torch.randn(40, 6), {"1": [0, 1, 2, 3], "3": [0, 1, 2, 3]}


def functional_cnn():
    def forward(net, x):
        x = F.max_pool2d(F.relu(net.conv1(x)), 2)
        x = F.avg_pool2d(net.conv2(x).relu_(), 2)
        return net.fc2(F.dropout(torch.relu(net.fc1(torch.flatten(x, 1))), training=net.training))

    conv1, conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
    net = Net(forward, conv1=conv1, conv2=conv2, fc1=nn.Linear(20, 7), fc2=nn.Linear(7, 4))
    die(net.conv1.bias, 0, 5)
    die(net.conv2.bias, 3)
    die(net.fc1.bias, 2, 6)
    return net, torch.randn(9, 3, 8, 8), {"relu": [0, 5], "relu#2": [3], "relu#3": [2, 6]}


def batch_normed():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3, bias=False),
        nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4),
    )  # fmt: skip
    net(torch.randn(20, 3, 8, 8))
    die(net[1].bias, 1, 2)
    die(net[4].bias, 0)
    return net, torch.randn(9, 3, 8, 8), {"2": [1, 2], "5": [0]}


def depthwise():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), nn.ReLU6(),
        nn.Conv2d(6, 2, 1),
    )  # fmt: skip
    die(net[1].bias, 1, 2)
    die(net[4].bias, 2, 5)
    return net, torch.randn(9, 3, 8, 8), {"2": [1, 2], "5": [2, 5]}


def grouped():
    net = nn.Sequential(
        nn.Conv1d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv1d(6, 9, 3, groups=3), nn.ReLU(), nn.Conv1d(9, 2, 1)
    )
    die(net[0].bias, 1, 3)
    die(net[2].bias, 4, 8)
    return net, torch.randn(9, 4, 12), {"1": [1, 3], "3": [4, 8]}


def transposed():
    net = nn.Sequential(
        nn.ConvTranspose2d(3, 6, 3, stride=2, groups=3), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, groups=2), nn.ReLU(),
        nn.ConvTranspose2d(4, 2, 3),
    )  # fmt: skip
    die(net[0].bias, 1, 4)
    die(net[2].bias, 0, 3)
    return net, torch.randn(9, 3, 4, 4), {"1": [1, 4], "3": [0, 3]}


def volumes():
    net = nn.Sequential(nn.Conv3d(1, 4, 2), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(4, 2))
    die(net[0].bias, 1, 2)
    return net, torch.randn(9, 1, 3, 3, 3), {"1": [1, 2]}


def concatenated():
    def forward(net, x):
        h = torch.cat([F.relu(net.a(x)), F.relu(net.b(x))], 1)
        return net.c(F.channel_shuffle(h, 2)).flatten(1)

    net = Net(forward, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(3, 2, 1), c=nn.Conv2d(6, 5, 3))
    die(net.a.bias, 1)
    die(net.b.bias, 0)
    return net, torch.randn(9, 3, 5, 5), {"relu": [1], "relu#2": [0]}


def dense():
    """As in densenet: what is concatenated is read by all that follow, so that of the norm alone rows are reset."""

    def forward(net, x):
        y = net.conv1(F.relu(net.norm1(x)))
        y = torch.cat([x, y], 1)
        return net.fc(F.relu(net.norm2(y)).mean((2, 3)))

    net = Net(forward, norm1=nn.BatchNorm2d(4), conv1=nn.Conv2d(4, 3, 1), norm2=nn.BatchNorm2d(7), fc=nn.Linear(7, 2))
    die(net.norm1.bias, 2)
    die(net.norm2.bias, 0, 6)
    return net, torch.randn(9, 4, 3, 3), {"relu": [2], "relu#2": [0, 6]}


def layer_normed():
    net = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
    die(net[1].bias, 1, 4)
    return net, torch.randn(9, 5, 6), {"2": [1, 4]}


def group_normed():
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 2, 1))
    die(net[1].bias, 1, 4)
    return net, torch.randn(9, 3, 5, 5), {"2": [1, 4]}


def residual():
    def forward(net, x):
        h = net.stem(x)
        h = F.relu(net.norm(net.conv(F.relu(h))) + net.skip(h))
        return net.fc(h.mean((-2, -1)))

    modules = {"stem": nn.Conv2d(3, 5, 1), "conv": nn.Conv2d(5, 4, 3, padding=1), "norm": nn.BatchNorm2d(4)}
    net = Net(forward, **modules, skip=nn.Conv2d(5, 4, 1), fc=nn.Linear(4, 2))
    die(net.norm.bias, 1, 3)
    return net, torch.randn(9, 3, 5, 5), {"relu#2": [1, 3]}


def shared_module():
    def forward(net, x):
        for _ in range(2):
            x = net.down(net.act(net.up(x)))
        return x

    net = Net(forward, up=nn.Linear(4, 6), act=nn.ReLU(), down=nn.Linear(6, 4))
    die(net.up.bias, 2, 3)
    return net, torch.randn(30, 4), {"act": [2, 3], "act#2": [2, 3]}


def by_hand():
    def forward(net, x):
        h = F.relu(x @ net.w1 + net.b1)
        return torch.addmm(net.b2, F.relu(F.linear(h, net.w3.t(), net.b3)), net.w2)

    net = Net(forward)
    for name, shape in {"w1": (4, 6), "b1": (6,), "w3": (6, 5), "b3": (5,), "w2": (5, 3), "b2": (3,)}.items():
        net.register_parameter(name, nn.Parameter(torch.randn(shape)))
    die(net.b1, 2, 3)
    die(net.b3, 0)
    return net, torch.randn(30, 4), {"relu": [2, 3], "relu#2": [0]}


def split():
    def forward(net, x):
        a, b = net.fc(x).chunk(2, -1)
        return net.out(F.relu(a)) + net.other(torch.stack([F.relu(b)], 1).squeeze(1))

    net = Net(forward, fc=nn.Linear(4, 6), out=nn.Linear(3, 2), other=nn.Linear(3, 2))
    die(net.fc.bias, 1, 5)
    return net, torch.randn(30, 4), {"relu": [1], "relu#2": [2]}


def converted():
    net, x, _ = functional_cnn()
    undying.convert_(net, undying.SUGAR(), functional=True, example=x)
    return net, x, {"undying_relu": [0, 5], "undying_relu#2": [3], "undying_relu#3": [2, 6]}


def shuffled():
    """Channels are shuffled by reshaping, and one of two halves passes by."""

    def forward(net, x):
        a, b = net.stem(x).chunk(2, 1)
        h = torch.cat([a, F.relu(net.conv(b))], 1)
        h = h.view(len(x), 2, 4, 5, 5).transpose(1, 2).contiguous().view(len(x), 8, 5, 5)
        return net.last(h[:, 1:]).flatten(1)

    net = Net(forward, stem=nn.Conv2d(3, 8, 1), conv=nn.Conv2d(4, 4, 3, padding=1), last=nn.Conv2d(7, 2, 2))
    die(net.conv.bias, 0, 3)
    return net, torch.randn(9, 3, 5, 5), {"relu": [0, 3]}


def gated():
    """As in squeeze and excitation."""

    def forward(net, x):
        h = net.conv(x)
        gate = torch.sigmoid(net.up(F.relu(net.down(h.mean((2, 3))))))
        return net.last((h * gate[:, :, None, None]).amax((2, 3)))

    net = Net(forward, conv=nn.Conv2d(3, 6, 1), down=nn.Linear(6, 4), up=nn.Linear(4, 6), last=nn.Linear(6, 2))
    die(net.down.bias, 2)
    return net, torch.randn(9, 3, 5, 5), {"relu": [2]}


def sliced_parameters():
    """Rows 4 and 5 of one parameter are units 1 and 2."""

    def forward(net, x):
        return net.last(F.relu(F.linear(x, net.weight[3:9], net.bias[3:9])))

    net = Net(forward, last=nn.Linear(6, 2))
    net.weight, net.bias = nn.Parameter(torch.randn(12, 4)), die(nn.Parameter(torch.randn(12)), 4, 5)
    return net, torch.randn(20, 4), {"relu": [1, 2]}


CASES = [
    converted, shuffled, gated, sliced_parameters,
    mlp, all_dead, functional_cnn, batch_normed, depthwise, grouped, transposed, volumes, concatenated, dense,
    layer_normed, group_normed, residual, shared_module, by_hand, split,
]  # fmt: skip
