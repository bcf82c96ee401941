"""Callbacks of trainers: a planted death is recycled after the trainer's own steps, and a resumed training goes on."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import undying

EVERY_STEP = undying.ReDo(tau=0.0, every=2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 1)
        nn.init.constant_(self.first.bias.data[:3], -100.0)

    def forward(self, x):
        return self.last(F.relu(self.first(x)))


class ForTrainer(Net):
    def forward(self, x, labels=None):
        y = super().forward(x)
        return {"loss": F.mse_loss(y[:, 0], labels), "logits": y}


def lightning_module():
    import pytorch_lightning as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, _):
            return self.net(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.01)

    return Module()


def test_lightning_recycles_and_goes_on_from_its_checkpoint(tmp_path):
    import pytorch_lightning as pl

    from undying.integrations.lightning import RecyclerCallback

    data = torch.utils.data.DataLoader(torch.randn(32, 4, generator=torch.Generator().manual_seed(1)), batch_size=8)

    def fit(module, epochs, **more):
        callback = RecyclerCallback(EVERY_STEP, probe=torch.zeros(2, 4), generator=torch.Generator().manual_seed(5))
        trainer = pl.Trainer(
            max_epochs=epochs, callbacks=[callback], accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(module, data, **more)
        return trainer, callback.recycler

    torch.manual_seed(0)
    whole = lightning_module()
    cut = lightning_module()
    cut.load_state_dict(whole.state_dict())
    _, recycler = fit(whole, 3)
    trainer, half = fit(cut, 1)
    assert half.recycled >= 3
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = lightning_module()
    _, other = fit(resumed, 3, ckpt_path=tmp_path / "half.ckpt")
    assert (other.steps, other.recycled) == (recycler.steps, recycler.recycled) == (12, recycler.recycled)
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))


def test_a_trainer_recycles_and_goes_on_from_its_checkpoint(tmp_path):
    from transformers import Trainer, TrainingArguments

    from undying.integrations.transformers import RecyclerCallback

    generator = torch.Generator().manual_seed(1)
    data = [{"x": torch.randn(4, generator=generator), "labels": torch.zeros(())} for _ in range(32)]

    def train(resume=None):
        torch.manual_seed(0)
        net = ForTrainer()
        probe = [(torch.zeros(2, 4), torch.zeros(2))]
        callback = RecyclerCallback(
            EVERY_STEP, probe=probe, inputs=lambda batch: batch, generator=torch.Generator().manual_seed(5)
        )
        args = TrainingArguments(
            str(tmp_path), max_steps=8, per_device_train_batch_size=8, save_steps=4, report_to=[], use_cpu=True,
            disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        Trainer(net, args, train_dataset=data, callbacks=[callback]).train(resume_from_checkpoint=resume)
        return net, callback.recycler

    whole, recycler = train()
    resumed, other = train(str(tmp_path / "checkpoint-4"))
    assert recycler.recycled >= 3
    assert (other.steps, other.recycled) == (recycler.steps, recycler.recycled)
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))
    (tmp_path / "checkpoint-4" / "undying_recycler.pt").unlink()
    with pytest.warns(UserWarning, match="begins anew"):
        train(str(tmp_path / "checkpoint-4"))


@pytest.mark.parametrize("algorithm", ["PPO", "DQN", "SAC"])
def test_stable_baselines3(algorithm):
    import stable_baselines3 as sb3

    from undying.integrations.stable_baselines3 import RecyclerCallback

    settings = {
        "PPO": ("CartPole-v1", {"n_steps": 16, "batch_size": 8, "n_epochs": 1}, "mlp_extractor.policy_net.1"),
        "DQN": ("CartPole-v1", {"learning_starts": 8, "buffer_size": 50, "train_freq": 2}, "q_net.q_net.1"),
        "SAC": ("Pendulum-v1", {"learning_starts": 8, "buffer_size": 50, "batch_size": 8}, "latent_pi.1"),
    }
    environment, more, site = settings[algorithm]
    small = {"net_arch": [8, 8], "activation_fn": nn.ReLU}
    model = getattr(sb3, algorithm)("MlpPolicy", environment, policy_kwargs=small, device="cpu", seed=0, **more)
    network = getattr(model, "actor", None) or model.policy
    nn.init.constant_(network.get_submodule(site[:-1] + "0").bias.data[:2], -1e4)
    callback = RecyclerCallback(EVERY_STEP)
    model.learn(32, callback=callback)
    assert callback.recycler.recycled >= 2
    assert (network.get_submodule(site[:-1] + "0").bias[:2] > -10).all()
    assert callback.recycler.steps > 1
    state, steps = callback.state_dict(), callback.recycler.steps
    again = RecyclerCallback(EVERY_STEP)
    again.load_state_dict(state)
    model.learn(32, callback=again, reset_num_timesteps=False)
    assert again.recycler.steps > steps


def test_a_trainer_without_an_optimizer_is_refused():
    from undying.integrations.recycling import Recycling

    with pytest.raises(ValueError, match="there is no optimizer"):
        Recycling(EVERY_STEP, {}).start(Net(), [])
