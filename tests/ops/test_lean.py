"""lean: gradients to the last bit, ReLU's memory, and every company it may be found in.

The truth is the reference implementation outside of lean, and for memory nn.ReLU in SUGAR's place.
"""

import contextlib
import copy
import threading
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import undying
from undying.bench.memory import kept
from undying.ops.lean import is_lean

# torch itself warns, at its first forward-mode derivative.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script(_method)?` is (deprecated|not supported)")


class Residual(nn.Module):
    """Convolutions, batch norm, a reused activation, several consumers, pooling, a view, dropout that overwrites."""

    def __init__(self, act):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.side = nn.Conv2d(8, 8, 1)
        self.pool, self.drop, self.head = nn.MaxPool2d(2), nn.Dropout(0.3, inplace=True), nn.Linear(8 * 16, 5)
        self.hidden, self.act = nn.Linear(5, 5), act

    def forward(self, x):
        x = self.pool(self.act(self.norm(self.stem(x))))
        y = self.act(self.norm1(self.conv1(x)))
        x = self.act(self.norm2(self.conv2(y)) + self.side(y) * y + x)
        h = self.act(self.head(x.flatten(1)))
        return self.hidden(self.drop(h)).square().mean()


def mlp(act, *, width=16):
    return nn.Sequential(nn.Linear(4, width), act, nn.Linear(width, width), copy.deepcopy(act), nn.Linear(width, 3))


def gradients(model, x, around=None, run=None):
    """Gradients of the parameters and of x, by the same weights and random numbers every time."""
    model, x = copy.deepcopy(model), x.clone().requires_grad_()
    torch.manual_seed(1)
    with (around or contextlib.nullcontext)():
        loss = model(x) if run is None else run(model, x)
    loss.sum().backward()
    return [x.grad, *(p.grad for p in model.parameters())]


def same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("surrogate", undying.SURROGATES)
def test_gradients_are_the_same_to_the_last_bit(surrogate):
    model = Residual(undying.SUGAR(surrogate))
    same(gradients(model, IMAGES, undying.lean), gradients(model, IMAGES))


@pytest.mark.parametrize(
    "act",
    [
        undying.SUGAR(region="negative"),
        undying.SUGAR(strength=0.3),
        undying.SUGAR(strength=torch.tensor(0.3)),
        undying.SUGAR(F.softplus),
        undying.BAReLU(),
        undying.BAReLU(inplace=True),
        nn.ReLU(inplace=True),
    ],
    ids=str,
)
def test_arguments_and_other_activations(act):
    model = Residual(act)
    model.drop.inplace = False  # the others keep their output, which must not be overwritten
    same(gradients(model, IMAGES, undying.lean), gradients(model, IMAGES))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types(dtype):
    model = mlp(undying.SUGAR()).to(dtype)
    same(gradients(model, ROWS.to(dtype), undying.lean), gradients(model, ROWS.to(dtype)))


def test_channels_last():
    model = Residual(undying.SUGAR()).to(memory_format=torch.channels_last)
    images = IMAGES.to(memory_format=torch.channels_last)
    same(gradients(model, images, undying.lean), gradients(model, images))


def test_more_elements_than_a_piece_in_every_layout():
    """The recomputing form goes through x in pieces; a strided x and a gradient of another layout included."""
    x = torch.randn(3, 7, 50, 99)
    grad = torch.randn(3, 7, 50, 99).to(memory_format=torch.channels_last)
    layouts = [
        x,
        x.to(memory_format=torch.channels_last),
        x.transpose(0, 3),
        x[:, ::2],
        x[:1].expand(2, -1, -1, -1),
        x[0, 0, 0, 0],
    ]
    layouts += [x[:0]]
    for layout in layouts:
        leaf = layout.detach().requires_grad_()
        g = grad if grad.shape == leaf.shape else torch.randn(leaf.shape)
        expected = torch.autograd.grad(undying.sugar(leaf), leaf, g)[0]
        with undying.lean():
            y = undying.sugar(leaf)
        assert y.stride() == torch.relu(leaf).stride()
        assert torch.equal(torch.autograd.grad(y, leaf, g)[0], expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -0.0])
