"""What README, docs and examples tell a reader to type works as printed: each command, block, file and variable."""

import ast
import importlib
import importlib.util
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
import typer.main
import yaml

from evalsvc.api.server.state import ServerSettings
from evalsvc.cli import remote
from evalsvc.cli.main import app
from evalsvc.core.settings import Settings
from evalsvc.gates.policy import parse_policy
from evalsvc.inputs.suites import Suite
from tests.docs.pages import EXAMPLES, FENCE, INLINE, PAGES, ROOT, Block, blocks, commands
from tests.evalsvc.test_language import BRITISH, DIALECT

LANGUAGES = {"sh", "python", "yaml", "toml", "text"}
# Programs of others, whose arguments are theirs to check.
OTHERS = {".", "cp", "createdb", "curl", "export", "git", "mkdir", "openssl", "pg_dump", "pg_restore", "rsync"}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
FOLDERS = "evalsvc|metrics|dashboards|tests|benchmarks|alembic|docs"
ON_THE_SITE = r"docs/|examples/|[\w.-]+\.md$|benchmarks/RESULTS.md$"
SAVED = {block.title for block in blocks("python", "yaml", "toml") if block.title}
"""Files that some page asks its reader to save."""


def named(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}: {block.text.splitlines()[0][:40]}"


def each(*languages: str):
    return pytest.mark.parametrize("block", [*blocks(*languages)], ids=named)


everywhere = pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=lambda path: str(path.relative_to(ROOT)))


@cache
def command_of(*words: str, server: bool = False):
    """The command that these words name, and how many they are."""
    command, used = typer.main.get_command(remote.app if server else app), 0
    for word in words:
        inner = getattr(command, "commands", {}).get(word)
        if inner is None:
            break
        command, used = inner, used + 1
    return command, used


def parse(words: list[str]) -> None:
    """Parse the words after ``evalsvc`` as the command line does, and run nothing."""
    server = words[0] == "--server"
    words = words[2:] if server else words
    command, used = command_of(*words[:2], server=server)
    assert used, words
    command.make_context(" ".join(words[:used]), list(words[used:]))


def assert_files_exist(words: list[str], made: set[str]) -> None:
    """Suites, policies and plug-ins that a command names are in the repository, or saved on the way."""
    for word in words:
        if re.fullmatch(r"[\w./-]+\.(?:yaml|yml|py)", word) and not (ROOT / word).exists():
            assert word in made, f"nothing makes {word}"


def test_every_block_says_what_language_it_is():
    for page in PAGES:
        opened = re.findall(r"^ *```(\w*)", page.read_text(), re.MULTILINE)
        assert set(opened[::2]) <= LANGUAGES | {"json", "pycon", "dockerfile"}, page


@each("sh")
def test_every_command_of_a_block_works_as_printed(block):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = SAVED | {"evalsvc-gate.yaml"} if "evalsvc gate init" in block.page.read_text() else SAVED
    for words in commands(block.text):
        program, rest = words[0].removeprefix(".venv/bin/"), words[1:]
        if program == "opentelemetry-instrument":
            program, rest = rest[0], rest[1:]
        if program == "evalsvc":
            parse(rest)
            assert_files_exist(rest, made)
        elif program == "make":
            assert {word for word in rest if "=" not in word} <= targets, words
        elif program == "pip":
            for word in rest:
                asked = re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*)\]", word)))
                assert set(asked) <= EXTRAS.keys(), words
                assert not word.startswith("./") or (ROOT / word).exists(), words
        elif program in ("python", "python3") and rest[0] == "-m":
            path = rest[1].replace(".", "/")
            known = [ROOT / path, ROOT / f"{path}.py", *(ROOT / "examples").glob(f"*/{path}.py")]
            assert any(place.exists() for place in known) or importlib.util.find_spec(rest[1]), words
        elif program in ("python", "python3"):
            assert_files_exist(rest, made)
        else:
            assert program in OTHERS, f"{words}: is this printed as it is typed?"


