"""The core needs torch and the standard library alone."""

import subprocess
import sys

import pytest

SLOW = ("torch._dynamo", "triton")  # to import
EXTRAS = ("numpy", "scipy", "matplotlib", "torchvision", "sklearn", "rich", "tyro", "jinja2", "filelock", "pandas")


def test_importing_undying_brings_in_nothing_that_torch_does_not(fresh):
    done = fresh(
        "import sys, torch\nbefore = set(sys.modules)\nimport undying\n"
        f"print([m for m in {EXTRAS + SLOW!r} if m in set(sys.modules) - before])"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_the_core_works_where_no_extra_is_installed():
    """torch itself imports numpy where it finds it, so here it is not to be found."""
    blocked = [name for name in EXTRAS if name != "filelock"]  # torch needs filelock
    program = (
        f"import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "import torch, undying\nfrom torch import nn\n"
        "net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))\n"
        "undying.convert_(net, undying.SUGAR())\n"
        "print(undying.census(net, [(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))], gradients=True))\n"
        "undying.revert_(net)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "SUGAR" in done.stdout


@pytest.mark.parametrize("missing", ["tyro", "scipy", "jinja2"])
def test_the_command_without_its_extra_names_the_extra(missing, fresh):
    done = fresh(
        f"import sys\nsys.modules[{missing!r}] = None\nfrom undying.__main__ import main\nsys.argv = ['undying', 'compare']\nsys.exit(main())"
    )
    assert done.returncode == 2
    assert "undying[lab]" in done.stderr
    assert missing in done.stderr
    assert "Traceback" not in done.stderr
