"""Private names of torch: each is there and says what is claimed, each fallback works, and they are in one file."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import undying
from undying import _torch
from undying.ops import lean as lean_module
from undying.ops import native

# torch.func.jvp brings torch.jit in.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.(trace|script|script_method)` is (deprecated|not supported)")

SRC = Path(_torch.__file__).parent
TRANSFORMS = {
    "grad": lambda f: torch.func.grad(lambda x: f(x).sum())(torch.ones(2)),
    "vmap": lambda f: torch.vmap(f)(torch.ones(2, 2)),
    "jvp": lambda f: torch.func.jvp(f, (torch.ones(2),), (torch.ones(2),)),
}


def loaded_again():
    spec = importlib.util.spec_from_file_location("undying_torch_without", SRC / "_torch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def without(monkeypatch):
    """``_torch`` as it is made where ``owner`` has no ``name``."""

    def load(owner, name):
        with monkeypatch.context() as patch:
            patch.delattr(owner, name)
            return loaded_again()

    return load


# What is at work around a call


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_in_functorch(transform):
    seen = []
    TRANSFORMS[transform](lambda x: seen.append(_torch.in_functorch()) or x)
    assert seen == [True]
    assert not _torch.in_functorch()


def test_a_compiler_evaluates_in_functorch_and_guards_on_it():
    torch.compiler.reset()
    compiled = torch.compile(lambda x: x + (1 if _torch.in_functorch() else 0), backend="eager", fullgraph=True)
    assert compiled(torch.zeros(())).item() == 0
    assert torch.func.vmap(compiled)(torch.zeros(2)).tolist() == [1, 1]


def test_without_its_name_all_is_in_functorch(without):
    assert without(torch._C._functorch, "peek_interpreter_stack").in_functorch()


def test_computes_no_numbers():
    seen = []
    assert not _torch.computes_no_numbers()
    with FlopCounterMode(display=False):
        assert not _torch.computes_no_numbers()
    make_fx(lambda x: seen.append(_torch.computes_no_numbers()) or x)(torch.ones(2))
    with FakeTensorMode():
        seen.append(_torch.computes_no_numbers())
    assert seen == [True, True]


def test_without_its_name_all_computes_numbers(without):
    copy = without(torch.utils._python_dispatch, "_get_current_dispatch_mode_stack")
    with FakeTensorMode():
        assert not copy.computes_no_numbers()


def test_in_dual_level():
    assert not _torch.in_dual_level()
    with forward_ad.dual_level():
        assert _torch.in_dual_level()
    assert not _torch.in_dual_level()


def test_a_compiler_takes_the_dual_level_for_a_constant():
    """It guards on no level; but it knows of those that are entered in what it compiles."""
    torch.compiler.reset()
    counter = CompileCounter()

    @torch.compile(backend=counter, fullgraph=True)
    def outside(x):
        return x + (1 if _torch.in_dual_level() else 0)

    @torch.compile(backend="eager", fullgraph=True)
    def within(x):
        return torch.func.jvp(lambda y: y + (1 if _torch.in_dual_level() else 0), (x,), (x,))[0]

    assert outside(torch.zeros(())).item() == 0
    with forward_ad.dual_level():
        assert outside(torch.zeros(())).item() == 0
    assert counter.frame_count == 1
    assert within(torch.zeros(())).item() == 1


def test_without_its_name_all_is_in_a_dual_level(monkeypatch):
    monkeypatch.delattr(forward_ad, "_current_level")
    assert _torch.in_dual_level()


def test_in_backward():
    seen = []

    def forward(x):
        seen.append(_torch.in_backward())
        return x * x

    checkpoint(forward, torch.ones(2, requires_grad=True), use_reentrant=False).sum().backward()
    assert seen == [False, True]


def test_without_its_name_nothing_is_in_backward(without):
    copy, seen = without(torch._C, "_current_graph_task_id"), []
    x = torch.ones(2, requires_grad=True)
    x.register_hook(lambda _: seen.append((_torch.in_backward(), copy.in_backward())))
    x.sum().backward()
    assert seen == [(True, False)]


def test_dispatch_mode_depth():
    from torch.utils._python_dispatch import TorchDispatchMode

    assert _torch.dispatch_mode_depth() == 0
    with TorchDispatchMode(), TorchDispatchMode():
        assert _torch.dispatch_mode_depth() == 2


def test_jit_tracing_state():
    seen = []
    torch.jit.trace(lambda x: seen.append(_torch.jit_tracing_state() is not None) or x + 1, torch.ones(2))
    assert seen[0]
    assert _torch.jit_tracing_state() is None


@pytest.mark.parametrize(
    ("name", "public"),
    [("_len_torch_dispatch_stack", "dispatch_mode_depth"), ("_get_tracing_state", "jit_tracing_state")],
)
def test_without_their_names_no_call_is_plain(without, monkeypatch, name, public):
    fallback = getattr(without(torch._C, name), public)
    assert fallback()
    monkeypatch.setattr(undying.ops.dispatch, public, fallback)
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    assert not undying.ops.dispatch.is_plain_eager(x)
    undying.sugar(x).sum().backward()
    assert x.grad.tolist() == pytest.approx([0.4007, 1.2661], abs=1e-4)


# What autograd saves


def test_saved_tensor_hooks():
    def pack(tensor):
        return tensor

    def unpack(packed):
        return packed

    assert _torch.saved_tensor_hooks() is None
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        assert _torch.saved_tensor_hooks() == (pack, unpack)
        with torch.autograd.graph.saved_tensors_hooks(unpack, pack):
            assert _torch.saved_tensor_hooks() == (unpack, pack)
    assert _torch.saved_tensor_hooks() is None


def test_version_of():
    x = torch.zeros(3)
    before = _torch.version_of(x)
    x[0] = 1
    assert _torch.version_of(x) == before + 1
    view = x.view(3)
    view.add_(1)
    assert _torch.version_of(x) == before + 2
    assert _torch.SEES_WHAT_IS_SAVED


def lean_does_nothing():
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    with undying.lean():
        (undying.sugar(x) ** 2).sum().backward()
        return not lean_module.is_lean() and torch._C._autograd._top_saved_tensors_default_hooks(True) is None


def test_without_the_hooks_name_some_count_as_set_and_lean_does_nothing(without, monkeypatch):
    assert not lean_does_nothing()
    copy = without(torch._C._autograd, "_top_saved_tensors_default_hooks")
    assert copy.saved_tensor_hooks() is not None
    assert not copy.SEES_WHAT_IS_SAVED
    monkeypatch.setattr(lean_module, "SEES_WHAT_IS_SAVED", copy.SEES_WHAT_IS_SAVED)
    assert lean_does_nothing()


def test_without_versions_they_do_not_count(monkeypatch):
    """Nothing can be taken away from a tensor's type: here is something that never had it."""
    assert _torch.version_of(object()) == 0
    with monkeypatch.context() as patch:
        patch.setattr(torch, "Tensor", type("Tensor", (), {}))
        module = loaded_again()
    assert not module.SEES_WHAT_IS_SAVED


