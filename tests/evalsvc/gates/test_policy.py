import json
from datetime import date
from pathlib import Path

import jsonschema
import pytest
import yaml

from evalsvc.core.errors import InputError
from evalsvc.gates.policy import MedianOf, Policy, json_schema, load_policy, parse_policy

from .conftest import ISSUE

MINIMAL = "version: 1\nsuite: digits\nmetrics: {m: {max: 1}}\n"


WAIVED = MINIMAL + "waivers: [{metric: m, reason: r, by: b, expires: DAY}]"
NO_NUMBERS = ["1:30", "190:20:30", "1_000", "0b11", "yes", "on", "off", "'40'", "2027-01-15", "0x1G", "1e"]
NO_DATES = ["20270115", "4102444800", "01/15/2027", "2027-1-5", "2027-01-15 12:00:00", "2027-01-15T00:00:00+09:00"]


@pytest.mark.parametrize(
    ("written", "number"),
    [("040", 40), ("0o40", 32), ("0x2F", 47), ("1e-3", 0.001), ("1E3", 1000), ("-.5", -0.5), ("+12.", 12), ("08", 8)],
)
def test_numbers_are_those_of_yaml_1_2(written, number):
    assert parse_policy(MINIMAL.replace("max: 1", f"max: {written}")).metrics["m"].max == number


@pytest.mark.parametrize("written", ["!!float 1:30", "!!float 4_0", "!!int 4_0", "!!int 1:30"])
def test_a_tag_makes_no_number_of_what_is_written_otherwise(written):
    with pytest.raises(InputError, match="is not a valid (float|int)"):
        parse_policy(MINIMAL.replace("max: 1", f"max: {written}"))


@pytest.mark.parametrize("word", ["no", "on", "Off", "y", "2027-01-15", "1:30", "NO"])
def test_words_that_yaml_1_1_took_for_something_else_are_names(word):
    assert list(parse_policy(MINIMAL.replace("{m: ", f"{{{word}: ")).metrics) == [word]


def test_a_waiver_ends_within_the_days_that_the_policy_allows():
    allowed = parse_policy(WAIVED.replace("DAY", "2027-02-20"))
    allowed.check_waivers(date(2026, 11, 22))
    for day in (date(2026, 11, 21), date(2020, 1, 1)):
        with pytest.raises(InputError, match="the waiver for m ends on 2027-02-20, more than 90 days from today"):
            allowed.check_waivers(day)
        assert allowed.valid_waivers(day) == []
    longer = parse_policy(WAIVED.replace("DAY", "9999-12-31") + "\nmax_waiver_days: 4000000")
    assert len(longer.valid_waivers(date(2026, 11, 22))) == 1
    assert longer.valid_waivers(date(2026, 11, 22)) == list(longer.waivers)


def test_a_key_that_policies_did_not_always_have_leaves_the_digest_alone_at_its_default():
    assert parse_policy(MINIMAL).digest == parse_policy(MINIMAL + "max_waiver_days: 90\nallow_same: false").digest
    assert parse_policy(MINIMAL).digest != parse_policy(MINIMAL + "max_waiver_days: 30").digest
    assert parse_policy(MINIMAL).digest == parse_policy(MINIMAL + "reference: fixed").digest
    assert parse_policy(MINIMAL).digest != parse_policy(MINIMAL + "reference: sampled").digest


def test_the_policy_of_the_documentation_is_read_as_written(issue_policy):
    assert issue_policy.metrics["frechet_distance"].limits == {"max": 40, "max_worsening": 2}
    assert issue_policy.metrics["frechet_distance"].tier == "critical"
    assert issue_policy.on_inconclusive.more_samples == 4
    assert str(issue_policy.baseline) == "alias production"
    assert issue_policy.waivers[0].expires.year == 2027