def test_special_values(bad):
    x = ROWS.clone()
    x[0] = bad
    act = undying.SUGAR()
    found, expected = (gradients(act, x, around) for around in (undying.lean, None))
    assert torch.equal(torch.nan_to_num(found[0], nan=7.0), torch.nan_to_num(expected[0], nan=7.0))


def test_memory_is_relus():
    """A linear layer keeps its input, which is y; ReLU keeps y; SUGAR under lean keeps x in the place of both."""
    ours, relu = mlp(undying.SUGAR()), mlp(nn.ReLU())

    def lean_forward():
        with undying.lean():
            return ours(ROWS)

    assert kept(lean_forward, ours.parameters()) == kept(lambda: relu(ROWS), relu.parameters())
    assert kept(lambda: ours(ROWS), ours.parameters()) > kept(lean_forward, ours.parameters())


def test_a_convolutional_network_keeps_what_relus_keeps_where_nothing_is_overwritten():
    ours, relu = Residual(undying.SUGAR()).eval(), Residual(nn.ReLU()).eval()

    def lean_forward():
        with undying.lean():
            return ours(IMAGES)

    # In the residual sum the product keeps both of its factors; the pooling keeps its input and indices: as ReLU's do.
    assert kept(lean_forward, ours.parameters()) == kept(lambda: relu(IMAGES), relu.parameters())


def test_y_that_was_overwritten_is_kept_as_it_is():
    def run(model, x):
        y = model(x)
        y = y.mul_(2.0) if y.requires_grad else y
        return (y * y).sum()

    model = nn.Sequential(nn.Linear(4, 4), undying.SUGAR())
    same(gradients(model, ROWS, undying.lean, run), gradients(model, ROWS, None, run))


def test_y_overwritten_after_it_was_saved_does_no_harm():
    """Without lean autograd has to refuse this."""
    x = ROWS.clone().requires_grad_()
    expected = torch.autograd.grad(undying.sugar(x).square().sum(), x)[0]
    with undying.lean():
        y = undying.sugar(x)
        loss = y.square().sum()
    with torch.no_grad():
        y.zero_()
    assert torch.equal(torch.autograd.grad(loss, x)[0], expected)


def test_x_overwritten_is_an_error_even_where_only_the_next_layer_needs_it():
    weight = torch.randn(4, 4, requires_grad=True)
    leaf = ROWS.clone().requires_grad_()
    x = leaf * 1
    with undying.lean():
        loss = (undying.sugar(x) @ weight).sum()
    x.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, weight)


@pytest.mark.parametrize("save", [lambda x: x.square(), lambda x: x.exp()], ids=["input", "output"])
def test_what_has_nothing_to_do_with_sugar_is_still_guarded(save):
    x = torch.ones(3, requires_grad=True) * 1
    with undying.lean():
        y = save(x)
    (y if save(torch.zeros(1)) == 1 else x).detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_backward_inside_and_twice():
    x = ROWS.clone().requires_grad_()
    model = mlp(undying.SUGAR())
    expected = torch.autograd.grad(model(x).sum(), x)[0]
    with undying.lean():
        loss = model(x).sum()
        first = torch.autograd.grad(loss, x, retain_graph=True)[0]
    assert torch.equal(first, expected)
    assert torch.equal(torch.autograd.grad(loss, x)[0], expected)


