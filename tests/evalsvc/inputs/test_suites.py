import pytest
import yaml

from evalsvc.core.errors import InputError
from evalsvc.inputs.suites import Suite, load_suite, shipped_suites

BASE = {
    "name": "mine",
    "version": 1,
    "modality": "image",
    "reference": "digits",
    "samples": 100,
    "extractors": {"cnn": {"use": "digits-cnn"}},
    "metrics": [{"metric": "frechet_distance", "features": "cnn/features"}],
}


def write(tmp_path, **changes):
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(BASE | changes))
    return str(path)


def test_every_shipped_suite_is_valid_and_named_as_its_file():
    for name in shipped_suites():
        assert load_suite(name).id == name


def test_a_bare_name_is_its_newest_version():
    assert load_suite("digits").name == "digits"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sampels": 3}, "sampels: is not a key"),
        ({"metrics": [{"metric": "fid", "features": "cnn/features"}]}, "no metric 'fid'"),
        (
            {"metrics": [{"metric": "frechet_distance", "features": "cnn/features", "options": {"k": 3}}]},
            "no option 'k'",
        ),
        (
            {
                "metrics": [
                    {"metric": "precision_recall", "features": "cnn/features", "options": {"reference_radii": 1}}
                ]
            },
            "no option 'reference_radii'; it has k$",
        ),
        (
            {"metrics": [{"metric": "precision_recall", "features": "cnn/features", "options": {"k": "3"}}]},
            "precision_recall: option k: '3': Input should be a valid integer",
        ),
        ({"metrics": [{"metric": "frechet_distance", "features": "vgg/features"}]}, "features: extractor/output"),
        ({"metrics": [{"metric": "frechet_distance", "features": "cnn"}]}, "features: extractor/output"),
        ({"metrics": BASE["metrics"] * 2}, "two metrics have the label 'frechet_distance'"),
        ({"metrics": [BASE["metrics"][0] | {"label": "x" * 101}]}, "more than 100 characters"),
        ({"metrics": []}, "at least 1 item"),
        ({"reference": None}, "needs a reference"),
        ({"samples": 0}, "greater than or equal to 1"),
        ({"name": "Mine!"}, "match pattern"),
        ({"neighbours": "cnn"}, "neighbours needs"),
    ],
)
def test_a_bad_suite_is_refused_in_one_sentence(tmp_path, changes, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        load_suite(write(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("body", ["- a\n- b\n", "a: [\n", ""])
def test_what_is_no_yaml_mapping_is_refused(tmp_path, body):
    path = tmp_path / "suite.yaml"
    path.write_text(body)
    with pytest.raises(InputError, match=r"suite\.yaml"):
        load_suite(str(path))


def test_an_unknown_suite_names_the_shipped_ones():
    with pytest.raises(InputError, match="digits@1"):
        load_suite("didgits")


def test_the_digest_changes_with_every_field():
    suite = Suite.model_validate(BASE)
    others = [{"samples": 101}, {"seed": 1}, {"shard": 50}, {"metrics": [{**BASE["metrics"][0], "against": "heldout"}]}]
    digests = {Suite.model_validate(BASE | change).digest for change in others}
    assert len(digests | {suite.digest}) == len(others) + 1


def test_the_same_metric_twice_needs_two_labels(tmp_path):
    metric = BASE["metrics"][0]
    suite = load_suite(
        write(tmp_path, metrics=[metric, {**metric, "label": "*_again"}, {**metric, "against": "heldout"}])
    )
    assert suite.labels == ("frechet_distance", "frechet_distance_again", "frechet_distance_heldout")
