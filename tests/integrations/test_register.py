"""The names in other libraries' registries, and the classes where a library takes classes."""

import functools

import pytest
import timm
import torch
import torchvision
from torch import nn
from transformers import BertConfig, BertModel

import undying


def count(model, kind):
    return sum(isinstance(m, kind) for m in model.modules())


def test_importing_undying_registers_nothing_and_loads_no_library(fresh):
    program = (
        "import sys, undying\n"
        "print([m for m in ('timm', 'transformers', 'torchvision', 'stable_baselines3') if m in sys.modules])\n"
        "from transformers.activations import ACT2FN\nprint('sugar' in ACT2FN)"
    )
    done = fresh(program)
    assert done.stdout.split("\n")[:2] == ["[]", "False"], done.stderr


@pytest.mark.parametrize(("name", "kind"), [("sugar", undying.SUGAR), ("barelu", undying.BAReLU)])
def test_transformers_config(name, kind):
    assert undying.register() == ["transformers", "timm"]
    sizes = {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 9,
    }
    model = BertModel(BertConfig(hidden_act=name, **sizes))
    assert count(model, kind) == 2
    first, second = (m for m in model.modules() if isinstance(m, kind))
    assert first is not second
    model(torch.tensor([[1, 2, 3]])).last_hidden_state.sum().backward()


@pytest.mark.parametrize(("name", "kind"), [("sugar", undying.SUGAR), ("barelu", undying.BAReLU)])
def test_timm_act_layer(name, kind):
    undying.register()
    model = timm.create_model("resnet18", pretrained=False, act_layer=name)
    assert count(model, kind) == 17
    assert count(model, nn.ReLU) == 0
    assert timm.layers.get_act_fn(name) is getattr(undying, name)


@pytest.mark.parametrize("layer", [undying.SUGAR, undying.BAReLU, functools.partial(undying.SUGAR, "nelu")])
def test_torchvision_activation_layer(layer):
    block = torchvision.ops.Conv2dNormActivation(3, 4, activation_layer=layer)
    assert isinstance(block[2], (undying.SUGAR, undying.BAReLU))
    perceptron = torchvision.ops.MLP(3, [4, 2], activation_layer=layer)
    assert isinstance(perceptron[1], (undying.SUGAR, undying.BAReLU))


def test_stable_baselines3_activation_fn():
    from stable_baselines3 import PPO

    model = PPO(
        "MlpPolicy",
        "CartPole-v1",
        policy_kwargs={"activation_fn": undying.SUGAR},
        n_steps=8,
        batch_size=8,
        device="cpu",
    )
    assert count(model.policy, undying.SUGAR) == 4
    model.learn(8)
