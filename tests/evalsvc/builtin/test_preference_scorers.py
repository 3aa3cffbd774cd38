"""Scorers of what people prefer, against the formulas of their authors with random weights."""

import math

import pytest
import torch
from torch import nn
from transformers import CLIPModel, CLIPTokenizer

from evalsvc.builtin.extractors.clip import Clip
from evalsvc.builtin.extractors.preprocess import CLIP, normalize, pad_resize
from evalsvc.builtin.scorers.aesthetic import Aesthetic
from evalsvc.builtin.scorers.preference import Preference
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.plugins.items import Message
from evalsvc.plugins.samples import Images, MixedImages
from tests.evalsvc.builtin.test_clip_dinov2_vgg16 import images, save_clip
from tests.evalsvc.builtin.test_image_scorers import CPU, batch

PROMPTS = ("a red boat", "the sea", "on a boat")


def save_head(folder, head, offset=None):
    """The weights of a head; with ``offset``, of one that is constant."""
    if offset is not None:
        nn.init.zeros_(head.weight)
        nn.init.constant_(head.bias, offset)
    torch.save(head.state_dict(), folder / "head.pth")
    return str(folder / "head.pth")


class Improved(nn.Module):
    """The layers of the improved aesthetic predictor, for a narrow CLIP."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 20),
            nn.Dropout(0.2),
            nn.Linear(20, 16),
            nn.Dropout(0.2),
            nn.Linear(16, 8),
            nn.Dropout(0.1),
            nn.Linear(8, 4),
            nn.Linear(4, 1),
        )


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


def reference(folder, pixels, texts):
    """Cosines and the scale of a CLIP by the code of ``transformers``."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokens = CLIPTokenizer.from_pretrained(folder)(
        list(texts), padding=True, truncation=True, max_length=8, return_tensors="pt"
    )
    with torch.inference_mode():
        logits = model(pixel_values=pixels, **tokens).logits_per_image.diagonal()
        scale = model.logit_scale.exp()
    return (logits / scale).tolist(), float(scale)


def scored(scorer, pixels, prompts):
    outcome = scorer.score(Images(pixels), batch(len(pixels), prompts=prompts))
    (values,) = outcome.values.values()
    return values.tolist()


# --- prompts ---


def test_pickscore_is_the_models_own_logit(clip_folder):
    pixels = images(3, 28, 28)
    cosines, scale = reference(clip_folder, normalize(pixels.float(), CLIP), PROMPTS)
    found = scored(Preference(CPU, model=str(clip_folder)), pixels, PROMPTS)
    assert found == pytest.approx([scale * cosine for cosine in cosines], rel=1e-4)


def test_hpsv2_is_the_cosine_of_an_image_with_black_borders(clip_folder):
    pixels = images(3, 30, 60)
    resized = nn.functional.interpolate(pixels / 255, (14, 28), mode="bicubic", antialias=True)
    framed = nn.functional.pad(resized, (0, 0, 7, 7))
    cosines, _ = reference(clip_folder, normalize(255 * framed, CLIP), PROMPTS)
    found = scored(Preference(CPU, kind="hpsv2", model=str(clip_folder)), pixels, PROMPTS)
    assert found == pytest.approx(cosines, abs=1e-5)


def test_a_template_is_a_text_around_each_prompt(clip_folder):
    pixels = images(3, 28, 28)
    around = Preference(CPU, model=str(clip_folder), template="a red {prompt}")
    plain = Preference(CPU, model=str(clip_folder))
    prompts = ("boat", "sea", "boat")
    expected = scored(plain, pixels, tuple(f"a red {prompt}" for prompt in prompts))
    assert scored(around, pixels, prompts) == pytest.approx(expected, rel=1e-6)
    assert around.info.protocol != plain.info.protocol


def test_kind_and_quantity_are_known_without_weights():
    (pick,), (hps,) = Preference.quantities(), Preference.quantities(kind="hpsv2", model="anything")
    assert (pick.name, hps.name) == ("pickscore", "hpsv2")
    with pytest.raises(InputError, match="'preference' has no kind 'imagereward'; available are pickscore, hpsv2"):
        Preference.quantities(kind="imagereward")


