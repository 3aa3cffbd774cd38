"""Every row of docs/models.md has an example, and every example scores a model of its family."""

import importlib.util
import json
import math
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from evalsvc.cli.main import app
from tests.docs.pages import FENCE, ROOT, commands
from tests.evalsvc import diffusion_pipelines as tiny
from tests.evalsvc import language_models

PAGE = (ROOT / "docs" / "models.md").read_text()
EXAMPLES = {
    title: fence[3]
    for title, text in re.findall(r"^### (.*?)$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    for fence in FENCE.finditer(text)
    if fence[1] == "sh"
}
"""The shell block of each section of the page."""
NETWORKS = {"gan": "GAN", "stylegan": "StyleGAN", "cyclegan": "CycleGAN", "vae": "VAE", "flow": "Flow"}
PIPELINES = {
    "wan": tiny.wan,
    "stable-audio": tiny.stable_audio,
    "sd": tiny.stable_diffusion,
    "controlnet": lambda: tiny.stable_diffusion(
        diffusers.StableDiffusionControlNetPipeline, controlnet=tiny.controlnet()
    ),
    "pix2pix": lambda: tiny.stable_diffusion(
        diffusers.StableDiffusionInstructPix2PixPipeline, unet=tiny.unet(channels=8)
    ),
}


def module(name):
    """A file of the examples."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / "models" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def save(network, folder):
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "step_100.safetensors")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the examples and a checkpoint of each family."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "evalsvc").symlink_to(ROOT / "evalsvc")
    torch.manual_seed(0)
    networks = module("networks")
    for name, kind in NETWORKS.items():
        save(getattr(networks, kind)(), folder / "runs" / name)
    for name in ("rnn", "wavenet"):
        save(module(name).Network(), folder / "runs" / name)
    for name, make in PIPELINES.items():
        make().save_pretrained(folder / "runs" / name / "step_100")
    for name, kind in {"gpt": "gpt2", "llama": "llama", "qwen": "qwen", "t5": "t5", "coder": "llama"}.items():
        language_models.save(folder / "runs" / name / "checkpoint-100", kind)
    adapt(folder / "runs" / "llama" / "checkpoint-100", folder / "runs" / "llama-lora" / "checkpoint-10")
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        (folder / "served.json").write_text(json.dumps({"url": url, "model": "served"}))
        yield folder
        server.shutdown()


class Answers(BaseHTTPRequestHandler):
    """A served model, which answers every prompt alike."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"choices": [{"text": "    return a + b", "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def adapt(base, folder):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)


def test_every_row_of_the_table_has_an_example_of_at_most_three_lines():
    rows = dict(re.findall(r"^\| \[.*?\]\(#([\w-]+)\)[^|]*\| (.*?) \|", PAGE, re.MULTILINE))
    examples = {title.lower().replace(" ", "-"): text.strip() for title, text in EXAMPLES.items()}
    assert rows.keys() == examples.keys()
    for name, text in examples.items():
        assert len(text.splitlines()) <= 3
        (generator,) = re.findall(r"--generator ([\w-]+)", text)
        assert f"`{generator}`" in rows[name] or ("plug-in" in rows[name] and "--plugin" in text)


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_example_of_a_family_scores_it(title, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("EVALSVC_HOME", str(workplace / "home"))
    for words in commands(EXAMPLES[title]):
        result = CliRunner().invoke(app, [*words[1:], "--json", "--device", "cpu"])
        assert result.exit_code == 0, result.output
        (evaluation,) = json.loads(result.stdout)
        assert all(math.isfinite(score["value"]) for score in evaluation["scores"])
