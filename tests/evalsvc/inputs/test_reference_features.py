import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from evalsvc.builtin.extractors.pixels import Pixels
from evalsvc.cli.cache import app
from evalsvc.core.batching import Batches
from evalsvc.core.errors import InputError
from evalsvc.inputs.reference_arrays import extract_reference, read_reference
from evalsvc.inputs.reference_features import entries
from evalsvc.inputs.references import add_reference, open_reference
from evalsvc.plugins.interfaces import ExtractorInfo


class Halved(Pixels):
    """Another engine for the same protocol, which rounds in its own way."""

    info = ExtractorInfo(**{**vars(Pixels.info), "backend": "other-cpu"})

    def extract(self, samples):
        return {"pixels": super().extract(samples)["pixels"] / 2}


@pytest.fixture
def filled(context, tmp_path):
    """Two references, one with a held-out half, their arrays extracted; and arrays that nobody owns."""
    random = np.random.default_rng(0)
    for name in ("birds", "trees", "unseen", "gone"):
        np.savez(tmp_path / f"{name}.npz", random.integers(0, 256, (6, 4, 4), dtype=np.uint8))
    add_reference(context.database, context.plugins, "birds", tmp_path / "birds.npz", tmp_path / "unseen.npz")
    add_reference(context.database, context.plugins, "trees", tmp_path / "trees.npz", None)
    for name in ("birds", "trees"):
        reference = open_reference(context.database, context.plugins, name)
        for split, samples in reference.splits.items():
            extract(context, samples, reference.digests[split], Pixels)
    extract(context, reference.split("train"), "f" * 64, Pixels)
    return context


def extract(context, samples, digest, kind):
    extract_reference(context.artifacts, samples, digest, [kind(torch.device("cpu"))], Batches(4), lambda _: None)


def listed():
    done = CliRunner().invoke(app, ["list", "--json"], catch_exceptions=False)
    return [(entry["reference"], entry["half"]) for entry in json.loads(done.stdout)]


def test_the_list_says_whose_arrays_they_are_and_how_large(filled):
    assert listed() == [("", ""), ("birds", "heldout"), ("birds", "train"), ("trees", "train")]
    (entry,) = [e for e in entries(filled.artifacts, filled.database, filled.plugins) if e.reference == "trees"]
    assert (entry.files, entry.bytes) == (1, 192 + 6 * 16 * 4)
    assert entry.extractor == f"{Pixels.info.protocol}-torch"
    shown = CliRunner().invoke(app, ["list"], catch_exceptions=False).stdout
    assert "none (ffffffffffff)" in shown


def test_the_first_samples_of_a_reference_are_listed_and_pruned_like_its_arrays(filled):
    folder = f"reference/{open_reference(filled.database, filled.plugins, 'trees').digests['train']}"
    filled.artifacts.write_arrays(f"{folder}/gallery.safetensors", {"pixels": np.zeros((2, 1, 4, 4), np.uint8)})
    filled.artifacts.write_arrays(f"reference/{'e' * 64}/gallery.safetensors", {"pixels": np.zeros(1, np.uint8)})
    assert listed() == [
        ("", ""),
        ("", ""),
        ("birds", "heldout"),
        ("birds", "train"),
        ("trees", "train"),
        ("trees", "train"),
    ]
    CliRunner().invoke(app, ["prune"], catch_exceptions=False)
    assert filled.artifacts.exists(f"{folder}/gallery.safetensors")
    assert not filled.artifacts.exists(f"reference/{'e' * 64}/gallery.safetensors")
    CliRunner().invoke(app, ["prune", "--all"], catch_exceptions=False)
    assert listed() == []


def test_prune_takes_what_nobody_owns_or_what_is_named(filled):
    CliRunner().invoke(app, ["prune"], catch_exceptions=False)
    assert listed() == [("birds", "heldout"), ("birds", "train"), ("trees", "train")]
    with pytest.raises(InputError, match="there are no cached arrays of reference 'bees'"):
        CliRunner().invoke(app, ["prune", "--reference", "bees"], catch_exceptions=False)
    CliRunner().invoke(app, ["prune", "--reference", "birds"], catch_exceptions=False)
    assert listed() == [("trees", "train")]
    CliRunner().invoke(app, ["prune", "--all"], catch_exceptions=False)
    assert listed() == []


def test_two_backends_of_one_protocol_share_no_arrays(filled):
    reference = open_reference(filled.database, filled.plugins, "trees")
    digest = reference.digests["train"]
    assert Halved.info.protocol == Pixels.info.protocol
    extract(filled, reference.split("train"), digest, Halved)
    whole, halved = (read_reference(filled.artifacts, digest, kind.info, "pixels") for kind in (Pixels, Halved))
    assert np.array_equal(whole, 2 * halved)
    assert listed().count(("trees", "train")) == 2
