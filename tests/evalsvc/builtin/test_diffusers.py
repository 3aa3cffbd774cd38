"""Claims about the generator ``diffusers``: samples are those of the library itself, and nothing of a folder runs."""

import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import diffusers
import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evalsvc.builtin.diffusion.outputs import samples_of
from evalsvc.builtin.diffusion.pipelines import with_scheduler
from evalsvc.builtin.generators.diffusers_pipeline import DiffusersPipeline
from evalsvc.core.errors import CheckpointError, InputError, ModelError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.samples import Images, MixedImages, SampleRequest, Texts
from evalsvc.plugins.validation import sample
from tests.evalsvc import diffusion_pipelines as tiny

CPU = torch.device("cpu")
PROMPTS = ("a cat", "a dog, and a bird", "sky")
KINDS = {
    "labels": (tiny.dit, {}),
    "prompts": (tiny.stable_diffusion, {"size": 16, "negative_prompt": "red"}),
    "image to image": (lambda: tiny.stable_diffusion(diffusers.StableDiffusionImg2ImgPipeline), {"steps": 2}),
    "inpainting": (
        lambda: tiny.stable_diffusion(diffusers.StableDiffusionInpaintPipeline),
        {"size": 16, "mask": [0.25, 0.25, 0.75, 0.75]},
    ),
    "edits": (
        lambda: tiny.stable_diffusion(diffusers.StableDiffusionInstructPix2PixPipeline, unet=tiny.unet(channels=8)),
        {"arguments": {"image_guidance_scale": 2.0}},
    ),
    "ControlNet": (
        lambda: tiny.stable_diffusion(diffusers.StableDiffusionControlNetPipeline, controlnet=tiny.controlnet()),
        {"size": 16},
    ),
    "SDXL": (tiny.sdxl, {"size": 16}),
    "SD 3": (tiny.stable_diffusion_3, {"size": 16}),
    "Flux": (tiny.flux, {"size": 16, "arguments": {"max_sequence_length": 16}}),
}


def opened(folder, **options):
    return DiffusersPipeline(Checkpoint.open(folder, "m", 1, DiffusersPipeline.checkpoint_files), CPU, **options)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of pipelines, each saved once."""
    place, saved = tmp_path_factory.mktemp("pipelines"), {}

    def folder(name, make):
        if name not in saved:
            saved[name] = place / name / "step_1"
            make().save_pretrained(saved[name])
        return saved[name]

    return folder


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory):
    return tiny.save_ddpm(tmp_path_factory.mktemp("ddpm") / "step_1")


@pytest.fixture
def sd(folders):
    return folders("prompts", tiny.stable_diffusion)


def request_for(generator, n=3):
    """Different conditions of each kind that the generator takes."""
    takes, pixels = generator.info.takes, torch.arange(n * 3 * 16 * 16).view(n, 3, 16, 16) * 7 % 256
    return replace(
        SampleRequest.of(3, 0, n),
        prompts=PROMPTS[:n] if "prompt" in takes else (),
        labels=torch.arange(n) if "label" in takes else None,
        sources=Images(pixels.to(torch.uint8)) if "source" in takes else None,
    )


def theirs(pipeline, request, **arguments):
    """Images of the library's own call for the same seeds."""
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in request.seeds.tolist()]
    images = pipeline(generator=generators, output_type="np", **arguments).images
    return torch.from_numpy((images * 255).round().astype("uint8")).movedim(-1, 1)


def levels(a, b):
    return int((a.int() - b.int()).abs().max())


