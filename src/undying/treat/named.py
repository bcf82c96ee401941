"""Models that were built by a name: transformers reads ``hidden_act="sugar"`` in a config, once undying is registered."""

from __future__ import annotations

from typing import Any

from torch import nn

from undying.activations.sugar import SUGAR


def is_named(model: nn.Module) -> bool:
    """Whether a config of the model names SUGAR."""
    return bool(_named(model))


def undo_names(model: nn.Module) -> None:
    """Have the model be the one that "relu" in the place of "sugar" builds, its configs included."""
    named = _named(model)
    for config, key, value in named:
        setattr(config, key, value.removesuffix("sugar") + "relu")
    built: list[Any] = [module for module in model.modules() if isinstance(module, SUGAR)] if named else []
    own = vars(SUGAR()).keys() - vars(nn.Module()).keys()
    for module in built:
        module.__class__ = nn.ReLU
        for key in own:
            vars(module).pop(key, None)
        module.inplace = False


def _named(model: nn.Module) -> list[tuple[Any, str, str]]:
    configs = {id(config): config for module in model.modules() if (config := vars(module).get("config")) is not None}
    return [(config, *entry) for config in configs.values() for entry in _entries(config)]


def _entries(config: Any) -> list[tuple[str, str]]:
    """What names SUGAR in a config: "sugar", or "gated-sugar" as T5 has it."""
    values = getattr(config, "__dict__", {}).items()
    return [(key, value) for key, value in values if isinstance(value, str) and value.split("-")[-1] == "sugar"]