def test_an_item_without_prompt_has_no_preference_and_a_chat_is_its_contents(clip_folder):
    scorer, pixels = Preference(CPU, model=str(clip_folder)), images(3, 28, 28)
    outcome = scorer.score(Images(pixels), batch(3, prompts=("", "a boat", (Message("user", "a boat"),))))
    assert outcome.reasons == {0: "the item has no prompt"}
    again = scorer.score(Images(pixels), batch(3))
    assert len(again.reasons) == 3
    values = outcome.values["pickscore"]
    assert math.isnan(values[0])
    assert values[2] == pytest.approx(scored(scorer, pixels[2:], ("a boat",))[0], rel=1e-5)


def test_options_of_a_wrong_kind_are_refused(clip_folder):
    with pytest.raises(InputError, match=r"lacks \{prompt\}: add it"):
        Preference(CPU, model=str(clip_folder), template="a photo")
    with pytest.raises(InputError, match="invalid option template=3 of scorer 'preference'"):
        Preference(CPU, model=str(clip_folder), template=3)
    with pytest.raises(InputError, match="has no kind 1"):
        Preference(CPU, model=str(clip_folder), kind=1)
    with pytest.raises(InputError, match="invalid option model=7"):
        Preference(CPU, model=7)


def test_borders_are_as_wide_on_both_sides_and_black():
    white = torch.full((1, 3, 10, 40), 255, dtype=torch.uint8)
    framed = pad_resize(white, 20)
    assert framed.shape == (1, 3, 20, 20)
    assert framed[0, 0, :, 0].tolist() == pytest.approx([0.0] * 7 + [255.0] * 5 + [0.0] * 8)
    assert pad_resize(white[..., :1, :], 20).shape == (1, 3, 20, 20)


# --- heads ---


@pytest.mark.parametrize("kind", [lambda: nn.Linear(12, 1), lambda: Improved(12)])
def test_an_aesthetic_score_is_the_head_of_the_normalized_embedding(kind, clip_folder, tmp_path):
    torch.manual_seed(1)
    head = kind().eval()
    pixels = images(4, 40, 60)
    embedding = Clip(CPU, model=str(clip_folder), preprocess="clip").extract(pixels)["embedding"]
    with torch.inference_mode():
        expected = getattr(head, "layers", head)(embedding)[:, 0].tolist()
    scorer = Aesthetic(CPU, head=save_head(tmp_path, head), model=str(clip_folder))
    values = scorer.score(Images(pixels), batch(4)).values["aesthetic"].tolist()
    assert values == pytest.approx(expected, abs=1e-6)


def test_the_head_is_part_of_the_protocol(clip_folder, tmp_path):
    one, other = (
        Aesthetic(CPU, head=save_head(tmp_path, nn.Linear(12, 1), value), model=str(clip_folder))
        for value in (1.0, 2.0)
    )
    assert one.info.protocol != other.info.protocol
    sizes = MixedImages((images(1, 1, 1)[0], images(1, 50, 30)[0]))
    assert other.score(sizes, batch(2)).values["aesthetic"].tolist() == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize(
    "state",
    [
        nn.Linear(11, 1).state_dict(),
        nn.Linear(12, 2).state_dict(),
        nn.Linear(12, 1, bias=False).state_dict(),
        nn.Linear(12, 1).state_dict() | {"logit_scale": torch.tensor(1.0)},
        nn.Conv1d(12, 1, 1).state_dict(),
        {"weight": torch.full((1, 12), math.nan), "bias": torch.zeros(1)},
    ],
)
def test_a_head_that_does_not_fit_is_refused_by_name(state, clip_folder, tmp_path):
    torch.save(state, tmp_path / "head.pth")
    with pytest.raises(CheckpointError, match=r"head\.pth is not a chain of linear layers from 12 features"):
        Aesthetic(CPU, head=str(tmp_path / "head.pth"), model=str(clip_folder))


def test_a_head_that_is_missing_or_damaged_is_refused_by_name(clip_folder, tmp_path):
    (tmp_path / "head.pth").write_bytes(b"cut")
    for name in ("head.pth", "none.pth"):
        with pytest.raises(InputError, match=name):
            Aesthetic(CPU, head=str(tmp_path / name), model=str(clip_folder))