def test_has_hooks():
    for register in (torch.Tensor.register_hook, torch.Tensor.register_post_accumulate_grad_hook):
        x = torch.ones(4, requires_grad=True)
        assert not _torch.has_hooks(x)
        handle = register(x, lambda _: None)
        assert _torch.has_hooks(x)
        handle.remove()
        assert not _torch.has_hooks(x)
    assert not _torch.has_hooks(object())  # as where the names are gone


def test_base_of():
    x = torch.zeros(4)
    assert _torch.base_of(x) is None
    assert _torch.base_of(x.view(2, 2)) is x
    assert _torch.base_of(object()) is None  # as where the name is gone


def test_not_a_view():
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    y = _torch.not_a_view(x)
    assert y.data_ptr() == x.data_ptr()
    assert _torch.base_of(y) is None
    torch.relu_(y).sum().backward()
    assert x.grad.tolist() == [0, 1]


def test_without_its_name_it_is_a_copy(monkeypatch):
    class Aten:
        pass

    monkeypatch.setattr(torch.ops, "aten", Aten())
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    y = _torch.not_a_view(x)
    monkeypatch.undo()
    assert y.data_ptr() != x.data_ptr()
    torch.relu_(y).sum().backward()
    assert x.grad.tolist() == [0, 1]


# Operators


