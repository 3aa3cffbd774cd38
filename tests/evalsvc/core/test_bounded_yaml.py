"""A short document can stand for more than any memory holds."""

import pytest
import yaml

from evalsvc.core.errors import InputError
from evalsvc.core.files.bounded_yaml import load_yaml
from evalsvc.core.files.yaml12 import PolicyLoader
from evalsvc.gates.policy import parse_policy
from evalsvc.inputs.suites import load_suite

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{','.join([f'*{old}'] * 9)}]}}\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)
HOSTILE = {
    "aliases": (BOMB, "more than 20000 values"),
    "merges": (MERGED, "more than 20000 values"),
    "depth": ("[" * 50_000 + "]" * 50_000, "nested more than 30 levels"),
    "open depth": ("[" * 50_000, "nested more than 30 levels"),
    "mappings": ("".join(f"{' ' * depth}a:\n" for depth in range(100)) + " " * 100 + "b", "nested more than 30 levels"),
    "depth by aliases": (
        "".join(f"a{n}: &a{n} " + (f"[[[*a{n - 1}]]]\n" if n else "[1]\n") for n in range(40)),
        "nested more than 30 levels",
    ),
    "itself": ("a: &a [*a]", "alias [*]a refers to a collection that contains it"),
    "digits": (f"a: {'9' * 5000}", "a number has more than 100 digits"),
    "hexadecimal": (f"a: 0x{'f' * 5000}", "a number has more than 100 digits"),
    "keys": ("".join(f"k{n}: 1\n" for n in range(30_000)), "longer than|more than 20000 values"),
    "length": ("# " + "x" * 300_000, "longer than 262144 characters"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_stands_for_too_much_is_refused_in_one_sentence(name, tmp_path):
    text, reason = HOSTILE[name]
    with pytest.raises(InputError, match=f"policy in the request is not valid YAML: .*({reason})"):
        parse_policy(text, "in the request")
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(InputError, match=reason):
        load_suite(str(tmp_path / "suite.yaml"))


def test_what_people_write_is_read_as_before():
    text = "limits: &l {max: 3, shares: [1, 2]}\nmetrics: {a: *l, b: {<<: *l, max: 4}}\ndigest: " + "a1" * 32
    assert load_yaml(text) == yaml.safe_load(text)
    assert load_yaml("", PolicyLoader) is None
    with pytest.raises(yaml.YAMLError, match="duplicate key"):
        load_yaml("a: 1\na: 2", PolicyLoader)


def test_an_alias_of_nothing_is_an_error_of_yaml():
    with pytest.raises(yaml.YAMLError, match="undefined alias"):
        load_yaml("a: *b")
