"""Claims about the generator ``diffusers``: samples are those of the library itself, and nothing of a folder runs."""

import json
import shutil

import pytest
import torch

from evalsvc.builtin.generators.diffusers_pipeline import DiffusersPipeline
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.samples import SampleRequest
from tests.evalsvc import diffusion_pipelines as tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory):
    return tiny.save_ddpm(tmp_path_factory.mktemp("ddpm") / "step_1")


def opened(folder, **options):
    return DiffusersPipeline(Checkpoint.open(folder, "m", 1, DiffusersPipeline.checkpoint_files), CPU, **options)


def test_an_unconditional_pipeline_keeps_the_contract(ddpm):
    assert all(finding.ok for finding in check_generator(opened(ddpm, steps=3), CPU))


def test_samples_are_those_of_the_library(ddpm):
    import diffusers

    request = SampleRequest.of(5, 0, 3)
    generators = [torch.Generator().manual_seed(seed) for seed in request.seeds.tolist()]
    theirs = diffusers.DDPMPipeline.from_pretrained(ddpm)
    theirs.set_progress_bar_config(disable=True)
    images = theirs(batch_size=3, generator=generators, num_inference_steps=4, output_type="np").images
    ours = opened(ddpm, steps=4).sample(request).samples.pixels
    assert torch.equal(ours, torch.from_numpy((images * 255).round().astype("uint8")).movedim(-1, 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_class_name": "os.system"}, "names 'os.system', which generator 'diffusers' does not import"),
        ({"_class_name": ["pipeline", "Evil"]}, r"names \['pipeline', 'Evil'\], which"),
        ({"unet": ["evil_module", "Evil"]}, r"names \['evil_module', 'Evil'\] for 'unet', which"),
        ({"unet": ["diffusers", "utils"]}, r"names \['diffusers', 'utils'\] for 'unet', which"),
        ({"extra": ["evil_module", "Evil"]}, r"for 'extra', which"),
    ],
)
def test_a_class_of_elsewhere_is_refused_and_not_imported(ddpm, tmp_path, monkeypatch, change, said):
    folder = shutil.copytree(ddpm, tmp_path / "step_1")
    mark = tmp_path / "ran"
    for place in (folder, folder / "unet", tmp_path):
        for name in ("evil_module", "pipeline", "unet"):
            (place / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | change))
    with pytest.raises(CheckpointError, match=said):
        opened(folder)
    assert not mark.exists()


def test_truncated_weights_are_one_sentence(ddpm, tmp_path):
    folder = shutil.copytree(ddpm, tmp_path / "step_1")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is not a complete safetensors file .*: copy it again$"):
        opened(folder)


def test_an_option_that_the_call_does_not_take_is_refused_with_those_that_it_takes(ddpm):
    with pytest.raises(InputError, match=r"DDPMPipeline does not take 'guidance_scale' \(option guidance"):
        opened(ddpm, guidance=3.0)
    with pytest.raises(InputError, match="use its arguments: none$"):
        opened(ddpm, arguments={"strength": 0.5})


def test_files_beside_a_pipeline_do_not_count(ddpm, tmp_path):
    folder = shutil.copytree(ddpm, tmp_path / "step_1")
    before = Checkpoint.open(folder, "m", 1, DiffusersPipeline.checkpoint_files).digest
    (folder / "checkpoint-500" / "unet").mkdir(parents=True)
    (folder / "checkpoint-500" / "unet" / "config.json").write_text("{}")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    assert Checkpoint.open(folder, "m", 1, DiffusersPipeline.checkpoint_files).digest == before