def test_an_unconditional_pipeline_keeps_the_contract(ddpm):
    generator = opened(ddpm, steps=3)
    assert all(finding.ok for finding in check_generator(generator, CPU))
    request = SampleRequest.of(5, 0, 3)
    expected = theirs(diffusers.DDPMPipeline.from_pretrained(ddpm), request, batch_size=3, num_inference_steps=3)
    assert torch.equal(generator.sample(request).samples.pixels, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_takes_its_conditions_and_draws_the_same_in_every_batch(folders, kind):
    make, options = KINDS[kind]
    generator = opened(folders(kind, make), **{"steps": 1} | options)
    request = request_for(generator)
    whole = sample(generator, request).samples.pixels
    alone = torch.cat([sample(generator, request.take([row])).samples.pixels for row in (2, 1, 0)]).flip(0)
    assert levels(whole, alone) <= 1
    assert not generator._calls._alone
    for condition in generator.info.takes:
        other = {
            "prompt": {"prompts": ("x",) * 3},
            "label": {"labels": torch.tensor([7, 8, 9])},
            "source": {"sources": request.sources and Images(255 - request.sources.pixels)},
        }[condition]
        assert not torch.equal(sample(generator, replace(request, **other)).samples.pixels, whole), condition


def test_samples_are_those_of_the_library_with_the_same_arguments(sd, folders):
    arguments = {"num_inference_steps": 3, "guidance_scale": 3.0, "negative_prompt": ["red"] * 3}
    options = {"steps": 3, "guidance": 3.0, "negative_prompt": "red", "scheduler": "EulerAncestralDiscreteScheduler"}
    generator = opened(sd, **options, size=[16, 8])
    request, pipeline = request_for(generator), diffusers.StableDiffusionPipeline.from_pretrained(sd)
    pipeline.scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    expected = theirs(pipeline, request, prompt=list(PROMPTS), height=16, width=8, **arguments)
    assert torch.equal(sample(generator, request).samples.pixels, expected)


def test_sources_of_several_sizes_keep_them(folders):
    generator = opened(folders("image to image", KINDS["image to image"][0]), steps=2)
    request = request_for(generator, 2)
    mixed = MixedImages((request.sources.items[0], torch.zeros(1, 8, 16, dtype=torch.uint8)))
    drawn = sample(generator, replace(request, sources=mixed)).samples
    assert [tuple(item.shape) for item in drawn.items] == [(3, 16, 16), (3, 8, 16)]


def test_a_scheduler_that_draws_from_the_global_generator_is_called_for_one_sample_at_a_time(folders):
    make = lambda: tiny.flux(stochastic_sampling=True)  # noqa: E731
    generator = opened(folders("stochastic", make), steps=3, size=16, arguments={"max_sequence_length": 16})
    request, state = request_for(generator), torch.get_rng_state()
    whole = sample(generator, request).samples.pixels
    assert generator._calls._alone
    assert torch.equal(sample(generator, request.take([2])).samples.pixels[0], whole[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_schedulers_that_add_noise_add_to_each_sample_its_own(sd):
    generator = opened(sd, steps=2, size=16, guidance=1.0)
    pipeline, request = generator._calls._pipeline, request_for(generator)
    for name in ("DDPM", "EulerAncestralDiscrete", "LCM", "TCD"):
        pipeline.scheduler = with_scheduler(pipeline, f"{name}Scheduler")
        whole = sample(generator, request).samples.pixels
        assert not generator._calls._alone, name
        assert levels(sample(generator, request.take([2])).samples.pixels[0], whole[2]) <= 1, name


def test_a_batch_is_drawn_one_by_one_if_a_scheduler_takes_one_generator(sd, monkeypatch):
    def step(self, output, t, latents, generator=None, return_dict=True, **_):
        noise = torch.randn(latents.shape, generator=generator)  # raises for a list
        return (latents + noise - output,)

    monkeypatch.setattr(diffusers.DDIMScheduler, "step", step)
    generator = opened(sd, steps=2, size=16)
    assert len(sample(generator, request_for(generator)).samples) == 3
    assert generator._calls._alone


def test_an_image_that_the_safety_checker_blacked_out_is_a_failure(sd, monkeypatch):
    def check(self, image, device, dtype):
        return image, [bool(each) for each in range(len(image))]

    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "run_safety_checker", check)
    generator = opened(sd, steps=1, size=16)
    failures = sample(generator, request_for(generator)).failures
    assert failures == dict.fromkeys((1, 2), "the pipeline's safety checker blacked it out")


def test_labels_beyond_the_classes_are_refused(folders):
    generator = opened(folders("labels", tiny.dit), steps=1)
    for labels in (torch.tensor([0, 1000, 1]), torch.tensor([0, -1, 1]), None):
        with pytest.raises(InputError, match="takes labels from 0 to 999"):
            generator.sample(replace(request_for(generator), labels=labels))


def test_a_transformer_of_other_classes_than_those_of_imagenet_is_not_guided(tmp_path):
    tiny.dit(classes=10).save_pretrained(tmp_path / "step_1")
    with pytest.raises(InputError, match="has the labels 0 to 9: pass option guidance=1$"):
        opened(tmp_path / "step_1")
    generator = opened(tmp_path / "step_1", steps=1, guidance=1)
    assert len(sample(generator, request_for(generator)).samples) == 3


def test_sources_of_another_modality_are_refused(folders):
    generator = opened(folders("image to image", KINDS["image to image"][0]), steps=2)
    with pytest.raises(InputError, match="takes images as sources"):
        generator.sample(replace(request_for(generator, 1), sources=Texts(("a",))))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arguments": {"strength": 0.5}}, r"does not take 'strength' \(option arguments of .*clip_skip, "),
        ({"arguments": {"latents": 1}}, "names 'latents', which comes from items or another option"),
        ({"mask": [0, 0, 1, 1]}, r"does not take 'mask_image' \(option mask"),
        ({"mask": [0, 0, 2, 1]}, r"use \[left, top, right, bottom\], each in \[0, 1\]"),
        ({"size": [8]}, r"use one number of pixels up to 8192, or \[height, width\]"),
        ({"size": 10**6}, "use one number of pixels up to 8192"),
        ({"dtype": "int8"}, "use float32 or bfloat16 or float16"),
        ({"steps": 0}, "use a whole number from 1 to 10000"),
        ({"arguments": [1]}, "use an object, such as"),
        ({"scheduler": "os"}, "use a scheduler of diffusers, such as DDIMScheduler"),
        ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, "predicts another quantity; use a scheduler like DDIM"),
        ({"base": "sd"}, "is a whole pipeline, which does not take option base"),
    ],
)
def test_an_option_that_the_pipeline_does_not_take_is_refused(sd, options, said):
    with pytest.raises(InputError, match=said):
        opened(sd, **options)