def test_double_backward():
    x = ROWS.double().requires_grad_()
    model = mlp(undying.SUGAR()).double()

    def second():
        (grad,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), [x, *model.parameters()], allow_unused=True)

    expected = second()
    with undying.lean():
        found = second()
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_autocast():
    model = Residual(undying.SUGAR())

    def run(model, x):
        with torch.autocast("cpu", torch.bfloat16):
            return model(x)

    same(gradients(model, IMAGES, undying.lean, run), gradients(model, IMAGES, None, run))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_inside(reentrant):
    def run(model, x):
        return checkpoint(model, x, use_reentrant=reentrant)

    model = Residual(undying.SUGAR())
    model.drop.p = 0.0
    model = model.eval()  # batch norm's statistics would be updated twice
    same(gradients(model, IMAGES, undying.lean, run), gradients(model, IMAGES))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_around(reentrant):
    def run(model, x):
        return checkpoint(undying.lean()(model), x, use_reentrant=reentrant)

    model = Residual(undying.SUGAR()).eval()
    same(gradients(model, IMAGES, None, run), gradients(model, IMAGES))


def test_hooks_around_are_given_x_in_the_place_of_y():
    model = mlp(undying.SUGAR())
    seen = []

    def pack(tensor):
        seen.append(tensor.shape)
        return tensor.numpy(force=True).copy()

    def run(model, x):
        with saved_tensors_hooks(pack, torch.from_numpy), undying.lean():
            return model(x)

    for a, b in zip(gradients(model, ROWS, None, run), gradients(model, ROWS), strict=True):
        torch.testing.assert_close(
            a, b, rtol=1e-5, atol=1e-7
        )  # a numpy copy has another memory order, and so sums in it
    assert seen.count((5, 16)) == 4  # x of each SUGAR, for itself and for the layer after it


def test_hooks_around_that_move_what_is_saved_elsewhere_free_it_here():
    x = torch.randn(4, requires_grad=True) * 1
    gone = weakref.ref(x.untyped_storage())
    assert gone() is not None
    with saved_tensors_hooks(lambda t: t.numpy(force=True).copy(), torch.from_numpy), undying.lean():
        loss = undying.sugar(x).square().sum()
    del x
    assert gone() is None
    loss.backward()


def test_hooks_around_that_lose_the_layout_in_memory():
    def run(model, x):
        with saved_tensors_hooks(lambda t: t.contiguous().clone(), lambda t: t), undying.lean():
            return model(x).mul(torch.arange(8.0)[:, None, None]).square().sum()

    model = nn.Sequential(nn.Conv2d(3, 8, 3), undying.SUGAR(), nn.Conv2d(8, 8, 3)).to(memory_format=torch.channels_last)
    images = IMAGES.to(memory_format=torch.channels_last)
    expected = gradients(
        model, images, None, lambda model, x: model(x).mul(torch.arange(8.0)[:, None, None]).square().sum()
    )
    for a, b in zip(gradients(model, images, None, run), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ["around", "inside"])
def test_save_on_cpu(order):
    def run(model, x):
        if order == "around":
            with save_on_cpu(), undying.lean():
                return model(x)
        with undying.lean(), save_on_cpu():
            return model(x)

    model = Residual(undying.SUGAR()).to(memory_format=torch.channels_last)
    images = IMAGES.to(memory_format=torch.channels_last)
    for a, b in zip(gradients(model, images, None, run), gradients(model, images), strict=True):
        torch.testing.assert_close(
            a, b, rtol=1e-5, atol=1e-7
        )  # save_on_cpu loses the memory format, and so the order of sums


def test_nested():
    def run(model, x):
        with undying.lean():
            x = model[:3](x)  # its last output goes into the inner block
            with undying.lean():
                assert is_lean()
                return model[3:](x)

    model = mlp(undying.SUGAR())
    same(gradients(model, ROWS, None, run), gradients(model, ROWS))
    assert not is_lean()


def test_as_a_decorator_it_is_on_in_every_forward_pass():
    model = mlp(undying.SUGAR())
    expected = kept(lambda: mlp(nn.ReLU())(ROWS), [])
    model.forward = undying.lean()(model.forward)
    for _ in range(2):
        assert kept(lambda: model(ROWS), []) == expected


def test_an_error_inside_leaves_nothing_behind():
    with pytest.raises(ZeroDivisionError), undying.lean():
        raise ZeroDivisionError
    assert not is_lean()
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None


def test_another_thread_is_not_lean():
    seen = []
    with undying.lean():
        thread = threading.Thread(target=lambda: seen.append(is_lean()))
        thread.start()
        thread.join()
        assert is_lean()
    assert seen == [False]


