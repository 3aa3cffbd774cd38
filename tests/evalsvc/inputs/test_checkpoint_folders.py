"""Which files of a folder are the checkpoint."""

import dataclasses
import json
import shutil

import pytest

from evalsvc.builtin.generators.causal_lm import CausalLM
from evalsvc.builtin.generators.stored import StoredSamples
from evalsvc.core.digests import digest_json, digest_path
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.checkpoint_folders import EARLIER, LEFT_OUT, digest_checkpoint, earlier_digests
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.registry import Plugin, PluginKind, Plugins

MODEL = ("config.json", "model.safetensors", "tokenizer.json", "unet/weights.bin", "scheduler/scheduler_config.json")
NOT_READ = (
    *("optimizer.pt", "optimizer.bin", "optimizer_1.bin", "optimizer_0/__0_0.distcp", "scheduler.pt", "scheduler.bin"),
    *("scaler.pt", "rng_state.pth", "rng_state_3.pth", "random_states_0.pkl", "sampler.bin", "dl_state_dict.bin"),
    *("global_step60/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_to_fp32.py", "distrib_optim.pt"),
    *("trainer_state.json", "training_args.bin", "trainer_log.jsonl", "all_results.json", "train.log"),
    *("runs/Nov28_host/events.out.tfevents.1.host.2.0", "logs/metrics.csv", "wandb/run-1/config.yaml", "mlruns/0/meta"),
    *(".git/HEAD", ".gitattributes", ".cache/huggingface/.gitignore", "README.md", "LICENSE", ".DS_Store", "._a.json"),
    *("__pycache__/a.pyc", ".ipynb_checkpoints/config-checkpoint.json", "@eaDir/x", "model.safetensors.lock"),
)
READ = (
    *("generation_config.json", "pytorch_model.bin", "custom_checkpoint_0.pkl", "vocab.txt", "chat_template.jinja"),
    *("global_step60/mp_rank_00_model_states.pt", "latest", "model_index.json", "optimizer.py", "scheduler.json"),
    *(".hydra/config.yaml", "logs/last.ckpt", "wandb/files/model.pt", "checkpoint-60/model.safetensors", "args.json"),
)


def written(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def model(tmp_path):
    return written(tmp_path / "model", MODEL)


def test_what_no_loader_reads_comes_and_goes_without_another_checkpoint(model):
    before = digest_checkpoint(model)
    for name in NOT_READ:
        written(model, [name])
        assert digest_checkpoint(model) == before, name
    assert digest_path(model) != before


def test_whatever_a_loader_could_read_counts(model):
    seen = {digest_checkpoint(model)}
    for name in READ:
        written(model, [name])
        seen.add(digest_checkpoint(model))
    for name in (*MODEL, *READ):
        (model / name).write_text("another")
        seen.add(digest_checkpoint(model))
    assert len(seen) == 1 + len(READ) + len(MODEL) + len(READ)


def test_a_folder_of_nothing_else_and_a_file_keep_the_digest_that_they_had(model):
    assert digest_checkpoint(model) == digest_path(model)
    assert digest_checkpoint(model / "config.json") == digest_path(model / "config.json")
    written(model, NOT_READ)
    assert digest_path(model) in earlier_digests(model)


def test_the_list_of_a_version_never_changes():
    """Who changes it keeps the old one in EARLIER, raises the version, and adds a digest here."""
    digests = {each.version: digest_json(dataclasses.astuple(each))[:16] for each in (*EARLIER, LEFT_OUT)}
    assert digests == {0: "644a13899cf551e8", 1: "a3b91d68b3ac3784"}
    assert max(digests) == LEFT_OUT.version


def test_a_folder_of_logs_alone_is_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="contains no checkpoint files"):
        digest_checkpoint(written(tmp_path / "empty", ["trainer_state.json", "runs/events.out.tfevents.1"]))
    with pytest.raises(InputError, match="does not exist"):
        digest_checkpoint(tmp_path / "none")


def adapter(folder, **config):
    written(folder, ["adapter_model.safetensors"])
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return digest_checkpoint(folder)


def test_the_base_that_an_adapter_names_is_part_of_it(model, tmp_path, monkeypatch):
    folder = tmp_path / "lora"
    local = adapter(folder, base_model_name_or_path=str(model))
    written(model, ["optimizer.pt"])
    assert digest_checkpoint(folder) == local
    (model / "model.safetensors").write_text("trained further")
    assert digest_checkpoint(folder) != local
    hub = {adapter(folder, base_model_name_or_path=base) for base in ("org/base", "org/other", "gpt2")}
    hub.add(adapter(folder, base_model_name_or_path="org/base", revision="v2"))
    assert len(hub) == 4
    monkeypatch.chdir(tmp_path)  # as peft reads it
    assert adapter(folder, base_model_name_or_path="model") != adapter(folder, base_model_name_or_path="models")


def test_a_base_that_is_missing_counts_by_its_name_and_the_adapter_itself_is_an_error(tmp_path):
    folder = tmp_path / "lora"
    missing = ("runs/llama/checkpoint-60", "/nowhere/base", "./base")
    assert len({adapter(folder, base_model_name_or_path=base) for base in missing}) == 3
    with pytest.raises(CheckpointError, match="as the base of itself"):
        adapter(folder, base_model_name_or_path=str(folder))
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is not a JSON object"):
        digest_checkpoint(folder)


class Narrow:
    @staticmethod
    def checkpoint_files(folder):
        return ["unet/weights.bin", "config.json"]


def test_a_plug_in_narrows_what_counts(model):
    plugins = Plugins()
    plugins.add(Plugin(PluginKind.GENERATOR, "narrow", "tests", "1", lambda: Narrow))
    files = plugins.checkpoint_files("narrow")
    before = digest_checkpoint(model, files)
    (model / "tokenizer.json").write_text("another")
    assert digest_checkpoint(model, files) == before
    (model / "unet" / "weights.bin").write_text("another")
    assert Checkpoint.open(model, "m", 1, files).digest != before
    (model / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing, but the checkpoint needs it"):
        digest_checkpoint(model, files)
    assert plugins.checkpoint_files("gan") is None


def test_a_language_model_is_its_safetensors_configuration_and_tokenizer(model):
    shutil.rmtree(model / "unet")
    shutil.rmtree(model / "scheduler")
    files = Plugins().checkpoint_files("causal-lm")
    before = digest_checkpoint(model, files)
    written(model, ("pytorch_model.bin", "modeling.py", "onnx/model.onnx", "checkpoint-60/model.safetensors", "m.gguf"))
    assert digest_checkpoint(model, files) == before == digest_checkpoint(model, CausalLM.checkpoint_files)
    for name in ("additional_chat_templates/tool.jinja", "chat_template.jinja", "tokenizer.model", "added_tokens.json"):
        before = digest_checkpoint(model, files)
        written(model, [name])
        assert digest_checkpoint(model, files) != before
    written(model, ["adapter_config.json"])
    with pytest.raises(InputError, match="contains both a model and an adapter"):
        digest_checkpoint(model, files)


def test_of_samples_every_file_counts_that_is_not_the_system_s(tmp_path):
    folder = written(tmp_path / "samples", ["logs/1.png", "runs/2.png"])
    before = digest_checkpoint(folder, StoredSamples.checkpoint_files)
    written(folder, [".DS_Store", ".ipynb_checkpoints/1.png"])
    assert digest_checkpoint(folder, StoredSamples.checkpoint_files) == before
    written(folder, ["logs/3.png"])
    assert digest_checkpoint(folder, StoredSamples.checkpoint_files) != before