@everywhere
def test_every_command_in_a_sentence_exists_with_its_options(page):
    found = INLINE.findall(page.read_text())
    if page.suffix != ".md":
        lists = re.findall(r"\[evalsvc, (.*)\]", page.read_text())
        found = [f"evalsvc {words.replace(',', '')}" for words in lists]
        found += re.findall(r"(?:^|/|- run: |  )(evalsvc [a-z][^\n|#&\"]*)", page.read_text(), re.MULTILINE)
    for text in found:
        words = text.split()[1:]
        server = words[0] == "--server"
        words = words[2:] if server else words
        if words[:1] == ["COMMAND"]:
            continue
        command, used = command_of(*words[:2], server=server)
        assert used, text
        assert used == len(words) or not hasattr(command, "commands") or command.invoke_without_command, text
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, text


@everywhere
def test_every_variable_is_a_setting(page):
    known = {f"EVALSVC_{name.upper()}" for name in [*Settings.model_fields, *ServerSettings.model_fields]}
    known |= {"EVALSVC_WEIGHTS_DIR", "EVALSVC_TOKEN", "EVALSVC_SERVER"}
    assert set(re.findall(r"EVALSVC_[A-Z_]+[A-Z]", page.read_text())) <= known


@everywhere
def test_nothing_is_installed_from_an_index_that_does_not_have_it(page):
    assert not re.search(r"pip install [^\n`@]*\bevalsvc(?:\[[\w,]+\])?['\"]?(?!\s*@)(?:\s|`|$)", page.read_text())


@everywhere
def test_every_file_of_the_repository_that_is_named_is_there(page):
    """Links within the repository too; the build of the site checks those between its pages, and their anchors."""
    text = page.read_text()
    names = re.findall(
        r"(?<![\w/.-])(?:evalsvc|metrics|dashboards|tests|benchmarks|alembic|docs)/[\w@./-]+\.[a-z]+\b", text
    )
    assert not [name for name in names if not (ROOT / name).exists()]
    for link in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", FENCE.sub("", text)) if page.suffix == ".md" else ():
        target = (page.parent / link).resolve()
        assert target.exists(), link
        inside = target.relative_to(ROOT).as_posix()
        assert re.match(r"docs/|examples/|[\w.-]+\.md$|LICENSE$|benchmarks/RESULTS.md$", inside), (
            f"{link} is not on the site"
        )


def offers(module: str, name: str | None) -> bool:
    """Whether a module has a name; one that stands in its text is not worth importing a trainer for."""
    spec = importlib.util.find_spec(module)
    if spec is None or name is None:
        return spec is not None
    text = Path(spec.origin or "").read_text()
    return bool(re.search(rf"^(?:class|def) {name}\b", text, re.MULTILINE)) or hasattr(
        importlib.import_module(module), name
    )


@each("python")
def test_every_python_block_compiles_and_imports_what_exists(block):
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in imported:
            if module.partition(".")[0] not in ("evalsvc", "metrics", "dashboards"):
                continue
            assert offers(module, name), (module, name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "evalsvc":
            assert hasattr(importlib.import_module("evalsvc"), node.attr), node.attr


@each("yaml")
def test_every_yaml_block_is_what_it_says(block):
    document = yaml.safe_load(block.text)
    if "modality" in document and "items" in document:
        assert block.title  # which is run: its items are read from a file
    elif "modality" in document:
        assert Suite.model_validate(document).metrics
    elif "suite" in document:
        assert parse_policy(block.text, str(block.page)).metrics
    else:
        assert isinstance(document, dict)


def sentences(page: Path) -> list[str]:
    """The sentences of a page, without headings, questions, code and addresses."""
    text = re.sub(r"^#+ .*$", "", FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]+`", "{}", text))
    parts = re.split(r"\n\n|\n(?=[-*|\d])|\|", text)
    found = [each.strip(" -*") for part in parts for each in re.split(r"(?<=[.:;?])\s+", " ".join(part.split()))]
    return [each for each in found if not each.endswith("?")]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_page_is_plain_technical_english(page):
    for sentence in sentences(page):
        assert not [advice for rule, advice in DIALECT.items() if re.search(rule, sentence)], sentence
        assert not BRITISH.findall(sentence), sentence
