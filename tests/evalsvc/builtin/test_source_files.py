"""Claims about modules of Python files: their folder is importable, folders do not mix, and code identifies samples."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evalsvc.builtin.generators.source_files import SourceTree
from evalsvc.builtin.generators.torch_module import TorchModule
from evalsvc.core.errors import InputError
from evalsvc.evaluation.compatibility import require_compatible
from evalsvc.evaluation.opening import generator_of
from evalsvc.evaluation.planning import plan
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suites import Suite
from evalsvc.plugins import validation
from evalsvc.plugins.conformance import check_generator
from evalsvc.plugins.registry import Plugins
from evalsvc.plugins.samples import SampleRequest

MODELS = """
import torch, layers
from blocks.scale import by
from blocks import scale

class Generator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 64)

    def forward(self, z):
        from late import factor
        return (by(self.layer(z)) * factor).tanh().view(-1, 1, 8, 8) + 0 * layers.SIZE

class Again(Generator):
    pass
"""
SUITE = {
    "name": "tiny",
    "version": 1,
    "modality": "image",
    "samples": 8,
    "extractors": {"pixels": {"use": "pixels"}},
    "metrics": [{"metric": "vendi_score", "features": "pixels/pixels"}],
}


def written(folder: Path, size: int, factor: int = 1) -> Path:
    (folder / "blocks").mkdir(parents=True)
    (folder / "models.py").write_text(MODELS)
    (folder / "layers.py").write_text(f"SIZE = {size}\n")
    (folder / "late.py").write_text(f"import layers\nfactor = {factor}\nSIZE = layers.SIZE\n")
    (folder / "blocks/scale.py").write_text("from .own import SIZE\nfrom layers import SIZE as SAME\nby = abs\n")
    (folder / "blocks/own.py").write_text("from layers import SIZE\n")
    (folder / "train.py").write_text("raise RuntimeError('nobody imports this')\n")
    return folder / "models.py"


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, 8)
    torch.manual_seed(1)
    save_file(torch.nn.ModuleDict({"layer": torch.nn.Linear(4, 64)}).state_dict(), tmp_path / "step_1.safetensors")
    return {"module": "models.py:Generator", "latent": 4}


def pinned(options):
    return Plugins().pinned("torch-module", options)


def opened(options):
    return TorchModule(Checkpoint.open(Path("step_1.safetensors"), "m", 1), torch.device("cpu"), **options)


def spec_of(context, options):
    return plan(context, Checkpoint.open(Path("step_1.safetensors"), "m", 1), "torch-module", options, Suite(**SUITE))


def test_files_of_two_folders_with_the_same_names_do_not_mix(tmp_path):
    before = {*sys.modules}
    one, two = (SourceTree.read(written(tmp_path / name, size)).load() for name, size in (("one", 1), ("two", 2)))
    assert (one.layers.SIZE, two.layers.SIZE) == (1, 2)
    assert (one.scale.SIZE, two.scale.SIZE, two.scale.SAME) == (1, 2, 2)
    assert not {"layers", "late", "models", "blocks"} & ({*sys.modules} - before)
    two.Generator()(torch.zeros(1, 4))
    late = sys.modules[two.__name__.replace(".models", ".late")]
    assert late.SIZE == 2


def test_the_digest_covers_what_is_imported_late_and_nothing_else(tmp_path):
    tree = SourceTree.read(written(tmp_path, 1))
    assert sorted(tree.sources) == ["blocks", "blocks.own", "blocks.scale", "late", "layers", "models"]
    for file, other in (("train.py", False), ("late.py", True), ("blocks/own.py", True)):
        (tmp_path / file).write_text((tmp_path / file).read_text() + "# changed\n")
        assert (SourceTree.read(tmp_path / "models.py").digest != tree.digest) == other, file
        tree = SourceTree.read(tmp_path / "models.py")


def test_a_file_of_a_package_imports_its_package_by_either_name(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("KIND = 'package'\n")
    (package / "layers.py").write_text("SIZE = 3\n")
    (package / "models.py").write_text(
        "from . import layers\nfrom .layers import SIZE as A\nfrom package.layers import SIZE as B\n"
        "from package import KIND\nimport layers as beside\nimport package.layers as named\n"
    )
    module = SourceTree.read(package / "models.py").load()
    assert (module.A, module.B, module.KIND) == (3, 3, "package")
    assert module.layers is module.beside is module.named


def test_a_file_may_name_its_folder_as_a_package(tmp_path):
    folder = tmp_path / "nets"
    (folder / "parts").mkdir(parents=True)
    (folder / "parts/blocks.py").write_text("from nets.sizes import SIZE\n")
    (folder / "sizes.py").write_text("SIZE = 4\n")
    (folder / "models.py").write_text(
        "from nets.parts.blocks import SIZE\nfrom nets import sizes\nimport nets.parts.blocks\n"
        "import nets.parts.blocks as named\nfrom parts import blocks\n"
    )
    tree = SourceTree.read(folder / "models.py")
    assert sorted(tree.sources) == ["models", "parts", "parts.blocks", "sizes"]
    module = tree.load()
    assert module.SIZE == module.sizes.SIZE == 4
    assert module.nets.parts.blocks is module.named is module.blocks


def test_an_installed_package_is_preferred_to_a_folder_without_init(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/prepare.py").write_text("")
    (tmp_path / "models.py").write_text("import torch\n")
    assert SourceTree.read(tmp_path / "models.py").load().torch is torch


def test_changed_code_is_another_configuration_of_the_same_checkpoint(context, options, tmp_path):
    first = spec_of(context, options)
    assert first.options["contents"].keys() == {"module"}
    (tmp_path / "train.py").write_text("pass\n")
    assert spec_of(context, options).fingerprint == first.fingerprint
    assert spec_of(context, options | {"module": "models.py:Again"}).fingerprint != first.fingerprint
    (tmp_path / "late.py").write_text("factor = 2\n")
    second = spec_of(context, options)
    assert second.checkpoint == first.checkpoint
    assert second.configuration != first.configuration
    assert second.samples_key != first.samples_key
    for refused in (lambda: spec_of(context, first.options), lambda: require_compatible(context, first)):
        with pytest.raises(
            InputError, match="option module of generator 'torch-module' names content that has changed"
        ):
            refused()
    require_compatible(context, second)


def test_the_same_code_elsewhere_is_the_same_configuration(context, options, tmp_path, monkeypatch):
    first = spec_of(context, options)
    written(tmp_path / "elsewhere", 8)
    second = spec_of(context, options | {"module": "elsewhere/models.py:Generator"})
    assert (second.fingerprint, second.configuration) == (first.fingerprint, first.configuration)
    assert second.options["module"] == f"{tmp_path}/elsewhere/models.py:Generator"


def test_a_module_of_a_file_conforms(options):
    assert [each for each in check_generator(opened(options), torch.device("cpu")) if not each.ok] == []


def test_prints_of_a_module_do_not_mix_with_results(context, options, tmp_path, capsys):
    text = (tmp_path / "models.py").read_text().replace("from late", "print('drawing'); from late")
    (tmp_path / "models.py").write_text(f"print('importing')\n{text}")
    generator = generator_of(context, spec_of(context, options))
    capsys.readouterr()
    validation.sample(generator, SampleRequest.of(0, 0, 2))
    out, err = capsys.readouterr()
    assert (out, err) == ("", "drawing\n")


def test_files_of_modules_inside_of_arguments_count_too(options, tmp_path):
    nested = {"module": "torch.nn:Sequential", "arguments": {"a": [{"module": "models.py:Generator"}]}}
    before = pinned(nested)["contents"]
    assert before.keys() == {"arguments"}
    (tmp_path / "late.py").write_text("factor = 2\n")
    assert pinned(nested)["contents"] != before


def test_options_without_files_keep_their_digest():
    options = {"module": "torch.nn:Linear", "latent": 4}
    assert pinned(options) == options


@pytest.mark.parametrize(
    ("text", "module", "complaint"),
    [
        ("", "none.py:Generator", "none.py does not exist: name a Python file, relative to the current folder"),
        ("class", "models.py:Generator", "models.py is not valid Python .*: repair it"),
        ("import no_such_package", "models.py:Generator", "No module named 'no_such_package'.: correct the file, or"),
        ("1 / 0", "models.py:Generator", "cannot be imported as FILE.py:Class .division by zero.: correct the file"),
        ("Generator = 3", "models.py:Generator", "is not a torch.nn.Module class"),
        ("", "models.py:Discriminator", "has no attribute 'Discriminator'"),
    ],
)
def test_each_mistake_is_one_sentence(options, tmp_path, text, module, complaint):
    (tmp_path / "models.py").write_text(text)
    with pytest.raises(InputError, match=complaint) as caught:
        opened(options | {"module": module})
    assert "\n" not in str(caught.value)
