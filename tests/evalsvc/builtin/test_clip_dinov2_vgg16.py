import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, Dinov2Config, Dinov2Model

from evalsvc.builtin.extractors import vgg16
from evalsvc.builtin.extractors.clip import Clip
from evalsvc.builtin.extractors.dinov2 import DinoV2
from evalsvc.builtin.extractors.preprocess import CLIP, IMAGENET, center_crop_resize, normalize, square_resize
from evalsvc.builtin.extractors.vgg16 import VGG16, VGG16Network
from evalsvc.core.errors import InputError
from evalsvc.inputs import published_weights
from evalsvc.metrics.functional import clip_score

CPU = torch.device("cpu")
LAYER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = ["a", "red", "boat", "on", "the", "sea"]


def save_clip(folder):
    """A whole CLIP in miniature, tokenizer included, as a hub's folder would hold it."""
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *(f"{word}</w>" for word in WORDS)]
    vocabulary += sorted({letter for word in WORDS for letter in word} | {f"{w[-1]}</w>" for w in WORDS})
    vocabulary = list(dict.fromkeys(vocabulary))
    text = LAYER | {"vocab_size": len(vocabulary), "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
    vision = LAYER | {"image_size": 28, "patch_size": 14}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


def save_dinov2(folder):
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    return save_dinov2(tmp_path_factory.mktemp("dino"))


def images(n, height, width, seed=0):
    coarse = torch.rand(n, 3, 5, 6, generator=torch.Generator().manual_seed(seed)) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").to(torch.uint8)


def as_published(x, size, statistics, crop=None):
    """Each image through Pillow alone: resized in whole levels, cropped, normalised."""
    made = []
    for image in x:
        picture = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size, Image.Resampling.BICUBIC)
        if crop:
            left, top = (size[0] - crop) // 2, (size[1] - crop) // 2
            picture = picture.crop((left, top, left + crop, top + crop))
        mean, std = (np.array(values) for values in statistics)
        made.append((np.asarray(picture) / 255 - mean) / std)
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float()


def test_dinov2_is_its_class_token_on_pillows_pixels(dino_folder):
    x = images(3, 60, 100)
    extractor = DinoV2(CPU, model=str(dino_folder))
    model = Dinov2Model.from_pretrained(dino_folder).eval()
    with torch.inference_mode():
        expected = model(as_published(x, (224, 224), IMAGENET)).last_hidden_state[:, 0]
    found = extractor.extract(x)["features"]
    assert found.shape == (3, extractor.info.outputs["features"]) == (3, 16)
    assert torch.allclose(found, expected, atol=2e-3)


def test_dinov2_places_its_patches_as_the_published_network_does(tmp_path):
    """Trained at 518, it interpolates 37 x 37 positions to 16 x 16 by a scale of 16.1 / 37; transformers by 16 / 37."""
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=518, patch_size=14)
    model = Dinov2Model(config).eval().requires_grad_(False)
    model.embeddings.position_embeddings *= 50  # as large beside the patches as training makes them
    model.save_pretrained(tmp_path)
    x = images(2, 224, 224)
    with torch.inference_mode():
        theirs = model(normalize(x.float(), IMAGENET)).pooler_output
        positions = model.embeddings.position_embeddings
        grid = positions[:, 1:].reshape(1, 37, 37, 16).permute(0, 3, 1, 2)
        places = torch.nn.functional.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic")
        published = torch.cat([positions[:, :1], places.permute(0, 2, 3, 1).reshape(1, 256, 16)], 1)
        model.embeddings.interpolate_pos_encoding = lambda *_: published
        expected = model(normalize(x.float(), IMAGENET)).pooler_output
    found = DinoV2(CPU, model=str(tmp_path)).extract(x)["features"]
    assert torch.allclose(found, expected, atol=1e-5)
    assert (found - theirs).abs().max() > 1e-4, "else the scale makes no difference here"


def test_cmmd_sees_the_centre_of_a_picture_as_its_own_code_cuts_it(clip_folder):
    for height, width in ((61, 100), (100, 61), (20, 25)):
        x, made = images(2, height, width), []
        short, (mean, std) = min(height, width), (np.array(values) for values in CLIP)
        left, top = (width - short) // 2, (height - short) // 2
        for image in x:
            picture = Image.fromarray(image.permute(1, 2, 0).numpy()).crop((left, top, left + short, top + short))
            made.append((np.asarray(picture.resize((28, 28), Image.Resampling.BICUBIC)) / 255 - mean) / std)
        expected = torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float()
        found = normalize(square_resize(x, 28), CLIP)
        # One level at the most, where Pillow's fixed point rounds a tie the other way.
        assert (found - expected).abs().max() < 1.01 / 255 / min(CLIP[1])
        assert (found - expected).abs().mean() < 1e-3


def test_clips_own_preprocessing_is_pillows(clip_folder):
    x = images(2, 60, 100)
    found, expected = normalize(center_crop_resize(x, 28), CLIP), as_published(x, (46, 28), CLIP, crop=28)
    assert found.shape == expected.shape
    # One level in the resized pixels at the most, where Pillow's fixed point rounds a tie the other way.
    assert (found - expected).abs().max() < 1.01 / 255 / min(CLIP[1])
    assert (found - expected).abs().mean() < 1e-3


