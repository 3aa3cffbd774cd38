"""Composition of images: GenEval's rules on boxes made by hand, and a detector of random weights."""

import json
import math

import pytest
import torch
from transformers import YolosConfig, YolosForObjectDetection

from evalsvc.builtin.boxes import Box
from evalsvc.builtin.detection import open_detector
from evalsvc.builtin.scorers.color_names import ColorNames, _crop
from evalsvc.builtin.scorers.composition import COLORS, Limit, Requirement, faults, limits, relations, requirements
from evalsvc.builtin.scorers.detector import Detector
from evalsvc.builtin.scorers.rows import NotApplicable
from evalsvc.core.errors import InputError
from evalsvc.inputs.items.reading import read_items
from evalsvc.inputs.items.schema import Items
from evalsvc.plugins.samples import Images, Texts
from tests.evalsvc.builtin.test_clip_dinov2_vgg16 import images, save_clip
from tests.evalsvc.builtin.test_image_scorers import CPU, batch, noise

DOG, CAT = Box(10, 10, 30, 30), Box(60, 12, 80, 32)


def wanted(**keys):
    return Requirement.model_validate({"class": "dog"} | keys)


def met(boxes, *include, exclude=(), colors=("red",)):
    return not faults(boxes, include, exclude, lambda name, some: colors[: len(some)])


# --- rules ---


def test_an_object_has_to_be_there_often_enough():
    assert met({"dog": [DOG]}, wanted())
    assert met({"dog": [DOG, CAT]}, wanted(count=2))
    assert met({"dog": [DOG, CAT, DOG]}, wanted(count=2)), "more than asked for are allowed"
    assert faults({"dog": [DOG]}, [wanted(count=2)], [], list) == ["expected 2 dog, found 1"]
    assert not met({"cat": [CAT]}, wanted())


def test_a_limit_may_not_be_reached():
    limit = Limit.model_validate({"class": "dog", "count": 3})
    assert met({"dog": [DOG] * 2}, wanted(count=2), exclude=[limit])
    assert faults({"dog": [DOG] * 3}, [wanted(count=2)], [limit], list) == ["expected fewer than 3 dog, found 3"]
    assert met({}, exclude=[limit])


def test_colors_are_those_of_the_best_objects():
    assert met({"dog": [DOG]}, wanted(color="red"))
    assert not met({"dog": [DOG]}, wanted(color="blue"))
    assert met({"dog": [DOG, CAT, DOG]}, wanted(color="red", count=2), colors=("red", "red", "blue"))
    reasons = faults({"dog": [DOG, CAT]}, [wanted(color="red", count=2)], [], lambda name, some: ["red", "blue"])
    assert reasons == ["expected 2 red dog, found red and blue"]


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ((50, 0), {"right of"}),
        ((-50, 0), {"left of"}),
        ((0, 50), {"below"}),
        ((0, -50), {"above"}),
        ((50, 50), {"right of", "below"}),
        ((50, 24), {"right of"}),
        ((3.9, 0), set()),
        ((8.1, 0), {"right of"}),
        ((7.9, 0), set()),
        ((0, 0), set()),
    ],
)
def test_a_relation_is_the_direction_of_centers_beyond_a_margin(offset, expected):
    """Boxes of side 20: the margin is 0.1 times 40, and what is beyond it has to be half of the distance."""
    x, y = offset
    assert relations(Box(x, y, x + 20, y + 20), Box(0, 0, 20, 20)) == expected


def test_a_position_is_relative_to_an_earlier_requirement_that_is_met():
    cat = Requirement.model_validate({"class": "cat"})
    right = wanted(position=("right of", 0))
    assert not met({"dog": [DOG], "cat": [CAT]}, cat, right)
    assert met({"dog": [CAT], "cat": [DOG]}, cat, right)
    assert not met({"dog": [CAT, DOG], "cat": [DOG]}, cat, wanted(position=("right of", 0), count=2))
    reasons = faults({"dog": [CAT]}, [cat, right], [], list)
    assert reasons == ["expected 1 cat, found 0", "the object that dog has to be right of was not found"]


