import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from evalsvc.core.errors import InputError
from evalsvc.plugins.registry import PluginKind, Plugins


def install(folder: Path, distribution: str, points: str, **modules: str) -> None:
    """A distribution as an installer would leave it on the path."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(points))
    for name, body in modules.items():
        (folder / f"{name}.py").write_text(body)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_built_in_plugins_are_all_found_and_load():
    found = {(plugin.kind, plugin.name) for plugin in Plugins() if plugin.load()}
    generators = ("gan", "vae", "flow", "ddpm", "autoregressive", "conditional-gan", "samples", "torch-module")
    generators += ("onnx-module", "command")
    assert {(PluginKind.GENERATOR, name) for name in generators} <= found
    assert {(PluginKind.EXTRACTOR, name) for name in ("pixels", "digits-cnn", "efficientnet-lite0")} <= found
    assert (PluginKind.REFERENCE, "digits") in found


def test_plugins_are_found_without_being_imported(site):
    install(site, "noisy", "[evalsvc.generators]\nnoisy = noisy:Gen\n", noisy="raise SystemExit('imported')")
    assert Plugins().get(PluginKind.GENERATOR, "noisy").distribution == "noisy"


def test_a_broken_plugin_is_named_and_hurts_nobody_else(site):
    install(site, "broken", "[evalsvc.generators]\nbroken = broken:Gen\n", broken="import not_installed_anywhere")
    plugins = Plugins()
    with pytest.raises(InputError, match="'broken' .* of broken 1.0 is broken: ModuleNotFoundError"):
        plugins.get(PluginKind.GENERATOR, "broken").load()
    assert plugins.get(PluginKind.GENERATOR, "gan").load()


def test_two_distributions_with_one_name_are_both_named(site):
    install(site, "one", "[evalsvc.generators]\nsame = one:Gen\n")
    install(site, "two", "[evalsvc.generators]\nsame = two:Gen\n")
    with pytest.raises(InputError, match=r"(one 1.0 and two 1.0|two 1.0 and one 1.0) both register"):
        Plugins().get(PluginKind.GENERATOR, "same")


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(InputError, match=r"no generator 'autoregresive'; the nearest are autoregressive"):
        Plugins().get(PluginKind.GENERATOR, "autoregresive")


def test_a_single_file_is_a_plugin(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from evalsvc import register\n\n\n@register('generators', 'mine')\nclass Mine:\n    flavour = 'own'\n"
    )
    plugin = Plugins((file,)).get(PluginKind.GENERATOR, "mine")
    assert plugin.load().flavour == "own"
    assert plugin.distribution == "mine.py", "wherever it lies: workers have it elsewhere"


def test_an_edited_file_is_another_version(tmp_path):
    file = tmp_path / "mine.py"
    body = "from evalsvc import register\n\n\n@register('generators', 'mine')\nclass Mine:\n    size = {}\n"
    versions = set()
    for size in (1, 2):
        file.write_text(body.format(size))
        versions.add(Plugins((file,)).get(PluginKind.GENERATOR, "mine").version)
    assert len(versions) == 2


def test_a_version_of_its_own_outlives_releases_and_edits_and_no_subclass_inherits_it(site, tmp_path):
    body = "from evalsvc import register, versioned\n@versioned('3')\nclass Gen: pass\nclass Other(Gen): pass\n"
    install(site, "steady", "[evalsvc.generators]\ng = steady:Gen\nother = steady:Other\n", steady=body)
    found = Plugins()
    assert found.get(PluginKind.GENERATOR, "g").recorded_version == "steady 3"
    assert found.get(PluginKind.GENERATOR, "other").recorded_version == "steady 1.0"
    file = tmp_path / "mine.py"
    file.write_text(body.replace("class Gen", "@register('generators', 'mine')\nclass Gen") + "# edited\n")
    assert Plugins((file,)).get(PluginKind.GENERATOR, "mine").recorded_version == "mine.py 3"


def test_a_version_that_is_no_text_is_an_error(site):
    install(site, "odd", "[evalsvc.generators]\nodd = odd:Gen\n", odd="class Gen:\n    plugin_version = 3\n")
    with pytest.raises(InputError, match="invalid plugin_version 3 of plug-in 'odd' of odd: use a non-empty string"):
        _ = Plugins().get(PluginKind.GENERATOR, "odd").recorded_version


@pytest.mark.parametrize(
    ("body", "complaint"), [("x = 1\n", "registers nothing"), ("import nothing_like_this\n", "is broken")]
)
def test_a_useless_file_is_an_error(tmp_path, body, complaint):
    file = tmp_path / "mine.py"
    file.write_text(body)
    with pytest.raises(InputError, match=complaint):
        Plugins((file,))


def test_the_folder_of_migrations_does_not_hide_the_alembic_package():
    root = Path(__file__).parents[3]
    assert not (root / "alembic" / "__init__.py").exists()
    done = subprocess.run([sys.executable, "-c", "import alembic.command"], cwd=root, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_reading_commands_do_not_import_torch():
    code = "import sys, evalsvc.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