def test_operators_are_of_the_type():
    from torch._ops import OpOverload

    assert _torch.OpOverload is OpOverload
    assert isinstance(torch.ops.aten.add.Tensor, _torch.OpOverload)


def test_below_autograd():
    x = torch.ones(2, requires_grad=True)
    assert torch.ops.aten.relu.default(x).requires_grad
    with _torch.below_autograd():
        assert not torch.ops.aten.relu.default(x).requires_grad


def test_without_its_name_operators_are_called_as_usual(without):
    copy = without(torch._C, "_AutoDispatchBelowAutograd")
    with copy.below_autograd():
        assert torch.ops.aten.relu.default(torch.tensor([-1.0, 2.0])).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("what", "x"),
    [
        ("negated", torch._neg_view(torch.ones(2))),
        ("sparse", torch.ones(2).to_sparse()),
        ("zeros", torch._efficientzerotensor(2)),
        ("meta", torch.ones(2, device="meta")),
    ],
)
def test_dispatch_keys_tell_what_is_no_plain_memory(what, x):
    plain = _torch.dispatch_keys(torch.ones(2)).raw_repr()
    assert plain == _torch.dispatch_keys(torch.zeros(3, 4)).raw_repr()
    assert _torch.dispatch_keys(x).raw_repr() != plain


def test_without_dispatch_keys_no_kernel_is_used(without, fresh):
    assert without(torch._C, "_dispatch_keys").dispatch_keys is None
    program = (
        "import torch\ndel torch._C._dispatch_keys\nimport undying\nfrom undying.ops import native\n"
        "x = torch.tensor([-1.0, 2.0], requires_grad=True)\nundying.sugar(x).sum().backward()\n"
        "print(native.serves(x), round(float(x.grad[0]), 4), native.missing(), sep=';')"
    )
    done = fresh(program)
    serves, gradient, why = done.stdout.strip().split(";")
    assert (serves, gradient) == ("False", "0.4007")
    if native.missing() is None:
        assert why == f"torch {torch.__version__} has no torch._C._dispatch_keys"


def test_schema_of():
    schema = _torch.schema_of(torch.ops.aten.relu_.default)
    assert schema.name == "aten::relu_"
    [argument] = schema.arguments
    assert argument.name == "self"
    assert argument.alias_info.is_write
    assert not argument.has_default_value()


def test_without_its_name_it_says_so():
    with pytest.raises(RuntimeError, match=r"has no OpOverload._schema, which certify needs: install torch 2\.14 or"):
        _torch.schema_of(object())