def test_the_json_of_geneval_is_read():
    text = '[{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "color": "red", "position": ["above", 0]}]'
    cat, dog = requirements(text)
    assert (cat.name, dog.color, dog.position) == ("cat", "red", ("above", 0))
    assert limits('[{"class": "clock", "count": 3}]')[0].count == 3
    assert requirements("") == limits("") == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not a list of requirements (it: Invalid JSON"),
        ('{"class": "dog"}', "is not a list of requirements (it: Input should be a valid array"),
        ('[{"count": 1}]', "(0.class: Field required"),
        ('[{"class": "dog", "count": 0}]', "(0.count: Input should be greater"),
        ('[{"class": "dog", "count": "2"}]', "(0.count: Input should be a valid integer"),
        ('[{"class": "dog", "color": "gray"}]', "(0.color: Input should be 'red'"),
        ('[{"class": "dog", "position": ["behind", 0]}]', "(0.position.0: Input should be 'left of'"),
        ('[{"class": "dog", "position": ["above", 0]}]', "requirement 0 of the tag 'include' is placed by one that"),
        ('[{"class": "dog", "size": 3}]', "(0.size: Extra inputs"),
        ("[" * 5000, "is not a list of requirements"),
    ],
)
def test_requirements_that_are_malformed_are_a_named_outcome(text, reason):
    with pytest.raises(NotApplicable) as caught:
        requirements(text)
    assert reason in str(caught.value)


# --- colors ---


def test_crops_are_the_pixels_of_a_box_and_at_least_one():
    pixels = noise(3, 20, 30)
    assert torch.equal(_crop(pixels, Box(4.4, 2.6, 9.5, 8.0)), pixels[:, 3:8, 4:10])
    for box in (Box(5, 5, 5, 5), Box(-9, -9, -3, -3), Box(90, 90, 99, 99), Box(9, 9, 2, 2)):
        assert _crop(pixels, box).shape == (3, 1, 1)
    assert torch.equal(_crop(pixels, Box(-5, -5, 99, 99)), pixels)


def test_a_color_is_that_of_the_nearest_mean_prompt(tmp_path):
    names = ColorNames(str(save_clip(tmp_path)), CPU)
    pixels, boxes = images(1, 40, 40)[0], [Box(0, 0, 20, 20), Box(10, 10, 40, 40)]
    embed = names._clip.embed_texts
    prompts = [
        embed([f"a photo of a {color} dog", f"a photo of a {color}-colored dog", f"a photo of a {color} object"]).mean(
            0
        )
        for color in COLORS
    ]
    expected = []
    for box in boxes:
        crop = names._clip.extract(Images(_crop(pixels, box)[None]))["embedding"][0]
        expected.append(COLORS[int(torch.stack([torch.cosine_similarity(crop, each, 0) for each in prompts]).argmax())])
    assert names.of(pixels, "dog", boxes) == expected


# --- the scorer ---

CLASSES = ("dog", "mouse", "cat")