def test_an_output_that_someone_keeps_does_not_keep_its_input():
    x = torch.randn(4, requires_grad=True) * 1
    gone = weakref.ref(x.untyped_storage())
    assert gone() is not None
    with undying.lean():
        y = undying.sugar(x)
        (y * y).sum().backward()
        others = torch.ones(3, requires_grad=True).exp()  # a graph that lives on, and the hooks with it
        del x
    assert others.grad_fn is not None
    assert y.numel() == 4
    assert gone() is None


class Relus(TorchDispatchMode):
    """Counts how often relu is computed."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "aten.relu" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("read", [lambda y: y, lambda y: y.view(2, -1)[:1]], ids=["y", "view"])
def test_an_output_that_someone_keeps_is_not_computed_again(read):
    """As the latents of a sparse autoencoder are: another one beside it would be more memory than without lean."""
    x = torch.randn(4, 4, requires_grad=True)
    for keep, overwrite, expected in ((True, False, 0), (True, True, 2), (False, False, 2)):
        with undying.lean():
            y = undying.sugar(x)
            z = read(y)
            loss = z.square().sum() + z.pow(3).sum()
        if overwrite:
            with torch.no_grad():
                y += 1
        if not keep:
            del y, z
        with Relus() as relus:
            (got,) = torch.autograd.grad(loss, x)
        assert relus.count == expected
        plain = undying.sugar(x)
        truth = torch.autograd.grad(read(plain).square().sum() + read(plain).pow(3).sum(), x)[0]
        assert torch.equal(got, truth)


def test_an_address_used_again_is_not_taken_for_an_old_output():
    """Outputs that die inside the block give their memory, and their Python id, to others."""
    weight = torch.randn(64, 64, requires_grad=True)
    with undying.lean():
        for _ in range(50):
            undying.sugar(torch.randn(8, 64, requires_grad=True))
            other = torch.randn(8, 64)
            loss = (other @ weight).sum()
            assert torch.equal(torch.autograd.grad(loss, weight)[0], other.sum(0)[:, None].expand(64, 64))


def test_disabled_gradients_leave_one_relu():
    with undying.lean(), torch.no_grad():
        y = undying.sugar(ROWS.clone().requires_grad_())
    assert y.grad_fn is None
    assert torch.equal(y, ROWS.relu())


@pytest.mark.parametrize("place", ["around", "inside"])
def test_compile(place):
    """Harmless: the compiler decides what is kept."""
    torch.compiler.reset()
    model = mlp(undying.SUGAR())

    def inside(x):
        with undying.lean():
            return compiled_model(x)

    compiled_model = model
    x = ROWS.clone().requires_grad_()
    expected = torch.autograd.grad(model(x).sum(), x)[0]
    if place == "around":
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        with undying.lean():
            y = compiled(x)
    else:
        y = torch.compile(inside, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], expected)


def test_func_transforms_refuse_it_as_they_refuse_all_hooks():
    with undying.lean(), pytest.raises(RuntimeError, match="saved tensor hooks"):
        torch.func.grad(lambda x: undying.sugar(x).sum())(ROWS)


def test_forward_mode():
    with undying.lean(), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(ROWS, torch.ones_like(ROWS))
        tangent = torch.autograd.forward_ad.unpack_dual(undying.sugar(dual)).tangent
    x = ROWS.clone().requires_grad_()
    torch.testing.assert_close(tangent, torch.autograd.grad(undying.sugar(x).sum(), x)[0])


def test_ddp(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    try:
        model = mlp(undying.SUGAR())
        expected = gradients(model, ROWS)
        wrapped = nn.parallel.DistributedDataParallel(model)
        x = ROWS.clone().requires_grad_()
        with undying.lean():
            loss = wrapped(x).sum()
        loss.backward()
        same([x.grad, *(p.grad for p in model.parameters())], expected)
    finally:
        torch.distributed.destroy_process_group()
