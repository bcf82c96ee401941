"""``undying doctor``."""

import torch

import undying
from undying import cli
from undying.ops import native, triton_loader


def test_doctor_says_what_computes_and_why(capsys):
    with undying.ops.using("composite"):
        assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"native kernels  {'missing: they were' if native.missing() else 'loaded, ' + native.instructions()}" in said
    assert "eager, CPU      reference implementation" in said
    assert f"Triton kernels  {triton_loader.state(torch.device('cpu'))}" in said
    assert torch.__version__ in said
    assert all(line[15] == " " != line[16] for line in said.splitlines())  # two columns
