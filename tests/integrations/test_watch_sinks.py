"""The sinks and callbacks with the real libraries."""

import io
import re

import pytest
import torch
from rich.console import Console
from torch import nn

import undying
from undying.integrations.rich import LiveTable


def trained(sink, steps=5):
    """A network whose unit 3 dies at step 2, watched."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    memory = undying.Memory()
    with undying.watch(net, optimizer, every=2, probe=torch.randn(20, 4), sinks=[memory, sink]):
        for step in range(steps):
            optimizer.zero_grad()
            net(torch.randn(16, 4)).square().mean().backward()
            if step == 2:
                net[0].bias.data[3] = -1e6
            optimizer.step()
    return memory


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from undying.integrations.tensorboard import TensorBoard

    memory = trained(TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path)).Reload()
    for name in ("gradient_norm", "update_norm", "silent_at/1", "probe/died", "sparsity"):
        read = {event.step: event.value for event in events.Scalars(f"undying/{name}")}
        assert read == pytest.approx({record.step: record.scalars()[name] for record in memory})


def test_wandb_offline(wandb_offline, tmp_path):
    from undying.integrations.wandb import WandB

    with wandb_offline.init(project="undying") as run:
        memory = trained(WandB(run))
        summary = dict(run.summary)
    assert summary["undying/step"] == 4
    assert summary["undying/gradient_norm"] == pytest.approx(memory[-1].gradient_norm)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    from undying.integrations.mlflow import MLflow

    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with mlflow.start_run() as run:
        memory = trained(MLflow())
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "undying/silent_at/1")
    assert {m.step: m.value for m in history} == {record.step: record.scalars()["silent_at/1"] for record in memory}


def test_a_live_table_shows_sites_and_events():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    trained(LiveTable(console))
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue().rsplit("step 4", 1)[1])
    row = next(line for line in last.splitlines() if " 1 " in line and " 8 " in line)
    assert row.replace("│", " ").split()[:6] == ["1", "8", "1", "1", "1", "0"]
    assert "norms: gradient" in last
    assert max(map(len, last.splitlines())) <= 80


def test_a_live_table_of_many_sites_shows_the_worst():
    layers = [layer for _ in range(30) for layer in (nn.Linear(4, 4), nn.ReLU())]
    net = nn.Sequential(*layers)
    with torch.no_grad():
        net[20].bias.fill_(-1e6)
    console = Console(file=io.StringIO(), width=80)
    with undying.watch(net, sinks=[LiveTable(console, rows=5)]) as watching:
        net(torch.randn(9, 4))
        watching.step()
    shown = console.file.getvalue()
    assert "5 of 30 sites" in shown
    assert " 21 " in shown


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        self.head = nn.Linear(6, 1)


@pytest.mark.filterwarnings("ignore")  # Lightning's own advice on workers, loggers and torch's deprecations
def test_lightning(tmp_path):
    import pytorch_lightning as pl

    from undying.integrations.lightning import WatchCallback

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.parts = Parts()

        def training_step(self, batch, _):
            return self.parts.head(self.parts.body(batch)).square().mean()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    memory = undying.Memory()
    callback = WatchCallback(every=3, probe=None, sinks=[memory])
    module = Module()
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=[callback],
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(40, 4), batch_size=5))
    assert [record.step for record in memory] == [0, 3, 6]
    assert all(record.census["parts.body.1"].samples == 5 for record in memory)
    assert all(record.gradient_norm > 0 and record.update_norm > 0 for record in memory)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


@pytest.mark.filterwarnings("ignore")  # what Trainer says of pinned memory and the like
def test_transformers_trainer(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    from undying.integrations.transformers import WatchCallback

    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        hidden_act="relu",
    )
    model = BertForSequenceClassification(config)
    rows = [{"input_ids": torch.randint(0, 20, (7,)), "labels": i % 2} for i in range(24)]
    memory = undying.Memory()
    arguments = TrainingArguments(
        tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=3, report_to="none",
        use_cpu=True, disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=rows, callbacks=[WatchCallback(every=2, sinks=[memory])]).train()
    assert [record.step for record in memory] == [0, 2]
    sites = {site.name: site for site in memory[0].census.sites}
    assert sites["bert.encoder.layer.0.intermediate.intermediate_act_fn"].units == 12
    assert sites["bert.encoder.layer.0.intermediate.intermediate_act_fn"].samples == 2 * 4
    assert memory[0].update_norm > 0
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
