"""Callbacks in real trainers: every checkpoint is asked for, and no trouble with a server touches training."""

import logging
import threading
from types import SimpleNamespace

import pytest
import pytorch_lightning
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from evalsvc.api.client import ClientError
from evalsvc.integrations import huggingface, lightning
from evalsvc.integrations.submitter import WAITING, Submitter


class Server:
    """Stands for a client; keeps what was submitted."""

    def __init__(self, trouble=None):
        self.asked, self.trouble = [], trouble

    def submit(self, **asked):
        if self.trouble:
            self.trouble()
        self.asked.append(asked)
        return SimpleNamespace(id=len(self.asked))

    def upload(self, path):
        return SimpleNamespace(digest=f"digest of {path.name}")

    def close(self):
        pass


def refuse():
    raise ClientError("https://evals.example.com was not reached")


class Line(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(2, 1)

    def training_step(self, batch):
        return self.line(batch).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def train_lightning(callback, steps=10):
    trainer = pytorch_lightning.Trainer(
        max_steps=steps,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Line()
    trainer.fit(module, DataLoader(torch.randn(100, 2), batch_size=2))
    return trainer, module


def train_huggingface(callback, folder):
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        save_steps=2,
        per_device_train_batch_size=1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}] * 8
    trainer = Trainer(LlamaForCausalLM(config), arguments, train_dataset=rows, callbacks=[callback])
    trainer.train()
    return trainer


def test_lightning_has_its_weights_evaluated_as_they_were_at_each_step(tmp_path):
    server, copies = Server(), {}

    def weights(module):
        copies[len(copies)] = module.line.weight.detach().clone()
        return module.state_dict()

    callback = lightning.EvaluateCheckpoints(
        "digits@1", "my-gan", every_n_steps=4, folder=tmp_path / "line", weights=weights, client=lambda: server, seed=7
    )
    train_lightning(callback)
    assert [(each["step"], each["model"], each["path"].name) for each in server.asked] == [
        (4, "line", "step_4.safetensors"),
        (8, "line", "step_8.safetensors"),
    ]
    assert all((each["suite"], each["generator"], each["seed"]) == ("digits@1", "my-gan", 7) for each in server.asked)
    for number, each in enumerate(server.asked):
        assert torch.equal(load_file(each["path"])["line.weight"], copies[number])
    assert callback.submitter.submitted == [1, 2]
    assert sorted(path.name for path in (tmp_path / "line").iterdir()) == ["step_4.safetensors", "step_8.safetensors"]


def test_the_hugging_face_trainer_has_each_saved_folder_evaluated(tmp_path):
    server = Server()
    callback = huggingface.EvaluateCheckpoints("prose-lm@1", "causal-lm", client=lambda: server)
    train_huggingface(callback, tmp_path / "llama")
    assert [(each["step"], each["model"], each["path"].name) for each in server.asked] == [
        (2, "llama", "checkpoint-2"),
        (4, "llama", "checkpoint-4"),
    ]
    assert all((each["path"] / "model.safetensors").is_file() for each in server.asked)


def no_server():
    raise ClientError("invalid server 'nonsense'")


@pytest.mark.parametrize("client", [no_server, lambda: Server(refuse), lambda: None])
def test_no_trouble_with_the_server_stops_training(tmp_path, client, caplog):
    callback = lightning.EvaluateCheckpoints("digits@1", "g", every_n_steps=5, folder=tmp_path, client=client)
    trainer, _ = train_lightning(callback)
    assert trainer.global_step == 10
    assert [record.levelno for record in caplog.records if record.name == "evalsvc"] == [logging.WARNING] * 2


def test_training_does_not_wait_for_a_server_that_hangs():
    let_go, server = threading.Event(), None
    server = Server(lambda: let_go.wait(30))
    submitter = Submitter("digits@1", "g", client=lambda: server)
    for step in range(3 * WAITING):
        submitter.put(lambda: SimpleNamespace(resolve=lambda: "x"), "m", step)
    assert server.asked == []
    let_go.set()
    submitter.close()
    steps = [each["step"] for each in server.asked]
    assert steps[-WAITING:] == list(range(2 * WAITING, 3 * WAITING))
    assert len(steps) <= WAITING + 1


def test_the_end_of_training_waits_for_what_is_left_but_not_for_ever(caplog):
    let_go = threading.Event()
    submitter = Submitter("digits@1", "g", client=lambda: Server(let_go.wait))
    submitter.put(lambda: SimpleNamespace(resolve=lambda: "x"), "m", 1)
    closing = threading.Thread(target=submitter.close, args=(0.2,), daemon=True)
    closing.start()
    closing.join(300)
    assert not closing.is_alive()  # and the server hangs still
    let_go.set()
    assert "not all checkpoints were submitted" in caplog.text


def test_without_a_shared_disk_the_file_itself_is_sent(tmp_path):
    server = Server()
    submitter = Submitter("digits@1", "g", upload=True, client=lambda: server)
    submitter.put(lambda: tmp_path / "step_1.safetensors", "m", 1)
    submitter.close()
    assert server.asked[0]["upload"] == "digest of step_1.safetensors"
    assert "path" not in server.asked[0]
