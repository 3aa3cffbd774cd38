"""Names of 0.1 are importable, are the objects that they were, and say what to write instead."""

import importlib

import pytest

import evalsvc
from evalsvc.plugins.registry import PluginKind, Plugins

NAMES_OF_0_1 = {
    "plugins": "EmbedsTexts Extractor ExtractorInfo Generator GeneratorInfo HoldsSamples Likelihood LikelihoodKind "
    "Modality NegativeLogLikelihood Plugin PluginKind Plugins ReadsAt Reference SampleSet Skips open_to_clients "
    "register",
    "samples": "Images MixedImages SampleRequest Samples Sounds Texts Videos concatenate",
    "checkpoints": "Checkpoint load_into",
    "noise": "hashed normal philox sample_seeds seeds_at uniform",
    "client": "Client ClientError",
}
PLUGIN_OF_0_1 = """
from evalsvc.checkpoints import Checkpoint, load_into
from evalsvc.plugins import GeneratorInfo, register
from evalsvc.samples import Images, SampleRequest

@register("generators", "old")
class Old:
    pass
"""


@pytest.mark.parametrize(
    ("module", "name", "home", "better"),
    [
        ("evalsvc.plugins", "register", "evalsvc.plugins.registry", "evalsvc.register"),
        ("evalsvc.plugins", "Skips", "evalsvc.plugins.interfaces", "evalsvc.plugins.interfaces.Skips"),
        ("evalsvc.samples", "Images", "evalsvc.plugins.samples", "evalsvc.Images"),
        ("evalsvc.samples", "concatenate", "evalsvc.plugins.samples", "evalsvc.plugins.samples.concatenate"),
        ("evalsvc.checkpoints", "load_into", "evalsvc.inputs.checkpoints", "evalsvc.load_into"),
        ("evalsvc.noise", "normal", "evalsvc.plugins.rng", "evalsvc.plugins.rng.normal"),
        ("evalsvc.client", "Client", "evalsvc.api.client", "evalsvc.Client"),
    ],
)
def test_an_old_name_is_the_object_of_today_and_the_warning_points_here(module, name, home, better):
    sentence = rf"^{module}.{name} is deprecated and will be removed in evalsvc 0.4: use {better}$"
    with pytest.warns(DeprecationWarning, match=sentence) as caught:
        found = getattr(importlib.import_module(module), name)
    assert found is getattr(importlib.import_module(home), name)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("module", NAMES_OF_0_1)
def test_every_name_of_0_1_is_found(module):
    old = importlib.import_module(f"evalsvc.{module}")
    for name in NAMES_OF_0_1[module].split():
        with pytest.warns(DeprecationWarning, match=f"^evalsvc.{module}.{name} is deprecated"):
            assert getattr(old, name)


def test_a_renamed_class_is_the_same_by_its_former_name():
    with pytest.warns(DeprecationWarning, match=r"^evalsvc.samples.Sounds is deprecated .*: use evalsvc.Audio$"):
        assert importlib.import_module("evalsvc.samples").Sounds is evalsvc.Audio


def test_a_name_that_there_never_was_is_an_attribute_error_without_a_warning(recwarn):
    samples = importlib.import_module("evalsvc.samples")
    with pytest.raises(AttributeError, match="module 'evalsvc.samples' has no attribute 'nothing'"):
        _ = samples.nothing
    assert not recwarn.list


def test_a_plugin_file_of_0_1_loads_under_the_version_that_it_had(tmp_path):
    (tmp_path / "old.py").write_text(PLUGIN_OF_0_1)
    with pytest.warns(DeprecationWarning, match="will be removed in evalsvc 0.4"):
        plugin = Plugins((tmp_path / "old.py",)).get(PluginKind.GENERATOR, "old")
    assert plugin.load().__name__ == "Old"
    assert plugin.recorded_version == "old.py 0736b37bd1cf"


def test_every_public_name_is_found_and_others_are_not():
    assert all(getattr(evalsvc, name) for name in evalsvc.__all__)
    with pytest.raises(AttributeError, match="module 'evalsvc' has no attribute 'Nothing'"):
        _ = evalsvc.Nothing