def test_an_unconditional_pipeline_takes_no_guidance(ddpm):
    with pytest.raises(InputError, match=r"DDPMPipeline does not take 'guidance_scale' \(option guidance"):
        opened(ddpm, guidance=3.0)


# --- components and adapters of a running training ---


def test_a_component_over_its_base_is_the_pipeline_saved_whole(sd, folders, tmp_path):
    trained = tiny.unet(seed=44)
    trained.save_pretrained(tmp_path / "checkpoint-7" / "unet")
    save_file(trained.state_dict(), tmp_path / "step_7.safetensors")
    whole = opened(folders("whole", lambda: tiny.stable_diffusion(unet=trained)), steps=2, size=16)
    request = request_for(whole)
    expected = sample(whole, request).samples.pixels
    for name, options in {
        "checkpoint-7/unet": {},
        "checkpoint-7": {},
        "step_7.safetensors": {"component": "unet"},
    }.items():
        generator = opened(tmp_path / name, base=str(sd), steps=2, size=16, **options)
        assert torch.equal(sample(generator, request).samples.pixels, expected), name
        assert generator.info.weights == "unet"


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    return tiny.save_lora(tmp_path_factory.mktemp("lora") / "checkpoint-10")


def test_an_adapter_is_applied_as_the_library_does(sd, lora):
    generator = opened(lora, base=str(sd), steps=2, size=16)
    request, pipeline = request_for(generator), diffusers.StableDiffusionPipeline.from_pretrained(sd)
    arguments = {"prompt": list(PROMPTS), "num_inference_steps": 2, "height": 16, "width": 16}
    before = theirs(pipeline, request, **arguments)
    pipeline.load_lora_weights(lora)
    ours = sample(generator, request).samples.pixels
    assert torch.equal(ours, theirs(pipeline, request, **arguments))
    assert levels(ours, before) > 1


def test_an_adapter_of_a_network_alone_is_the_same(sd, lora, tmp_path):
    network = diffusers.UNet2DConditionModel.from_pretrained(sd / "unet")
    network.load_lora_adapter(lora, prefix="unet", weight_name="pytorch_lora_weights.safetensors")
    network.save_lora_adapter(tmp_path / "checkpoint-10", adapter_name="default_0")
    ours, whole = (opened(each, base=str(sd), steps=2, size=16) for each in (tmp_path / "checkpoint-10", lora))
    request = request_for(ours)
    assert torch.equal(sample(ours, request).samples.pixels, sample(whole, request).samples.pixels)


