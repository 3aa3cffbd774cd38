"""Models and steps are read from paths as trainers and hubs write them, and never guessed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from evalsvc.api import schemas
from evalsvc.api.server.task_handlers import TaskHandlers
from evalsvc.builtin.demo import shipped
from evalsvc.cli.checkpoint_arguments import find_checkpoints
from evalsvc.cli.main import app
from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoint_names import Labels, Naming
from evalsvc.inputs.checkpoints import step_from_name

STEPS = {
    "Lightning": {
        "epoch=3-step=4000-v1.ckpt": 4000,
        "epoch=2-val_loss=0.12.ckpt": 2,
        "epoch=10-step=5000-fid=12.5.ckpt": 5000,
        "epoch=000012.ckpt": 12,
        "last-v1.ckpt": None,
        "3-4000.ckpt": None,
    },
    "averaged and other decimals": {
        "ema_0.9999_050000.pt": 50000,
        "ema_0.9999.pt": None,
        "step-000123-ema2.pt": 123,
        "network-snapshot-1000-0.050.pkl": 1000,
        "fid=12.5.pt": None,
        "val_loss_0.12.pt": None,
        "best_model_epoch_12_loss_0.03.pt": 12,
        "lr_1e-4.pt": None,
        "lr=1e-4-step=100.pt": 100,
    },
    "dtypes, seeds, sizes of images": {
        "step_4000_fp16.safetensors": 4000,
        "model_fp16.pt": None,
        "iter_2000_seed42.pt": 2000,
        "seed_3.pt": None,
        "G_25000_256x256.pt": 25000,
        "ffhq-256.pt": None,
        "ffhq256-025000.pt": 25000,
        "vocoder_16k.pt": None,
        "cifar10_uncond_50000.pt": 50000,
        "samples_50000.npz": None,
        "generated_50k.npz": None,
        "vqgan_imagenet_f16_16384.ckpt": None,
    },
    "totals, shards, ranks, sampling steps": {
        "checkpoint-1000-of-5000.pt": 1000,
        "epoch_5_of_100.pt": 5,
        "model-00001-of-00002.safetensors": None,
        "model.ckpt-1000.data-00000-of-00001": 1000,
        "mp_rank_00_model_states.pt": None,
        "sdxl_lightning_4step_unet.safetensors": None,
        "ddim_steps=50.pt": None,
        "n_epochs=100.pt": None,
        "num_train_steps=1000.pt": None,
        "steps_per_epoch=100.pt": None,
        "warmup_steps_100-step_7.pt": 7,
    },
    "numbers": {
        "model_10k.pt": 10_000,
        "step_1e5.pt": 100_000,
        "step=1_000_000.pt": 1_000_000,
        "step_1,000.pt": 1000,
        "iter_2.5M.pt": 2_500_000,
        "gan_100k_steps.pt": 100_000,
        "stylegan2-5000kimg.pkl": 5000,
        "step_3_500.pt": None,
        "step=-1.pt": None,
        "epoch_-1.pt": None,
        "after_1000_steps.pt": 1000,
        "epoch=3.5.pt": None,
        "checkpoint-99999999999999999999.pt": None,
        "model_1714521600.pt": None,
        "model_20240501.pt": None,
        "run-2024-05-01.pt": None,
        "x-550e8400-e29b-41d4-a716-446655440000.pt": None,
        "9f2c1f7d.pt": None,
    },
    "the most trusted key": {
        "epoch=1-step=50-global_step=1000.ckpt": 50,
        "epoch_12_iter_400.pth": 400,
        "checkpoint-7-epoch-2.pt": 7,
        "step_5_step_6.pt": None,
        "step=4.5-epoch=3.pt": None,
    },
    "trainers": {
        "network-snapshot-002400.pkl": 2400,
        "checkpoint-500": 500,
        "global_step1000": 1000,
        "model.step1000.pt": 1000,
        "model.ckpt-1000.safetensors": 1000,
        "unet_v2_step300.pt": 300,
        "step300_unet_v2.pt": 300,
        "iter_0005000": 5000,
        "0400000.pt": 400_000,
        "model050000.pt": 50_000,
        "checkpoint_3_5000.pt": 5000,
        "checkpoint_3_500.pt": None,
        "checkpoint_best.pt": None,
        "checkpoint_1000000": 1_000_000,
        "100_net_G.pth": 100,
        "net_g_100000.pth": 100_000,
        "ckpt.pt": None,
        "ganStep400.pt": 400,
        "gan_step-4000.pt": 4000,
    },
    "models": {
        "Qwen2.5-0.5B": None,
        "gpt2": None,
        "Llama-3.2-1B-Instruct": None,
        "model_best_v2.pt": None,
        "phi-2": None,
        "DeepSeek-R1-0528": None,
        "stable-diffusion-v1-5": None,
        "gemma-2-9b-it-4bit": None,
        "SmolLM2-135M-Instruct.Q8_0.gguf": None,
        "vit_base_patch16_224.pt": None,
        "pythia-1.4b-deduped-step143000": 143_000,
        "OLMo-1B-step738020-tokens3094B": 738_020,
    },
    "plain names": {
        "model_1.safetensors": 1,
        "plain_1.zip": 1,
        "clean_1": 1,
        "gan2-0500.pt": 500,
        "gan_500_best.pt": 500,
        "model_3_5000.pt": None,
        "model_2_copy.pt": None,
        "model (2).pt": None,
    },
}


@pytest.mark.parametrize("kind", STEPS)
def test_the_step_is_read_from_a_name_or_asked_for(kind):
    assert {name: step_from_name(Path(name)) for name in STEPS[kind]} == STEPS[kind]


AROUND = """
fp16 bf16 int8 q8_0 ema ema_0.9999 ema0.999 seed3 seed_42 256x256 v2 v1.5 val_loss=0.12 loss_0.3 fid=12.5 fid12 0.5B
160m lr=1e-4 lr_0.001 bs64 rank0 top5 acc0.9 psnr_31.2 20240501 2024-05-01 a1b2c3d cifar10 gan my-model unet
G best final
"""
KEYS = """
step= step_ step- step iter_ iter= iter global_step global_step_ checkpoint- ckpt_ snapshot- epoch= epoch_ epoch
"""
noise = st.lists(st.sampled_from(AROUND.split()), max_size=4, unique=True)
steps = st.one_of(st.integers(0, 10**6), st.integers(0, 1000).map(lambda thousands: 1000 * thousands))


def written_numbers(step):
    return [str(step), f"{step:07}", *([f"{step // 1000}k", f"{step:,}".replace(",", "_")] if step % 1000 == 0 else [])]


@settings(max_examples=150, deadline=None)
@given(noise, noise, steps, st.sampled_from("_-"), st.sampled_from([".pt", ".safetensors", ""]), st.data())
def test_a_step_with_a_key_is_read_whatever_stands_around_it(before, after, step, mark, suffix, data):
    number = data.draw(st.sampled_from(written_numbers(step)))
    counted = [f"{number}steps", f"{number}_iters"] if step >= 100 else []
    key = data.draw(st.sampled_from([f"{key}{number}" for key in KEYS.split()] + counted))
    assert step_from_name(Path(mark.join([*before, key, *after]) + suffix)) == step


@settings(max_examples=150, deadline=None)
@given(noise, steps, st.sampled_from("_-"), st.sampled_from([".pt", ""]))
def test_without_a_key_the_last_number_is_the_step_or_nothing_is(before, step, mark, suffix):
    assert step_from_name(Path(mark.join(before) + suffix)) is None
    assert step_from_name(Path(mark.join([*before, str(step)]) + suffix)) in (step, None)


def written(path, *files):
    """A file, or a folder that holds these."""
    for file in [path / name for name in files] or [path]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(str(file).encode())
    return path


@pytest.mark.parametrize(
    ("path", "files", "name"),
    [
        ("lightning_logs/version_3/checkpoints/epoch=9-step=4000.ckpt", (), ("version_3", 4000)),
        ("tb_logs/gan/version_0/checkpoints/epoch=9-step=4000.ckpt", (), ("gan-version_0", 4000)),
        ("gan/4f9a1c/checkpoints/epoch=9-step=4000.ckpt", ("distcp",), ("4f9a1c", 4000)),
        ("vae/epoch=3-val/loss=0.12.ckpt", (), ("vae", 3)),
        ("models/Qwen2.5-0.5B", ("config.json",), ("Qwen2.5-0.5B", 0)),
        ("models/phi-2", ("config.json",), ("phi-2", 0)),
        ("models/flux", ("model_index.json",), ("flux", 0)),
        ("models/pythia-1.4b-step143000", ("config.json",), ("pythia-1.4b", 143_000)),
        ("models/SmolLM2-135M.Q8_0.gguf", (), ("SmolLM2-135M.Q8_0", 0)),
        ("models--org--Tiny-LM/snapshots/0123abc", ("config.json",), ("Tiny-LM", 0)),
        ("runs/llama/checkpoint-60", ("config.json",), ("llama", 60)),
        ("runs/llama/checkpoint-60/pytorch_model_fsdp_0", (".metadata",), ("llama", 60)),
        ("runs/llama/checkpoint-60/model.safetensors", (), ("llama", 60)),
        ("runs/sd/checkpoint-500/unet/diffusion_pytorch_model.safetensors", (), ("sd", 500)),
        ("runs/big/iter_0005000/mp_rank_00/model_optim_rng.pt", (), ("big", 5000)),
        ("samples/gan_step_1000", ("0.png",), ("gan", 1000)),
        ("runs/gan/step_1000/samples", ("0.png",), ("gan", 1000)),
        ("results/000-DiT-XL-2/checkpoints/0400000.pt", (), ("000-DiT-XL-2", 400_000)),
        ("dcgan/netG_epoch_24.pth", (), ("dcgan", 24)),
        ("runs/train/exp3/weights/epoch10.pt", (), ("exp3", 10)),
        ("wandb/run-20240501-4f9a1c/files/checkpoints/epoch=1.ckpt", (), ("run-20240501-4f9a1c", 1)),
        ("models/Qwen2.5-0.5B/checkpoint-500", ("config.json",), ("Qwen2.5-0.5B", 500)),
    ],
)
def test_model_and_step_stand_where_trainers_and_hubs_write_them(tmp_path, path, files, name):
    assert Naming().read(written(tmp_path / path, *files)) == name


@pytest.mark.parametrize("path", ["runs/llama/checkpoint-best", "runs/llama/final", "samples/gan"])
def test_a_folder_of_which_nothing_says_the_step_is_asked_about(tmp_path, path):
    files = ("0.png",) if path.startswith("samples") else ("config.json",)
    folder = written(tmp_path / path, *files)
    with pytest.raises(InputError, match=f"cannot infer the step from {folder}: pass --step-pattern REGEX, or --step"):
        Naming().read(folder)
    assert Naming(step=7).read(folder) == ("gan" if path.startswith("samples") else "llama", 7)


def test_a_link_of_the_hubs_cache_keeps_the_name_under_which_it_stands(tmp_path):
    blob = written(tmp_path / "models--org--Tiny-LM" / "blobs" / "1234")
    link = written(tmp_path / "models--org--Tiny-LM" / "snapshots" / "0123abc", "config.json") / "model.safetensors"
    link.symlink_to(blob)
    assert Naming(step=0).read(link) == ("Tiny-LM", 0)


@pytest.mark.parametrize(
    ("patterns", "name"),
    [
        ({"step_pattern": r"ck(\d+)"}, ("b", 12)),
        ({"step_pattern": r"\d+"}, ("b", 12)),
        ({"step_pattern": r"b/ck\w+"}, None),
        ({"step_pattern": r"(?P<what>c)k(?P<step>\d+)"}, ("b", 12)),
        ({"step_pattern": r"seed(\d+k)"}, ("b", 7000)),
        ({"step_pattern": r"ck(\d+)", "model_pattern": "runs/([^/]+)/"}, ("a", 12)),
        ({"step": 3, "model_pattern": r"(?P<model>a/b)"}, ("a/b", 3)),
        ({"step_pattern": "("}, None),
        ({"step_pattern": "none"}, None),
        ({"step_pattern": r"\d", "step": 1}, None),
        ({"step": 1, "model": "a", "model_pattern": "a"}, None),
    ],
)
def test_patterns_say_what_names_do_not(patterns, name):
    path = Path("runs/a/b/ck12_seed7k.pt")
    if name:
        assert Naming(**patterns).read(path) == name
        return
    with pytest.raises(InputError, match="-pattern"):
        Naming(**patterns).read(path)


def test_two_contents_under_one_label_are_refused_before_any_work(tmp_path, capsys):
    for name in ("a_1.pt", "b_1.pt"):
        written(tmp_path / "run" / name)
    with pytest.raises(InputError, match=r"a_1.pt and .*b_1.pt are both run@1 but differ in content"):
        find_checkpoints([str(tmp_path / "run" / "*.pt")], Naming())
    assert capsys.readouterr().err.count(" run ") == 2, "the table shows what was read"
    (tmp_path / "run" / "b_1.pt").write_bytes((tmp_path / "run" / "a_1.pt").read_bytes())
    assert len(find_checkpoints([str(tmp_path / "run" / "*.pt")], Naming())) == 2


def test_a_glob_passes_by_hidden_files_and_a_step_is_for_one_checkpoint(tmp_path):
    for name in ("gan_1.npz", "gan_2.npz", ".gan_3.npz", ".DS_Store"):
        written(tmp_path / name)
    assert [each.step for each in find_checkpoints([str(tmp_path / "*")], Naming())] == [1, 2]
    assert [each.step for each in find_checkpoints([str(tmp_path / ".g*")], Naming())] == [3]
    with pytest.raises(InputError, match="--step 5 is for one checkpoint, but 2 were given: use --step-pattern"):
        find_checkpoints([str(tmp_path / "*")], Naming(step=5))


def test_one_content_may_have_two_labels_and_a_path_twice_is_one_checkpoint(tmp_path, capsys):
    written(tmp_path / "run" / "step_1.pt")
    assert len(find_checkpoints([str(tmp_path / "run" / "step_1.pt")] * 2, Naming())) == 1
    assert capsys.readouterr().err == ""
    (tmp_path / "run" / "step_2.pt").write_bytes((tmp_path / "run" / "step_1.pt").read_bytes())
    found = find_checkpoints([str(tmp_path / "run" / "*.pt")], Naming())
    assert [each.step for each in found] == [1, 2]
    assert capsys.readouterr().err.count(found[0].digest[:8]) == 2, "and what is in it"


def test_a_file_that_is_written_anew_keeps_its_label():
    labels, (label, other) = Labels(), (Naming(model="m", step=step).read(Path("x.pt")) for step in (1, 2))
    labels.claim(label, "a", "x.pt")
    labels.claim(label, "b", "x.pt")
    labels.claim(other, "a", "y.pt")
    with pytest.raises(InputError, match=r"x.pt and y.pt are both m@1"):
        labels.claim(label, "a", "y.pt")


@pytest.mark.parametrize("command", ["score", "submit"])
def test_commands_list_what_they_read_and_take_patterns(tmp_path, home, command):
    images = np.zeros((4, 8, 8), np.uint8)
    for number in (5, 6):
        (tmp_path / "gan").mkdir(exist_ok=True)
        np.savez(tmp_path / "gan" / f"ck{number}.npz", images + number)
    arguments = [command, str(tmp_path / "gan" / "*.npz"), "--generator", "samples", "--step-pattern", r"ck(\d+)"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert "contains 4 samples" in str(done.exception)
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stderr.splitlines()]
    # A path that is longer than the terminal is wide goes on in lines of its own.
    assert [row[3] for row in rows if row[2:3] == ["gan"]] == ["5", "6"]


def test_watch_submits_no_two_contents_under_one_label(tmp_path, home):
    names = ["epoch=1-val_loss=0.31", "epoch=2-val_loss=0.12", "epoch=2-val_loss=0.1", "epoch=3-step=20-v1", "best"]
    (tmp_path / "run").mkdir()
    for name, (_, _, weights) in zip(names, (each for each in shipped() if each.family == "vae"), strict=False):
        (tmp_path / "run" / f"{name}.safetensors").write_bytes(weights.read_bytes())
    command = ["watch", str(tmp_path / "run"), "--pattern", "*", "--generator", "vae", "--settle", "0", "--dry-run"]
    done = CliRunner().invoke(app, [*command, "--every", "0.1"])
    assert done.exit_code == 0, done.exception
    said = [line.split("/run/", 1)[1] for line in done.stderr.splitlines() if "/run/" in line]
    assert [line.split(" as ")[-1] for line in said if "would be submitted" in line] == ["run@1", "run@2", "run@20"]
    assert sum("are both run@2 but differ in content" in line for line in said) == 1
    assert sum("cannot infer the step" in line for line in said) == 1


def test_the_api_asks_for_the_step_in_its_own_words_and_shows_no_folder_of_the_server(tmp_path, home):
    path = written(tmp_path / "secret" / "best.pt")
    asked = schemas.EvaluationCreate(path=str(path), generator="vae", suite="digits@1")
    with pytest.raises(InputError) as refused:
        TaskHandlers(()).submit(asked, path)
    assert str(refused.value) == "cannot infer the step from best.pt: give 'step'"


def test_an_index_of_shards_stands_for_its_folder(tmp_path):
    folder = tmp_path / "llama" / "checkpoint-60"
    folder.mkdir(parents=True)
    (folder / "model.safetensors.index.json").write_text("{}")
    (given,) = find_checkpoints([str(folder / "model.safetensors.index.json")], Naming())
    (expected,) = find_checkpoints([str(folder)], Naming())
    assert given == expected


def test_a_dry_run_ends_though_a_checkpoint_is_not_complete(tmp_path, home):
    (tmp_path / "run" / "step_1").mkdir(parents=True)
    (tmp_path / "run" / "step_1" / "__0_0.distcp").write_bytes(b"x")
    command = [
        "watch",
        str(tmp_path / "run"),
        "--pattern",
        "step_*",
        "--generator",
        "vae",
        "--settle",
        "0",
        "--dry-run",
    ]
    done = CliRunner().invoke(app, [*command, "--every", "0.1"])
    assert done.exit_code == 0, done.exception
    assert "run/step_1 is not complete" in done.stderr
