"""Checkpoints of real trainers, taken while they train and scored as they are: no file is exported or renamed."""

import logging
import shutil
import warnings

import accelerate
import pytest
import pytorch_lightning
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

import evalsvc
from evalsvc import Checkpoint, SampleRequest
from evalsvc.builtin.generators.torch_module import TorchModule
from evalsvc.core.errors import CheckpointError
from evalsvc.inputs.watched_folder import WatchedFolder

SUITE = """
name: trained
version: 1
modality: image
samples: 4
extractors: {pixels: {use: pixels}}
metrics: [{metric: vendi_score, features: pixels/pixels}]
"""


class Generator(nn.Module):
    """Maps 4 numbers to an image of 1 x 8 x 8; batch norm, so that buffers count."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 64), nn.Tanh())

    def forward(self, z):
        return self.layers(z).view(-1, 1, 8, 8)


class Adversary(pytorch_lightning.LightningModule):
    """A GAN's two networks; the loss is of no interest."""

    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = Generator(), nn.Linear(64, 1)

    def forward(self, z, **_):
        return {"loss": self.discriminator(self.generator(z).flatten(1)).square().mean()}

    def training_step(self, batch):
        return self(**batch)["loss"]

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


DATA = [{"z": each} for each in torch.randn(64, 4)]


class Watch:
    """What ``evalsvc watch`` does at each scan, called by the trainer; keeps each generator and its images."""

    def __init__(self, folder, state=""):
        folder.mkdir()
        self.folder, self.state, self.scored = WatchedFolder(folder, "*", settle=0), state, {}

    def scan(self, trained):
        for path in self.folder.whole():
            self.folder.take(path)
            with torch.inference_mode():
                expected = nn.Module.eval(trained)(REQUEST.normal(4))
                trained.train()
            self.scored[path.name] = (generator(path, self.state), expected)

    def assert_scored(self, *names, weights):
        assert set(self.scored) == set(names)
        for loaded, expected in self.scored.values():
            assert loaded.info.weights == weights
            assert torch.equal(loaded.sample(REQUEST).pixels, evalsvc.Images.from_signed(expected).pixels)
        assert len({expected.sum() for _, expected in self.scored.values()}) == len(names)


REQUEST = SampleRequest.of(0, 0, 4)


def generator(path, state=""):
    return TorchModule(
        Checkpoint.open(path, "m", 1), torch.device("cpu"), module=f"{__name__}:Generator", latent=4, state=state
    )


@pytest.fixture(autouse=True)
def quiet():
    """Trainers advise on workers, loggers and hardware."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def one_process(tmp_path):
    """A process group of one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def train_lightning(folder, *callbacks):
    saves = pytorch_lightning.callbacks.ModelCheckpoint(folder, every_n_train_steps=2, save_top_k=-1)
    trainer = pytorch_lightning.Trainer(
        max_steps=4,
        callbacks=[saves, *callbacks],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module := Adversary(), DataLoader(DATA, batch_size=8))
    return module


class WatchLightning(pytorch_lightning.Callback):
    def __init__(self, watch):
        self.watch = watch

    def on_train_batch_start(self, trainer, module, *_):
        self.watch.scan(module.generator)

    on_train_end = on_train_batch_start


def test_lightning(tmp_path, home):
    watch = Watch(tmp_path / "gan")
    train_lightning(tmp_path / "gan", WatchLightning(watch))
    watch.assert_scored("epoch=0-step=2.ckpt", "epoch=0-step=4.ckpt", weights="state_dict.generator")
    (tmp_path / "trained.yaml").write_text(SUITE)
    run = evalsvc.evaluate(
        tmp_path / "gan" / "epoch=0-step=4.ckpt",
        str(tmp_path / "trained.yaml"),
        generator="torch-module",
        options={"module": f"{__name__}:Generator", "latent": 4},
    )
    assert run.name == "gan@4"
    assert run.provenance["weights"] == "state_dict.generator"


def test_lightning_with_averages_asks_which_and_takes_either(tmp_path):
    averages = pytorch_lightning.callbacks.EMAWeightAveraging(decay=0.5)
    module = train_lightning(tmp_path, averages)
    (path,) = tmp_path.glob("*step=4.ckpt")
    with pytest.raises(CheckpointError, match="state=current_model_state.generator or state=state_dict.generator$"):
        generator(path)
    assert generator(path, "state_dict").info.weights == "state_dict.generator"
    assert module is not None


def test_the_trainer_of_transformers(tmp_path):
    watch, module = Watch(tmp_path / "run"), Adversary()

    class WatchTrainer(TrainerCallback):
        def on_step_begin(self, *_, **__):
            watch.scan(module.generator)

        on_train_end = on_step_begin

    arguments = TrainingArguments(
        str(tmp_path / "run"),
        max_steps=4,
        save_steps=2,
        per_device_train_batch_size=8,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
    )
    Trainer(module, arguments, train_dataset=DATA, callbacks=[WatchTrainer()]).train()
    watch.assert_scored("checkpoint-2", "checkpoint-4", weights="model.safetensors: generator")


@pytest.mark.parametrize(("safe", "file"), [(True, "model.safetensors"), (False, "pytorch_model.bin")])
def test_accelerate(tmp_path, safe, file):
    watch, accelerator = Watch(tmp_path / "run"), accelerate.Accelerator(cpu=True)
    module, optimizer = accelerator.prepare(network := Generator(), torch.optim.Adam(network.parameters()))
    for step in (1, 2):
        accelerator.backward(module(torch.randn(8, 4)).square().mean())
        optimizer.step()
        accelerator.save_state(tmp_path / "run" / f"checkpoint_{step}", safe_serialization=safe)
        watch.scan(network)
    watch.assert_scored("checkpoint_1", "checkpoint_2", weights=file)


def test_data_parallel_compiled_and_sharded(tmp_path, one_process):
    watch, network = Watch(tmp_path / "run"), Generator()
    wrapped = DistributedDataParallel(torch.compile(network))
    torch.save({"net": wrapped.state_dict(), "step": 1}, tmp_path / "run" / "step_1.pt")
    watch.scan(network)
    watch.assert_scored("step_1.pt", weights="net.module._orig_mod")
    shutil.rmtree(tmp_path / "run")
    watch = Watch(tmp_path / "run")
    sharded = fully_shard(Generator(), mesh=torch.distributed.init_device_mesh("cpu", (1,)))
    sharded(torch.randn(8, 4)).square().mean().backward()
    optimizer = torch.optim.Adam(sharded.parameters())
    optimizer.step()
    dcp.save({"model": get_model_state_dict(sharded), "step": 3}, checkpoint_id=tmp_path / "run" / "step_3")
    watch.scan(sharded)
    watch.assert_scored("step_3", weights="model")
