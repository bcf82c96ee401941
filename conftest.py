"""For tests and the examples in src: modules that cannot be imported are left out, and what is registered goes again."""

import gc
import importlib.util
import os

import pytest

collect_ignore = [] if importlib.util.find_spec("triton") else ["src/undying/ops/triton_kernels.py"]

# Workers share the cores: with more threads than one in each they wait for each other, and spin while they do, and further
# processes of the compiler's do not help. Before torch is imported, which asks once.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

# A pass of the garbage collector over the million objects of these tests and their libraries takes half a second, and
# compilers and figures make so many more that it comes again and again.
gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Without the garbage collector: what is collected stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def nothing_stays_registered():
    """Activations and surrogates that a test or an example registers are gone after it."""
    from undying import surrogates
    from undying.activations import known

    tables = (known.FACTS, known.TYPE_OF, known.SPELLINGS, known.OPERATORS, surrogates.SURROGATES)
    before, overwriting = [dict(table) for table in tables], set(known._OVERWRITING)
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
    known._OVERWRITING.clear()
    known._OVERWRITING.update(overwriting)