def test_an_adapter_of_another_base_is_refused_in_one_sentence(sd, folders, ddpm, lora, tmp_path):
    wide = tiny.save_lora(tmp_path / "checkpoint-1", width=16)
    for base, adapter, said in (
        (sd, wide, "does not fit .* size mismatch .*: pass the base that it was trained on"),
        (folders("SD 3", tiny.stable_diffusion_3), lora, "0 of its 32 tensors have a place; pass the base"),
        (ddpm, lora, "DDPMPipeline does not take LoRA adapters"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            opened(adapter, base=str(base))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"megatron_config": {"a": 1}, "megatron_core": "evil_module"}, {"init_lora_weights": "pissa"}]
)
def test_settings_of_an_adapter_that_do_more_than_describe_it_are_refused(sd, tmp_path, settings):
    adapter = tiny.save_lora(tmp_path / "checkpoint-1", **settings)
    with pytest.raises(CheckpointError, match=f"has the setting {next(iter(settings))}="):
        opened(adapter, base=str(sd))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("unet", {}, "is not a pipeline of diffusers .*: to score a component or an adapter, pass the pipeline"),
        ("unet", {"base": "ddpm"}, "is a UNet2DConditionModel, but unet of .* is a UNet2DModel: pass its own base"),
        ("unet", {"base": "sd", "component": "tokenizer"}, "use text_encoder or unet or vae"),
        ("unet", {"base": "sd", "state": "ema"}, "is a folder, which does not take option state"),
        (
            "step_7.safetensors",
            {"base": "sd"},
            "cannot tell what .*: pass option component, text_encoder or",
        ),
        ("step_7.safetensors", {"base": "sd", "component": "vae"}, "does not fit the model"),
    ],
)
def test_a_checkpoint_without_its_place_in_a_base_is_refused(sd, ddpm, tmp_path, name, options, said):
    shutil.copytree(sd / "unet", tmp_path / "unet")
    save_file(tiny.unet2d().state_dict(), tmp_path / "step_7.safetensors")
    options = options | {"component": "unet"} if options.get("base") == "ddpm" else options
    places = {"sd": sd, "ddpm": ddpm}
    with pytest.raises(InputError, match=said):
        opened(tmp_path / name, **options | ({"base": str(places[options["base"]])} if "base" in options else {}))


def test_other_content_of_a_base_is_another_configuration(sd, tmp_path):
    copy = shutil.copytree(sd, tmp_path / "base")
    before, same = (DiffusersPipeline.pin({"base": str(each)})["contents"] for each in (sd, copy))
    assert before == same
    scheduler = copy / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"steps_offset": 1', '"steps_offset": 0'))
    assert DiffusersPipeline.pin({"base": str(copy)})["contents"] != before


def test_a_base_on_the_hub_is_pinned_to_its_commit_and_downloaded_without_variants(monkeypatch, tmp_path):
    files = ["model_index.json", "v1-5-pruned.safetensors", "unet/config.json", "unet/diffusion_pytorch_model.bin"]
    files += [f"unet/diffusion_pytorch_model{variant}.safetensors" for variant in ("", ".fp16", ".non_ema")]
    files += [f"text_encoder/model{variant}.safetensors" for variant in ("", ".fp16", "-00001-of-00002")]
    files += ["text_encoder/model.fp16-00001-of-00002.safetensors", "scheduler/code.py"]
    asked = []

    def download(name, revision, allow_patterns):
        asked.append(
            (name, revision, list(huggingface_hub.utils.filter_repo_objects(files, allow_patterns=allow_patterns)))
        )
        return tmp_path / "0123abc"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert DiffusersPipeline.pin({"base": "org/sd@v1"}) == {"base": "org/sd@0123abc"}
    assert asked == [("org/sd", "v1", [files[0], files[2], files[4], files[7], files[9]])]


