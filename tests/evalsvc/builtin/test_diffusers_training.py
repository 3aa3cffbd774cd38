"""The shipped pipeline of ``diffusers``, and training loops as its tutorials write them, watched and scored."""

import json

from safetensors.torch import load_file

from evalsvc.builtin.demo import PIPELINES, train_unet

SHIPPED = PIPELINES / train_unet.NAME / f"step_{train_unet.STEPS}"


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_training_the_pipeline_again_writes_the_same_bytes(tmp_path):
    first, second = (files(train_unet.train(tmp_path / run, 2)) for run in ("first", "second"))
    assert first == second


def test_the_shipped_pipeline_is_one_that_training_writes_in_under_a_megabyte():
    written, shipped = train_unet.unet().state_dict(), load_file(SHIPPED / "unet/diffusion_pytorch_model.safetensors")
    assert {key: value.shape for key, value in written.items()} == {key: value.shape for key, value in shipped.items()}
    assert json.loads((SHIPPED / "model_index.json").read_text())["_class_name"] == "DDIMPipeline"
    assert sum(map(len, files(SHIPPED).values())) < 1e6
