"""The shipped pipeline of ``diffusers``, a training loop as its tutorials write them, and what is drawn after it."""

import json
from dataclasses import replace

import accelerate
import diffusers
import pytest
import torch
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F
from torchmetrics.image import StructuralSimilarityIndexMeasure
from typer.testing import CliRunner

from evalsvc.builtin.demo import PIPELINES, train_unet
from evalsvc.builtin.demo.digits import splits
from evalsvc.builtin.extractors.digits_cnn import DigitsCNN
from evalsvc.builtin.generators.diffusers_pipeline import DiffusersPipeline
from evalsvc.cli import watch
from evalsvc.cli.main import app
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.metrics.functional import frechet_distance
from evalsvc.plugins.samples import Images, SampleRequest
from tests.evalsvc import diffusion_pipelines as tiny

CPU = torch.device("cpu")
SHIPPED = PIPELINES / train_unet.NAME / f"step_{train_unet.STEPS}"
FEW = """
name: few
version: 1
modality: image
samples: 4
extractors:
  pixels: {use: pixels}
metrics:
  - {metric: vendi_score, features: pixels/pixels}
"""
EDITS = """
name: edits
version: 1
modality: image
items: {file: edits.jsonl, prompt: instruction, source: before, target: after}
scorers:
  close: {use: ssim}
metrics:
  - {metric: mean, of: close}
"""


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def opened(folder, **options):
    return DiffusersPipeline(Checkpoint.open(folder, "m", 1, DiffusersPipeline.checkpoint_files), CPU, **options)


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code in (0, 130), result.output
    return result.stdout


# --- the pipeline that ships ---


def test_training_the_pipeline_again_writes_the_same_bytes(tmp_path):
    first, second = (files(train_unet.train(tmp_path / run, 2)) for run in ("first", "second"))
    assert first == second


def test_the_shipped_pipeline_is_one_that_training_writes_in_under_a_megabyte():
    written, shipped = train_unet.unet().state_dict(), load_file(SHIPPED / "unet/diffusion_pytorch_model.safetensors")
    assert {key: value.shape for key, value in written.items()} == {key: value.shape for key, value in shipped.items()}
    assert json.loads((SHIPPED / "model_index.json").read_text())["_class_name"] == "DDIMPipeline"
    assert sum(map(len, files(SHIPPED).values())) < 1e6


def test_the_shipped_pipeline_draws_digits():
    """A tenth of the samples of the suite, at which the demo's last ``ddpm`` has a distance above 40."""
    cnn, drawn = DigitsCNN(CPU), opened(SHIPPED, steps=10).sample(SampleRequest.of(0, 0, 200))
    features, real = (cnn.extract(images)["features"] for images in (drawn.samples, Images(splits()[0].pixels)))
    assert frechet_distance(features, real).value < 25


# --- training ---


def training(folder):
    """Two saves of the loop of the tutorial for unconditional images; yields after each.

    Each writes the training state with the folders of its hooks, ``unet`` and ``unet_ema``, the pipeline with the
    averaged weights, and these as ``torch.save`` writes an ``EMAModel``.
    """
    accelerator = accelerate.Accelerator(cpu=True)
    model, noising = tiny.unet2d(), diffusers.DDPMScheduler(num_train_timesteps=10)
    ema = EMAModel(model.parameters(), decay=0.5, model_cls=type(model), model_config=model.config)
    pixels = splits()[0].pixels[:8].float() / 127.5 - 1
    loader = torch.utils.data.DataLoader(pixels, batch_size=4)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    def save_parts(models, weights, place):
        ema.save_pretrained(f"{place}/unet_ema")
        for each in models:
            each.save_pretrained(f"{place}/unet")
            weights.pop()

    accelerator.register_save_state_pre_hook(save_parts)
    for step, clean in enumerate(loader, 1):
        noise, t = torch.randn_like(clean), torch.randint(10, (len(clean),))
        loss = F.mse_loss(model(noising.add_noise(clean, noise, t), t).sample, noise)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(model.parameters())
        accelerator.save_state(f"{folder}/checkpoint-{step}")
        torch.save(ema.state_dict(), f"{folder}/checkpoint-{step}/ema.pt")
        unet = accelerator.unwrap_model(model)
        ema.store(unet.parameters())
        ema.copy_to(unet.parameters())
        diffusers.DDPMPipeline(unet, noising).save_pretrained(f"{folder}/pipelines/step_{step}")
        ema.restore(unet.parameters())
        yield step


