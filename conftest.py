"""For tests and the examples in src: modules that cannot be imported are left out, and what is registered goes again."""

import importlib.util

import pytest

collect_ignore = [] if importlib.util.find_spec("triton") else ["src/undying/ops/triton_kernels.py"]


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
