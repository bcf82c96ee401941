"""A model that transformers built by the name "sugar" ships as the one that "relu" builds."""

import pytest
import torch

import undying
from undying.activations.sugar import SUGAR

transformers = pytest.importorskip("transformers")


def bert(act):
    sizes = {
        "vocab_size": 9,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    return transformers.BertModel(transformers.BertConfig(**sizes, hidden_act=act))


def test_a_model_built_by_name_becomes_what_relu_builds():
    undying.register()
    model, plain = bert("sugar").eval(), bert("relu").eval()
    plain.load_state_dict(model.state_dict())
    assert undying.revert_(model) == 2
    assert model.config.to_dict() == plain.config.to_dict()
    assert str(model) == str(plain)
    assert [vars(m).keys() for m in model.modules()] == [vars(m).keys() for m in plain.modules()]
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids).pooler_output, plain(ids).pooler_output)
    assert undying.revert_(model) == 0


def test_names_inside_of_others_and_conversions_upon_them():
    undying.register()
    sizes = {"vocab_size": 9, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    model = transformers.T5Model(transformers.T5Config(**sizes, feed_forward_proj="gated-sugar"))
    undying.convert_(model, undying.BAReLU(), targets=(SUGAR,))
    assert undying.revert_(model, allow_change=True) == 2
    assert (model.config.feed_forward_proj, model.config.dense_act_fn) == ("gated-relu", "relu")
    assert not any(isinstance(m, (SUGAR, undying.BAReLU)) for m in model.modules())


def test_barelu_is_no_relu_and_is_refused():
    undying.register()
    with pytest.raises(ValueError, match=r"built with 2 BAReLU.*which computes something else"):
        undying.revert_(bert("barelu"))