def save_detector(folder, classes=CLASSES, always=None):
    """A detector in miniature; with ``always`` it sees five objects of that class in every image."""
    config = YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[32, 32],
        patch_size=8,
        num_detection_tokens=5,
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
    )
    torch.manual_seed(0)
    model = YolosForObjectDetection(config)
    if always is not None:
        last = model.class_labels_classifier.layers[-1]
        torch.nn.init.zeros_(last.weight)
        last.bias.data = 20.0 * (torch.arange(len(classes) + 1) == classes.index(always))
    model.save_pretrained(folder)
    processor = {
        "image_processor_type": "YolosImageProcessor",
        "size": {"shortest_edge": 32, "longest_edge": 64},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return str(folder)


@pytest.fixture(scope="module")
def seer(tmp_path_factory):
    """Sees five dogs in every image."""
    return save_detector(tmp_path_factory.mktemp("yolos"), always="dog")


def judged(scorer, **tags):
    rows = len(next(iter(tags.values())))
    outcome = scorer.score(Images(noise(rows, 3, 40, 50)), batch(rows, tags=tags))
    return outcome.values["composition"].tolist(), outcome


def test_boxes_are_those_of_transformers(tmp_path):
    detector = open_detector(save_detector(tmp_path), CPU, "the test")
    pixels = noise(3, 40, 50)
    inputs = detector._processor(images=pixels.permute(1, 2, 0).numpy(), return_tensors="pt")
    output = detector._network(**inputs)
    scores, labels = output.logits[0].softmax(-1)[:, :-1].max(-1)
    x, y, width, height = output.pred_boxes[0].unbind(-1)
    corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
    expected = corners * torch.tensor([50.0, 40.0, 50.0, 40.0])
    found = detector.boxes(pixels, 0.0, 16)
    assert sum(map(len, found.values())) == 5
    for number, name in enumerate(CLASSES):
        of_class = [place for place in scores.argsort(descending=True).tolist() if labels[place] == number]
        assert torch.allclose(torch.tensor(found.get(name, [])).view(-1, 4), expected[of_class], atol=1e-3)
    assert detector.boxes(pixels, 1.0, 16) == {}
    assert all(len(boxes) <= 1 for boxes in detector.boxes(pixels, 0.0, 1).values())


def test_an_image_is_right_if_its_item_is_met(seer):
    values, outcome = judged(
        Detector(CPU, model=seer),
        include=(
            '[{"class": "dog", "count": 5}]',
            '[{"class": "cat", "count": 1}]',
            '[{"class": "dog", "count": 2}]',
            "",
        ),
        exclude=("", "", '[{"class": "dog", "count": 3}]', '[{"class": "computer mouse", "count": 1}]'),
    )
    assert values == [1.0, 0.0, 0.0, 1.0]
    assert outcome.reasons == {1: "expected 1 cat, found 0", 2: "expected fewer than 3 dog, found 5"}
    assert not outcome.failed


def test_an_image_that_is_too_narrow_to_be_prepared_has_no_objects(seer):
    items = batch(1, tags={"include": ('[{"class": "dog"}]',)})
    outcome = Detector(CPU, model=seer).score(Images(noise(1, 3, 1, 900)), items)
    assert outcome.values["composition"].tolist() == [0.0]
    assert outcome.reasons == {0: "expected 1 dog, found 0"}


def test_items_that_cannot_be_judged_are_named_outcomes(seer):
    values, outcome = judged(
        Detector(CPU, model=seer),
        include=("", '[{"class": "unicorn"}]', '[{"class": "dog", "color": "red"}]', "{"),
    )
    assert all(map(math.isnan, values))
    assert [outcome.reasons[row][:40] for row in range(4)] == [
        "the item has neither a tag 'include' nor",
        "the detector has no class 'unicorn'",
        "the item asks for a color, which needs t",
        "the tag 'include' is not a list of requi",
    ]
    _, outcome = judged(Detector(CPU, model=seer), lang=("de",))
    assert outcome.reasons == {0: "the item has neither a tag 'include' nor a tag 'exclude'"}


def test_counting_has_its_own_threshold(tmp_path):
    scorer = Detector(CPU, model=save_detector(tmp_path), threshold=0.0, counting_threshold=0.999)
    any_of = [f'[{{"class": "{name}"}}]' for name in CLASSES]
    loose, _ = judged(scorer, include=any_of, tag=("single_object",) * 3)
    strict, _ = judged(scorer, include=any_of, tag=("counting",) * 3)
    assert sum(loose) >= 1
    assert strict == [0.0, 0.0, 0.0]


def test_colors_are_judged_with_a_clip(seer, tmp_path):
    scorer = Detector(CPU, model=seer, color_model=str(save_clip(tmp_path)))
    values, _ = judged(scorer, include=[f'[{{"class": "dog", "color": "{color}"}}]' for color in COLORS])
    assert set(values) <= {0.0, 1.0}
    assert scorer.info.protocol != Detector(CPU, model=seer).info.protocol


def test_the_file_of_geneval_reads_as_items(tmp_path):
    lines = [
        {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
        {
            "tag": "counting",
            "include": [{"class": "clock", "count": 2}],
            "exclude": [{"class": "clock", "count": 3}],
            "prompt": "a photo of two clocks",
        },
    ]
    (tmp_path / "evaluation_metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    file = str(tmp_path / "evaluation_metadata.jsonl")
    items = read_items(Items(file=file, prompt="prompt", tags=["tag", "include", "exclude"])).items
    assert [requirements(text)[0].name for text in items.tags["include"]] == ["bench", "clock"]
    assert [len(limits(text)) for text in items.tags["exclude"]] == [0, 1]


def test_wrong_models_and_options_are_errors_that_name_them(seer, tmp_path):
    with pytest.raises(InputError, match="invalid option threshold=2 of scorer 'detector'"):
        Detector(CPU, model=seer, threshold=2)
    with pytest.raises(InputError, match="invalid option model=3"):
        Detector(CPU, model=3)
    with pytest.raises(InputError, match="for scorer 'detector'"):
        Detector(CPU, model=str(save_clip(tmp_path)))
    with pytest.raises(InputError, match="'detector' requires image samples"):
        Detector(CPU, model=seer).score(Texts(("a",)), batch(1))
    plain = tmp_path / "plain"
    save_detector(plain)
    (plain / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor"}')
    with pytest.raises(InputError, match="which does not return boxes"):
        Detector(CPU, model=str(plain))
    (plain / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="has no preprocessor that loads for scorer 'detector'"):
        Detector(CPU, model=str(plain))