def test_clip_embeddings_are_the_projection_of_length_one(clip_folder):
    x = images(3, 28, 28)
    extractor = Clip(CPU, model=str(clip_folder))
    model = CLIPModel.from_pretrained(clip_folder).eval()
    with torch.inference_mode():
        output = model.get_image_features(pixel_values=normalize(x.float(), CLIP))
    expected = torch.nn.functional.normalize(getattr(output, "pooler_output", output), dim=-1)
    found = extractor.extract(x)["embedding"]
    assert found.shape == (3, 12)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(found.norm(dim=1), torch.ones(3))


def test_clips_two_preprocessings_meet_on_squares_and_are_two_protocols(clip_folder):
    cut_first, cut_last = (Clip(CPU, model=str(clip_folder), preprocess=way) for way in ("cmmd", "clip"))
    assert cut_first.info.protocol != cut_last.info.protocol
    same, other = images(2, 50, 50), images(2, 41, 80)
    assert torch.allclose(cut_first.extract(same)["embedding"], cut_last.extract(same)["embedding"], atol=1e-5)
    assert not torch.allclose(cut_first.extract(other)["embedding"], cut_last.extract(other)["embedding"], atol=1e-3)


def test_prompts_are_embedded_with_length_one_and_cut_at_the_limit(clip_folder):
    extractor = Clip(CPU, model=str(clip_folder))
    short, long = extractor.embed_texts(["a red boat", "a red boat on the sea " * 20])
    assert short.shape == (12,)
    assert torch.allclose(torch.stack([short, long]).norm(dim=1), torch.ones(2))


def test_prompts_without_a_tokenizer_are_refused_and_not_all_given_one_embedding(clip_folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(clip_folder / name)
    with pytest.raises(
        InputError, match=r"has no tokenizer for the prompts of extractor 'clip': put its tokenizer\.json"
    ):
        Clip(CPU, model=str(tmp_path)).embed_texts(["a red boat", "the sea"])


def test_weights_in_half_precision_are_computed_in_float32_as_the_protocol_says(clip_folder, dino_folder, tmp_path):
    for kind, of, folder in ((CLIPModel, Clip, clip_folder), (Dinov2Model, DinoV2, dino_folder)):
        kind.from_pretrained(folder).half().save_pretrained(tmp_path / kind.__name__)
        kind.from_pretrained(folder).half().float().save_pretrained(tmp_path / "rounded")
        (split,) = of(CPU, model=str(tmp_path / kind.__name__)).extract(images(2, 40, 30)).values()
        (rounded,) = of(CPU, model=str(tmp_path / "rounded")).extract(images(2, 40, 30)).values()
        assert split.dtype == torch.float32
        assert torch.equal(split, rounded)


def test_clip_scores_are_the_models_own_logits(clip_folder):
    x, prompts = images(3, 28, 28), ["a red boat", "the sea", "on a boat"]
    extractor = Clip(CPU, model=str(clip_folder), preprocess="clip")
    found = clip_score(extractor.extract(x)["embedding"], extractor.embed_texts(prompts))
    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokens = CLIPTokenizer.from_pretrained(clip_folder)(
        prompts, padding=True, truncation=True, max_length=8, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = model(pixel_values=normalize(x.float(), CLIP), **tokens).logits_per_image
    cosines = logits.diagonal().clone() / float(model.logit_scale.exp())
    assert found.value == pytest.approx(100 * float(cosines.clamp(min=0).mean()), abs=1e-3)
    assert found.details["cosine"] == pytest.approx(float(cosines.mean()), abs=1e-5)


def test_a_folder_without_a_model_and_a_hub_without_a_network_say_what_is_wanted(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"config.json and \*.safetensors"):
        DinoV2(CPU, model=str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="is not a folder and could not be downloaded"):
        DinoV2(CPU, model="nobody/nothing")
    with pytest.raises(InputError, match="available are cmmd, clip"):
        Clip(CPU, model=str(tmp_path), preprocess="squash")


# --- VGG16 ---


def test_vgg16_has_torchvisions_tensors():
    with torch.device("meta"):
        state = VGG16Network().state_dict()
    assert len(state) == 32
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes["features.0.weight"] == (64, 3, 3, 3)
    assert shapes["features.28.weight"] == (512, 512, 3, 3)
    assert shapes["classifier.0.weight"] == (4096, 25088)
    assert shapes["classifier.3.weight"] == (4096, 4096)
    assert shapes["classifier.6.bias"] == (1000,)


def test_vgg16_gives_its_second_layer_with_and_without_relu(tmp_path, monkeypatch):
    monkeypatch.setattr(vgg16, "WIDTH", 8)
    torch.manual_seed(0)
    torch.save(VGG16Network().state_dict(), tmp_path / "vgg16.pth")
    extractor = VGG16(weights=tmp_path / "vgg16.pth", outputs=("fc2", "fc2_relu"), backend="torch")
    found = extractor.extract(images(2, 32, 40))
    assert found["fc2"].shape == (2, 8)
    assert torch.equal(found["fc2"].relu(), found["fc2_relu"])
    assert bool((found["fc2"] < 0).any())
    assert extractor.info.weights != published_weights.get("vgg16").sha256
    with pytest.raises(InputError, match="has the outputs fc2, fc2_relu, not fc3"):
        VGG16(weights=tmp_path / "vgg16.pth", outputs=("fc3",))