def test_the_digest_is_of_what_is_said_and_not_of_how_it_is_laid_out():
    spelled_out = MINIMAL + "defaults: {confidence: 0.95}\nwaivers: []\n"
    assert parse_policy(MINIMAL).digest == parse_policy(spelled_out).digest
    assert parse_policy(MINIMAL).digest != parse_policy(MINIMAL.replace("1}}", "2}}")).digest


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("", "is not a YAML mapping"),
        ("a: [", "is not valid YAML"),
        ("metrics: {}", "version is missing"),
        (MINIMAL + "waivers: [{metric: m, reason: r, by: b, expires: 2027-02-30}]", "day is out of range for month"),
        ("[" * 5000, "is not valid YAML"),
        (MINIMAL + f"candidate: {{model: m, step: {2**63}}}", "candidate.step: Input should be less than"),
        (MINIMAL.replace("{m: {max: 1}}", "{}"), "metrics: Dictionary should have at least 1 item"),
        (MINIMAL.replace("version: 1", "version: 2"), "version: Input should be 1"),
        (MINIMAL + "threshold: 3", "unknown key threshold"),
        (MINIMAL.replace("max: 1", "max: 1, direction: lower"), "unknown key metrics.m.direction"),
        (MINIMAL.replace("max: 1", "maximum: 1"), "unknown key metrics.m.maximum"),
        (MINIMAL.replace("max: 1", "max: .nan"), "metrics.m.max: Input should be a finite number"),
        (MINIMAL.replace("max: 1", "max: .inf"), "metrics.m.max: Input should be a finite number"),
        (MINIMAL.replace("max: 1", "max: yes"), "metrics.m.max: Input should be a valid number"),
        (MINIMAL.replace("max: 1", 'max: "1"'), "metrics.m.max: Input should be a valid number"),
        (MINIMAL.replace("max: 1", "max: 1, max: 2"), "duplicate key 'max'"),
        (MINIMAL.replace("{max: 1}", "{max: 1}, m: {max: 9}"), "duplicate key 'm'"),
        (MINIMAL.replace("max: 1", ""), "metrics.m sets no limit"),
        (MINIMAL.replace("max: 1", "max: 1, min: 2"), r"min 2.0 is greater than max 1.0"),
        (MINIMAL.replace("max: 1", "max: 1, tier: advisory"), "no metric is critical"),
        (MINIMAL.replace("max: 1", "max_worsening: 1"), "set 'baseline'"),
        (MINIMAL.replace("max: 1", "max_worsening: -1"), "metrics.m.max_worsening: Input should be greater"),
        (MINIMAL + "baseline: production", "baseline must be one of"),
        (MINIMAL + "baseline: {median-of: 0}", "baseline must be one of"),
        (MINIMAL + "on_inconclusive: ignore", "on_inconclusive.then"),
        (MINIMAL + "on_inconclusive: {more_samples: 1000}", "on_inconclusive.more_samples"),
        (MINIMAL + "defaults: {confidence: 95}", "defaults.confidence"),
        (MINIMAL + "waivers: [{metric: m, reason: r, by: b}]", "waivers.0.expires is missing"),
        (MINIMAL + "waivers: [{metric: x, reason: r, by: b, expires: 2027-01-01}]", "a waiver names 'x'"),
        (MINIMAL + "waivers: [{metric: m, reason: ' ', by: b, expires: 2027-01-01}]", "waivers.0.reason is blank"),
        (MINIMAL + "max_waiver_days: 0", "max_waiver_days: Input should be greater"),
        (MINIMAL.replace("max: 1", "<<: {max: 1}, <<: {max: 9}"), "duplicate key '<<'"),
        *((MINIMAL.replace("max: 1", f"max: {word}"), "m.max: Input should be a valid number") for word in NO_NUMBERS),
        *((WAIVED.replace("DAY", word), "waivers.0.expires: write dates as YYYY-MM-DD") for word in NO_DATES),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_the_key(written, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        parse_policy(written, "evalsvc-gate.yaml")
    assert "evalsvc-gate.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="none.yaml cannot be read"):
        load_policy(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "baseline", ["{alias: production}", "{model: m, step: 3}", "last-passing", "{median-of: 5}"], ids=lambda text: text
)
def test_every_kind_of_baseline_is_read_and_keeps_its_meaning(baseline):
    policy = parse_policy(MINIMAL + f"baseline: {baseline}\n")
    again = Policy.model_validate(json.loads(policy.model_dump_json(by_alias=True)))
    assert again == policy
    assert again.digest == policy.digest
    assert (again.baseline == MedianOf(median_of=5)) == ("median" in baseline)


def test_the_schema_for_editors_accepts_what_the_parser_accepts_and_refuses_unknown_keys():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema).is_valid
    body = yaml.safe_load(ISSUE)
    body["waivers"][0]["expires"] = str(body["waivers"][0]["expires"])
    assert check(body)
    assert check(body | {"on_inconclusive": "warn"})
    assert not check(body | {"treshold": 1})
    assert not check(body | {"baseline": "production"})
    assert not check(body | {"metrics": {"m": {"maximum": 1}}})


def test_the_published_schema_is_that_of_the_code():
    published = Path(__file__).parents[3] / "docs" / "evalsvc-gate.schema.json"
    assert json.loads(published.read_text()) == json_schema()


def test_limits_may_be_shared_by_an_anchor():
    shared = parse_policy(
        MINIMAL.replace("{m: {max: 1}}", "{m: &limits {max: 1, max_worsening: 2}, n: {<<: *limits, max: 3}}")
        + "baseline: last-passing"
    )
    assert shared.metrics["n"].limits == {"max": 3, "max_worsening": 2}
