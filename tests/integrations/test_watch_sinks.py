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
    tags = {name: f"undying/{name}" for name in ("gradient_norm", "update_norm", "probe/died", "sparsity")}
    tags |= {f"{what}_at/1": f"undying 1/{what}" for what in ("silent", "dormant", "firing_rate")}  # by layer
    for name, tag in tags.items():
        read = {event.step: event.value for event in events.Scalars(tag)}
        assert read == pytest.approx({record.step: record.scalars()[name] for record in memory})


def test_sinks_take_a_second_training(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from undying.integrations.tensorboard import TensorBoard

    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    board, table = TensorBoard(tmp_path), LiveTable(console)
    for training in (1, 2):
        trained(board, steps=1)
        trained(table, steps=1)
        events = EventAccumulator(str(tmp_path)).Reload()
        assert len(events.Scalars("undying/sparsity")) == training
        assert "step 0" in console.file.getvalue()
        console.file.truncate(0)


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
    memory = trained(LiveTable(console))
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue().rsplit("step 4", 1)[1])
    row = next(line for line in last.splitlines() if " 1 " in line and " 8 " in line)
    site = memory[-1].probe["1"]
    events = [
        sum(len(of.get("1", ())) for of in each) for each in zip(*((r.died, r.revived) for r in memory), strict=True)
    ]
    told = [site.units, int(site.silent.sum()), int(site.dormant.sum()), *events]
    assert row.replace("│", " ").split()[:6] == ["1", *map(str, told)]
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


def lightning_module(optimizers=1, fails=None):
    import pytorch_lightning as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.parts, self.automatic_optimization = Parts(), optimizers == 1

        def training_step(self, batch, number):
            if fails is not None and number == 4:
                raise fails
            loss = self.parts.head(torch.relu(self.parts.body(batch))).square().mean()
            if optimizers != 1:
                self.zero_grad()
                self.manual_backward(loss)
                for optimizer in self.optimizers() if optimizers else ():
                    optimizer.step()
            return loss

        def configure_optimizers(self):
            owned = (
                (self.parameters(),)
                if optimizers == 1
                else (self.parts.body.parameters(), self.parts.head.parameters())
            )
            return [torch.optim.Adam(p) for p in owned[:optimizers]] or None

    return Module()


def lightning_fit(module, callback, folder, epochs=1, **settings):
    import pytorch_lightning as pl

    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=[callback],
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(40, 4), batch_size=5), **settings)
    return trainer


@pytest.mark.filterwarnings("ignore")  # Lightning's own advice on workers, loggers and torch's deprecations
@pytest.mark.parametrize("optimizers", [0, 1, 2])
def test_lightning(tmp_path, optimizers):
    from undying.integrations.lightning import WatchCallback

    memory, path = undying.Memory(), tmp_path / "watch.jsonl"
    callback = WatchCallback(every=3, sinks=[memory, path], method="training_step")
    module = lightning_module(optimizers)
    trainer = lightning_fit(module, callback, tmp_path)
    assert [record.step for record in memory] == [0, 3, 6]
    assert all(record.census["parts.body.1"].samples == record.census["relu"].samples == 5 for record in memory)
    assert all(len(record.gradient_norms) == 4 and bool(record.update_norm) == bool(optimizers) for record in memory)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, torch.utils.data.DataLoader(torch.randn(40, 4), batch_size=5))
    assert [record["step"] for record in undying.JSONL.read(path)] == [0, 3, 6, 9, 12, 15]


@pytest.mark.filterwarnings("ignore")
def test_lightning_that_is_resumed_or_fails(tmp_path):
    from undying.integrations.lightning import WatchCallback

    call = nn.Module.__call__
    trainer = lightning_fit(lightning_module(), WatchCallback(), tmp_path)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    memory = undying.Memory()
    lightning_fit(
        lightning_module(), WatchCallback(every=3, sinks=memory), tmp_path, 2, ckpt_path=tmp_path / "saved.ckpt"
    )
    assert [record.step for record in memory] == [9, 12, 15]
    for error in (RuntimeError(), KeyboardInterrupt()):
        sink = Sink()
        with pytest.raises((RuntimeError, SystemExit)):
            lightning_fit(lightning_module(fails=error), WatchCallback(every=1, sinks=sink), tmp_path)
        assert (sink.steps, sink.closed, nn.Module.__call__) == ([0, 1, 2, 3], 1, call)


class Sink:
    def __init__(self):
        self.steps, self.closed = [], 0

    def write(self, record):
        self.steps.append(record.step)

    def close(self):
        self.closed += 1


def transformers_trainer(folder, callbacks, **settings):
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, hidden_act="relu", **sizes))
    mask = torch.tensor([1, 1, 1, 1, 1, 0, 0])
    rows = [{"input_ids": torch.randint(0, 20, (7,)), "attention_mask": mask, "labels": i % 2} for i in range(24)]
    settings = {"max_steps": 3, "gradient_accumulation_steps": 2, "save_strategy": "no", **settings}
    arguments = TrainingArguments(
        folder, per_device_train_batch_size=4, report_to="none", use_cpu=True, disable_tqdm=True, **settings
    )
    return Trainer(model, arguments, train_dataset=rows, callbacks=callbacks)


@pytest.mark.filterwarnings("ignore")  # what Trainer says of pinned memory and the like
def test_transformers_trainer(tmp_path):
    from undying.integrations.transformers import WatchCallback

    memory = undying.Memory()
    path = tmp_path / "watch.jsonl"
    trainer = transformers_trainer(tmp_path, [WatchCallback(every=2, sinks=[memory, path], mask="attention_mask")])
    trainer.train()
    assert [record.step for record in memory] == [0, 2]
    site = memory[0].census["bert.encoder.layer.0.intermediate.intermediate_act_fn"]
    assert (site.units, site.samples, site.values) == (12, 2 * 4, 2 * 4 * 5)
    assert memory[0].update_norm > 0
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in trainer.model.modules())
    trainer.train()
    assert [record["step"] for record in undying.JSONL.read(path)] == [0, 2, 0, 2]


@pytest.mark.filterwarnings("ignore")
def test_transformers_trainer_that_is_broken_off_and_resumed(tmp_path):
    from transformers import TrainerCallback

    from undying.integrations.transformers import WatchCallback

    errors = [RuntimeError(), KeyboardInterrupt()]

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if errors and state.global_step == 2:
                raise errors.pop()

    sink, call = Sink(), nn.Module.__call__
    trainer = transformers_trainer(
        tmp_path, [WatchCallback(every=1, sinks=[sink]), Stop()], save_strategy="steps", save_steps=1
    )
    for closed, error in ((1, KeyboardInterrupt), (2, RuntimeError)):
        with pytest.raises(error):
            trainer.train()
        assert (sink.closed, nn.Module.__call__) == (closed, call)
    sink.steps.clear()
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert sink.steps == [1, 2]
