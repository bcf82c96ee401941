"""Certificates as files, tables and words."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from certify.attack import Ends, Twice
from undying import Box, Certificate, census, certify

INF = math.inf


def some_certificate():
    torch.manual_seed(0)
    net = Ends(nn.LayerNorm(4))
    low = torch.tensor([[0.0, -INF, 0.1, 1.0]])
    return certify(net, (low, torch.tensor([[1.0, 2.0, INF, 1.0]])))


def test_files_hold_every_bit(tmp_path):
    path = tmp_path / "certificate.json"
    for certificate in (some_certificate(), certify(Twice(), Box.nonnegative((1, 3)))):
        certificate.save(path)
        again = Certificate.load(path)
        assert str(again) == str(certificate)
        assert again.to_dict() == certificate.to_dict()
        assert again.box == certificate.box
        assert [torch.equal(a.upper, b.upper) for a, b in zip(again.sites, certificate.sites, strict=True) if a.reached]
        assert [site.reached for site in again.sites] == [site.reached for site in certificate.sites]
    assert list(tmp_path.iterdir()) == [path]


def test_files_from_elsewhere_are_refused(tmp_path):
    path = tmp_path / "certificate.json"
    data = some_certificate().to_dict()
    for change, match in (
        ({"format": 2}, "format 2, and this undying reads up to 1: upgrade"),
        ({"kind": "census"}, "not a certificate"),
        ({"format": None}, "not a certificate"),
        ({"sites": [{}]}, "damaged"),
        ({"box": {"shape": [3], "low": [0.0, 1.0], "high": [1.0]}}, "damaged"),
    ):
        path.write_text(json.dumps({**data, **change}))
        with pytest.raises(ValueError, match=f"certificate.json: .*{match}"):
            Certificate.load(path)
    for text in ("[]", "{", ""):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"certificate\.json"):
            Certificate.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "certificate.json"
    certificate = some_certificate()
    certificate.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(Path, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        certificate.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_saved_into_a_stream_is_written_to_it(tmp_path):
    """Both saves: a device or a pipe is not replaced."""
    certificate, counted = (
        some_certificate(),
        census(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(4, 2)),
    )
    for saved in (certificate, counted):
        with (tmp_path / "file").open("w+") as file:
            saved.save(f"/dev/fd/{file.fileno()}")
            file.seek(0)
            assert json.load(file) == json.loads(json.dumps(saved.to_dict()))


def test_table_and_words():
    certificate = some_certificate()
    assert str(certificate).splitlines()[0].split() == [
        "site",
        "kind",
        "units",
        "dead",
        "always",
        "on",
        "largest",
        "upper",
        "bound",
    ]
    for word in (
        "eval mode",
        "float32",
        "torch's backends and precision",
        "(1, 4) in [-inf, inf]",
        "It ends at step (layer_norm)",
    ):
        assert word in certificate.covers
    with pytest.raises(KeyError, match="no site 'nope'; sites: act, act2"):
        certificate["nope"]
    assert [certificate[name] for name in certificate] == certificate.sites
    assert len(certificate) == len(certificate.sites)