def test_checkpoints_of_a_training_loop_are_watched_and_scored_as_it_runs(tmp_path, home, monkeypatch):
    base, runs, suite = tiny.save_ddpm(tmp_path / "base"), tmp_path / "runs" / "digits", tmp_path / "few.yaml"
    suite.write_text(FEW)
    runs.mkdir(parents=True)
    loop = training(runs)

    def train_on(seconds):
        if next(loop, None) is None:
            raise KeyboardInterrupt

    asked = ("--generator", "diffusers", "--option", f"base={base}", "--option", "steps=3", "--suite", suite)
    with monkeypatch.context() as patched:
        patched.setattr(watch.time, "sleep", train_on)
        submitted = run("watch", runs, "--pattern", "checkpoint-*/unet_ema", "--settle", 0, *asked).split()
    assert submitted == ["1", "2"]

    def score(checkpoint, *options):
        (evaluation,) = json.loads(run("score", runs / checkpoint, "--json", "--device", "cpu", *asked, *options))
        return evaluation["name"], evaluation["evaluation"], evaluation["scores"][0]["value"]

    averaged = [score(f"checkpoint-{step}/unet_ema") for step in (1, 2)]
    assert [(name.partition("[")[0], number) for name, number, _ in averaged] == [("digits@1", 1), ("digits@2", 2)]
    assert len({value for _, _, value in averaged} | {score("checkpoint-2/unet")[2]}) == 3
    assert score("checkpoint-2/ema.pt", "--option", "component=unet")[2] == averaged[1][2]
    asked = ("--generator", "diffusers", "--option", "steps=3", "--suite", suite)
    assert score("pipelines/step_2")[2] == averaged[1][2]


# --- what the scorers see ---


def test_the_similarity_of_an_image_to_image_is_that_of_torchmetrics_on_the_library_s_own_arrays(
    tmp_path, home, monkeypatch
):
    pipeline = tiny.stable_diffusion(diffusers.StableDiffusionImg2ImgPipeline)
    pipeline.save_pretrained(tmp_path / "edit" / "step_1")
    torch.manual_seed(0)
    pictures = torch.randint(256, (6, 16, 16, 3), dtype=torch.uint8).numpy()
    rows = [{"instruction": f"cat {i}", "before": f"{i}.png", "after": f"{i + 3}.png", "id": str(i)} for i in range(3)]
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    (tmp_path / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "edits.yaml").write_text(EDITS)
    requests = []

    def kept(self, request, sample=DiffusersPipeline.sample):
        requests.append(request)
        return sample(self, request)

    monkeypatch.setattr(DiffusersPipeline, "sample", kept)
    words = ("--generator", "diffusers", "--option", "steps=4", "--option", 'arguments={"strength": 0.5}', "--json")
    scored = run("score", tmp_path / "edit" / "step_1", *words, "--suite", tmp_path / "edits.yaml", "--device", "cpu")
    similar = StructuralSimilarityIndexMeasure(data_range=255.0)
    (request,) = (each for each in requests if len(each) == 3)
    for name, seed in zip(request.item_ids, request.seeds.tolist(), strict=True):
        row = rows[int(name)]
        image = pipeline(
            prompt=row["instruction"], image=Image.open(tmp_path / row["before"]), strength=0.5, num_inference_steps=4,
            generator=torch.Generator().manual_seed(seed), output_type="np",
        ).images[0]  # fmt: skip
        levels = torch.from_numpy(image * 255).round()
        target = torch.from_numpy(pictures[int(name) + 3]).float()
        similar.update(levels.permute(2, 0, 1)[None], target.permute(2, 0, 1)[None])
    score = json.loads(scored)[0]["scores"][0]
    assert score["label"] == "ssim"
    assert score["value"] == pytest.approx(float(similar.compute()), abs=1e-4)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (tiny.stable_audio, {}),
        (tiny.wan, {"height": 16, "width": 16, "num_frames": 5, "max_sequence_length": 16}),
    ],
)
def test_sounds_and_videos_by_prompts_are_those_of_the_library(make, arguments, tmp_path):
    pipeline = make()
    pipeline.save_pretrained(tmp_path)
    further = {name: value for name, value in arguments.items() if name not in ("height", "width")}
    generator = opened(tmp_path, steps=2, size=16 if "height" in arguments else None, arguments=further)
    request = replace(SampleRequest.of(3, 0, 2), prompts=("a cat", "a dog, and a bird"))
    drawn = generator.sample(request).samples
    for row, (seed, prompt) in enumerate(zip(request.seeds.tolist(), request.prompts, strict=True)):
        output = pipeline(
            prompt, generator=torch.Generator().manual_seed(seed), num_inference_steps=2, output_type="np", **arguments
        )
        if generator.info.modality == "audio":
            assert drawn.rate == 4000
            expected = torch.as_tensor(output.audios[0]).mean(0)
            torch.testing.assert_close(drawn.waves[row], expected.clamp(-1, 1), rtol=0, atol=1e-6)
        else:
            expected = torch.as_tensor(output.frames[0]).permute(0, 3, 1, 2) * 255
            assert (drawn.pixels[row] - expected).abs().max() <= 1


def test_averages_that_emamodel_saves_without_names_are_those_that_it_copies(tmp_path):
    network, expected, target = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)) for _ in range(3))
    average = EMAModel(network.parameters(), decay=0.5)
    for _ in range(3):
        network(torch.randn(5, 2)).square().mean().backward()
        torch.optim.SGD(network.parameters(), 1).step()
        average.step(network.parameters())
    torch.save({"unet": network.state_dict(), "ema": average.state_dict()}, tmp_path / "step_3.pt")
    expected.load_state_dict(network.state_dict())
    average.copy_to(expected.parameters())
    told = load_into(target, Checkpoint.open(tmp_path / "step_3.pt", "m", 3), "ema")
    assert told == "ema.shadow_params (by position, rest of unet)"
    assert all(map(torch.equal, target.state_dict().values(), expected.state_dict().values()))
    assert not torch.equal(target[0].weight, network[0].weight)