# --- folders from outside ---


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_class_name": "os.system"}, "names 'os.system', which generator 'diffusers' does not import"),
        ({"_class_name": "DiffusionPipeline"}, "names 'DiffusionPipeline', which"),
        ({"_class_name": ["pipeline", "Evil"]}, r"names \['pipeline', 'Evil'\], which"),
        ({"unet": ["evil_module", "Evil"]}, r"names \['evil_module', 'Evil'\] for 'unet', which"),
        ({"unet": ["diffusers", "utils"]}, r"names \['diffusers', 'utils'\] for 'unet', which"),
        ({"unet": ["transformers", "AutoModel"]}, r"names \['transformers', 'AutoModel'\] for 'unet', which"),
        ({"../unet": ["evil_module", "Evil"]}, r"for '../unet', which"),
        ({"unet": ["diffusers", "AutoencoderKL"]}, "cannot load .*unet as AutoencoderKL|lacks weights"),
    ],
)
def test_a_class_of_elsewhere_is_refused_and_not_imported(ddpm, tmp_path, monkeypatch, change, said):
    folder, mark = shutil.copytree(ddpm, tmp_path / "step_1"), tmp_path / "ran"
    for place in (folder, folder / "unet", tmp_path):
        for name in ("evil_module", "pipeline", "unet"):
            (place / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | change))
    with pytest.raises(InputError, match=said) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("unet/config.json", {"quantization_config": {"quant_method": "gguf"}}, "is quantized, which"),
        ("unet/config.json", {"layers_per_block": 10**9}, "layers_per_block = 1000000000: the maximum is"),
        ("unet/config.json", {"block_out_channels": [8, 2**20]}, "far more parameters than its weights|cannot load"),
        ("unet/config.json", {"attn_implementation": "evil/kernel"}, "names code to execute"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "evil"}, "cannot load .* as DDPMScheduler"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, "the maximum is 100000$"),
    ],
)
def test_a_hostile_configuration_is_one_sentence(ddpm, tmp_path, file, change, said):
    folder = shutil.copytree(ddpm, tmp_path / "step_1")
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | change))
    with pytest.raises(InputError, match=said) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files_are_one_sentence(ddpm, tmp_path):
    folder = shutil.copytree(ddpm, tmp_path / "step_1")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is not a complete safetensors file .*: copy it again$"):
        opened(folder)
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match="contains no model for generator 'diffusers'"):
        opened(folder)
    shutil.rmtree(folder / "unet")
    with pytest.raises(InputError, match=r"unet is missing, but model_index.json names it: copy the whole pipeline$"):
        opened(folder)
    (folder / "model_index.json").write_text("[]")
    with pytest.raises(CheckpointError, match="is not a JSON object, but list$"):
        opened(folder)


def test_a_missing_library_is_named_with_its_extra(ddpm, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r"needs its extra: pip install 'evalsvc\[diffusers\]'$"):
        opened(ddpm)


def test_files_beside_a_pipeline_do_not_count(ddpm, tmp_path):
    folder = shutil.copytree(ddpm, tmp_path / "step_1")
    before = Checkpoint.open(folder, "m", 1, DiffusersPipeline.checkpoint_files).digest
    (folder / "checkpoint-500" / "unet").mkdir(parents=True)
    (folder / "checkpoint-500" / "unet" / "config.json").write_text("{}")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    (folder / "whole_model.safetensors").write_bytes(b"the same in one file")
    assert Checkpoint.open(folder, "m", 1, DiffusersPipeline.checkpoint_files).digest == before


def test_outputs_of_all_modalities_become_samples():
    stereo = samples_of(SimpleNamespace(audios=np.array([[[0.5, -2.0], [0.25, -2.0]]])), "audio", 16_000)
    assert (stereo.rate, stereo.waves[0].tolist()) == (16_000, [0.375, -1.0])
    clip = samples_of(SimpleNamespace(frames=np.full((2, 3, 4, 5, 3), 0.5)), "video", 0)
    assert (tuple(clip.pixels.shape), int(clip.pixels[0, 0, 0, 0, 0])) == ((2, 3, 3, 4, 5), 128)
    gray = samples_of(SimpleNamespace(images=np.ones((2, 4, 5))), "image", 0)
    assert tuple(gray.pixels.shape) == (2, 1, 4, 5)
    for output in (SimpleNamespace(images=[]), SimpleNamespace(images=np.ones(4))):
        with pytest.raises(ModelError):
            samples_of(output, "image", 0)