class Seen(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.functions = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


def test_disable_torch_function():
    x = torch.ones(2)
    with Seen() as mode:
        with _torch.disable_torch_function():
            torch.relu(x)
        assert mode.functions == []
        torch.relu(x)
    assert mode.functions == [torch.relu]


def test_without_its_name_nothing_is_counted(without):
    with pytest.raises(RuntimeError, match=r"has no torch\._C\.DisableTorchFunction, which counting .* install torch"):
        without(torch._C, "DisableTorchFunction").disable_torch_function()


# torch.compile


def test_without_compile():
    net = nn.Linear(2, 2)
    compiled = torch.compile(net)
    assert _torch.without_compile(compiled) is net
    assert _torch.without_compile(net) is net  # as where the name is gone
    assert list(compiled.state_dict()) == [_torch.COMPILED_PREFIX + name for name in net.state_dict()]


def test_is_compiled_in_place():
    net = nn.Linear(2, 2)
    assert not _torch.is_compiled_in_place(net)
    net.compile()
    assert _torch.is_compiled_in_place(net)
    assert not _torch.is_compiled_in_place(object())  # as where the name is gone


def test_compiler_is_loaded(fresh):
    program = (
        "import torch\nfrom undying import _torch\nprint(_torch.compiler_is_loaded())\n"
        "torch.compile(torch.nn.Linear(2, 2))\nprint(_torch.compiler_is_loaded())"
    )
    done = fresh(program)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_without_such_a_module_the_compiler_counts_as_loaded(monkeypatch):
    monkeypatch.setattr(_torch, "_DYNAMO", "torch._gone")
    _torch._has_dynamo.cache_clear()
    assert _torch.compiler_is_loaded()
    monkeypatch.undo()
    _torch._has_dynamo.cache_clear()


def test_show_to_compile():
    """torch.relu_ is not among those that a compiled function shows to modes of itself."""
    assert _torch.show_to_compile([torch.relu_, torch.relu])
    from torch._dynamo.variables.torch import get_overridable_functions

    assert torch.relu_ in get_overridable_functions()


def test_without_the_set_nothing_is_shown(monkeypatch):
    import torch._dynamo.variables.torch as variables

    monkeypatch.delattr(variables, "get_overridable_functions")
    assert not _torch.show_to_compile([torch.relu])


# One file

OTHERS = {
    "_modules": "nn.Module's own, whose subclasses ours are",
    "_buffers": "nn.Module's own",
    "_is_full_backward_hook": "nn.Module's own",
    "_fields": "collections.namedtuple's, documented",
    "_getframe": "sys's, documented",
    "_exit": "os's, documented",
    "_ACT_LAYER_DEFAULT": "timm's",
    "_ACT_FN_DEFAULT": "timm's",
    "_create_aliases": "stable-baselines3's DQN, which goes on with the networks that its policy has then",
}
"""Private attributes that are neither this package's nor torch's, or are ours to use, and why."""


def trees():
    for path in sorted(SRC.rglob("*.py")):
        yield path.relative_to(SRC).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def own_names():
    """Private names that this package defines itself: functions, classes, attributes, fields."""
    names = set()
    for path, tree in trees():
        if path == "_torch.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
                names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names


def private(name):
    return name.startswith("_") and not name.startswith("__")


def used_names(tree):
    """(private name, how) of attributes that are read, by a dot or by ``getattr`` and its like, and of imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            yield node.attr, ast.unparse(node)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr"):
            name = getattr(node.args[1], "value", None)
            if isinstance(name, str) and private(name):
                yield name, ast.unparse(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                if module.split(".")[0] == "torch":
                    for part in (*module.split("."), *names):
                        if private(part):
                            yield part, ast.unparse(node)


def test_private_names_of_torch_are_in_one_file():
    own = own_names() | set(OTHERS)
    found = {
        f"{path}: {how}"
        for path, tree in trees()
        if path != "_torch.py"
        for name, how in used_names(tree)
        if name not in own or how.startswith(("torch._", "from torch", "import torch"))
    }
    assert found == set()


def test_that_search_finds_them():
    """In the file that is full of them, and as they may be written elsewhere."""
    tree = ast.parse((SRC / "_torch.py").read_text(encoding="utf-8"))
    names = {name for name, _ in used_names(tree)}
    assert {"_C", "_len_torch_dispatch_stack", "_schema", "_base", "_orig_mod", "_dynamo", "_ops"} <= names
    for code in ("torch._C.x", "x._base", "getattr(x, '_version')", "from torch._ops import y", "import torch._dynamo"):
        assert list(used_names(ast.parse(code))), code


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_every_exception_is_needed(name):
    texts = (path.read_text(encoding="utf-8") for path in SRC.rglob("*.py"))
    assert any(re.search(rf"\b{name}\b", text) for text in texts)
