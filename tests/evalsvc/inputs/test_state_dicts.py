"""Which state dict of a file a model is filled from, and what is read over on the way."""

import argparse
import collections
import dataclasses
import datetime
import enum
import functools
import io
import pathlib
import random
import re
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from evalsvc.core.errors import CheckpointError, InputError, RefusedError
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.inputs.state_dicts import StateDicts
from evalsvc.inputs.torch_files import read_state


def weights(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def filled(entries, state=""):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    file = StateDicts(entries)
    where = (file.at(state) if state else file).fill(model)
    return where, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("entries", "where"),
    [
        ({"": weights()}, ""),
        ({"": prefixed("module.", weights())}, "module"),
        ({"": prefixed("_orig_mod.", weights())}, "_orig_mod"),
        ({"": prefixed("module._orig_mod.", weights())}, "module._orig_mod"),
        ({"": prefixed("ema.", weights())}, "ema"),
        ({"state_dict": prefixed("generator.", weights())}, "state_dict.generator"),
        (
            {"state_dict": prefixed("g.", weights()) | prefixed("d.", {"0.weight": torch.zeros(9)})},
            "state_dict.g",
        ),
        ({"": {"step": torch.tensor(5)}, "model": weights()}, "model"),
        ({"": {"0.weight": torch.zeros(8, 8)}, "net": weights()}, "net"),
        (
            {"callbacks.EMA.weights": weights(), "optimizer.state.0.weight": {"exp_avg": torch.zeros(3, 2)}},
            "callbacks.EMA.weights",
        ),
    ],
)
def test_the_only_state_dict_that_fits_is_taken_under_whatever_prefix(entries, where):
    got = filled(entries)
    assert got[0] == where
    assert same(got[1], weights())


def test_names_that_wrappers_put_in_their_middle_are_read_without_them():
    compiled = {name.replace(".", "._orig_mod.", 1): tensor for name, tensor in weights().items()}
    parallel = {name.replace(".", ".module.", 1): tensor for name, tensor in weights().items()}
    assert same(filled({"": compiled})[1], weights())
    assert same(filled({"": parallel})[1], weights())


def test_a_file_from_before_there_were_counters_of_batches_still_loads():
    old = {name: tensor for name, tensor in weights().items() if "num_batches" not in name}
    assert same(filled({"model": old})[1], weights())


@pytest.mark.parametrize(
    "entries",
    [
        {"model": weights(1), "ema": weights(2)},
        {"": prefixed("model.", weights(1)) | prefixed("ema.", weights(2))},
        {"model": prefixed("module.", weights(1)), "ema": weights(2)},
        {"model": weights(1), "ema": {name.replace(".", "._orig_mod.", 1): each for name, each in weights(2).items()}},
        {"nets": prefixed("model.", weights(1)), "ema": weights(2)},
    ],
)
def test_where_two_fit_the_user_chooses_and_gets_what_was_chosen(entries):
    with pytest.raises(InputError, match=r"contains 2 state dicts that fit .*: choose one with --option state=.*ema"):
        filled(entries)
    assert same(filled(entries, "ema")[1], weights(2))
    other = "nets.model" if "nets" in entries else "model"
    assert same(filled(entries, other)[1], weights(1))


def test_the_top_level_is_chosen_by_a_dot():
    entries = {"": weights(1), "ema": weights(2)}
    with pytest.raises(InputError, match=r"state=\. or state=ema"):
        filled(entries)
    assert same(filled(entries, ".")[1], weights(1))


def test_what_does_not_fit_is_told_by_its_first_names_and_the_file_s_entries():
    short = {name: tensor for name, tensor in weights().items() if name != "0.bias"}
    for state, told in (
        (short, "missing 0.bias in weights"),
        (weights() | {"step": torch.tensor(5)}, r"unexpected step \(a scalar beside the weights: save"),
        (weights() | {"0.weight": torch.zeros(3, 3)}, r"another shape for 0.weight \(\(3, 3\), expected \(3, 2\)\)"),
        (prefixed("x.", short) | {"y": torch.zeros(1)}, "missing 0.bias in weights.x"),
        ({"y": torch.zeros(1)}, "missing 0.weight and 6 more, unexpected y in weights"),
    ):
        with pytest.raises(InputError, match=rf"does not fit the model: {told}.*; entries of the file: weights \("):
            filled({"weights": state, "opt": {"moments": torch.zeros(2)}})
    with pytest.raises(InputError, match=r"has no entry 'emma': entries of the file: model \(7 tensors\)"):
        filled({"model": weights()}, "emma")


@dataclasses.dataclass
class Settings:
    rate: float = 1e-3
    folder: pathlib.Path = pathlib.Path("runs")
    form: "Form" = None


class Form(enum.Enum):
    FLAT = "flat"


Size = collections.namedtuple("Size", "width height")


def everything_trainers_save():
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters())
    return {
        "opt": optimizer.state_dict(),
        "args": argparse.Namespace(lr=1e-3, out=pathlib.Path("runs")),
        "loss": np.float64(0.3),
        "curve": np.zeros(4),
        "epoch": 3,
        "when": datetime.datetime(2026, 1, 2),
        "counts": collections.defaultdict(int, a=1),
        "last": collections.deque([1.0], maxlen=4),
        "shadow": [torch.zeros(2)],
        "dtype": torch.float32,
        "settings": Settings(form=Form.FLAT),
        "size": Size(2, 3),
        "schedule": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3),
        "chance": (np.random.get_state(), np.random.default_rng(0), torch.get_rng_state()),
        "error": ValueError("interrupted"),
        "activation": functools.partial(torch.nn.functional.leaky_relu, negative_slope=0.1),
        "values": (np.int64(3), np.bool_(1), np.dtype("f4"), np.array(["a", 1], dtype=object)),
        "once": {1, 2, frozenset("a")},
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_what_trainers_save_beside_weights_is_read_over(tmp_path, legacy):
    path = tmp_path / "all_1.pt"
    state = {"model": prefixed("module.", weights(1)), "ema": weights(2)} | everything_trainers_save()
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for trusted in (False, True):
        assert load_into(model, Checkpoint.open(path, "m", 1), "model", trusted=trusted) == "model.module"
        assert same(model.state_dict(), weights(1))
        assert same(Checkpoint.open(path, "m", 1).tensors("ema", trusted=trusted), weights(2))
    with pytest.raises(CheckpointError, match=r"model \(7 tensors\), opt, args, loss, curve, epoch"):
        Checkpoint.open(path, "m", 1).tensors()


def test_state_dicts_in_a_list_are_named_by_their_place(tmp_path):
    critic, path = nn.Linear(4, 1).state_dict(), tmp_path / "gan_1.pt"
    torch.save([critic, weights(1), (weights(2), [torch.zeros(3)])], path)
    with pytest.raises(CheckpointError, match=r"--option state=1 or state=2\.0$"):
        load_into(network(), Checkpoint.open(path, "m", 1))
    assert same(Checkpoint.open(path, "m", 1).tensors("2.0"), weights(2))


@pytest.mark.parametrize("legacy", [False, True])
def test_damage_anywhere_is_one_sentence_in_words_of_its_own(legacy):
    file, chance = io.BytesIO(), random.Random(0)
    torch.save({"model": weights()} | everything_trainers_save(), file, _use_new_zipfile_serialization=not legacy)
    whole = file.getvalue()
    for _ in range(60):
        damaged = bytearray(whole[: chance.choice((len(whole), chance.randrange(1, len(whole))))])
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            read_state(io.BytesIO(damaged))
        except RefusedError as refused:
            told = str(refused)
            assert told.startswith(("is ", "contains "))
            assert not any(
                word in told for word in ("\n", "\x1b", "weights_only", "torch.load", "eights only", "enforce")
            )


class Malice:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("call", [(eval, "1"), (subprocess.check_call, ["true"]), (getattr, "a", "b")])
def test_a_file_that_means_to_run_code_is_refused_though_it_holds_weights(tmp_path, call):
    torch.save({"model": weights(), "args": Malice(*call)}, tmp_path / "evil_1.pt")
    with pytest.raises(
        CheckpointError, match=r"unpickling can execute code: save it as safetensors .*\(it refers to \w+\.\w+"
    ):
        load_into(nn.Linear(2, 2), Checkpoint.open(tmp_path / "evil_1.pt", "m", 1))


class Loud:
    ran = False

    def __init__(self, *_):
        Loud.ran = True

    def __setstate__(self, state):
        Loud.ran = True

    def __reduce__(self):
        return Loud, (1,), {"a": 1}


def test_nothing_that_a_file_names_is_called_or_imported(tmp_path):
    loud = Loud()
    Loud.ran = False
    torch.save({"model": weights(), "args": loud}, tmp_path / "loud_1.pt")
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    load_into(model, Checkpoint.open(tmp_path / "loud_1.pt", "m", 1), trusted=True)
    assert same(model.state_dict(), weights())
    assert not Loud.ran


def test_a_whole_pickled_module_is_refused_in_words_of_its_own(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module_1.pt")
    with pytest.raises(
        CheckpointError, match="it contains Linear.*: save it as safetensors or as a plain state_dict"
    ) as told:
        Checkpoint.open(tmp_path / "module_1.pt", "m", 1).tensors()
    assert "\x1b" not in str(told.value)
    assert "[1m" not in str(told.value)


def test_safetensors_have_entries_too(tmp_path):
    save_file(prefixed("model.", weights(1)) | prefixed("ema.", weights(2)), tmp_path / "both_1.safetensors")
    checkpoint = Checkpoint.open(tmp_path / "both_1.safetensors", "m", 1)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert load_into(model, checkpoint, "ema") == "ema"
    assert same(model.state_dict(), weights(2))


def test_what_is_no_file_of_weights_is_named_for_what_it_is(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")
    torch.save({"model": weights()}, tmp_path / "four.pt", pickle_protocol=4)
    torch.save({"0.weight": np.zeros(3)}, tmp_path / "arrays.pt")
    (tmp_path / "page.pt").write_text("<html>not found</html>")
    for name in ("pointer.pt", "pointer.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1")
    for name, told in (
        ("script.pt", "is a TorchScript program"),
        (
            "four.pt",
            "is pickled by another protocol than that of torch.save: save it as safetensors or as a plain state_dict",
        ),
        ("arrays.pt", "is not a state_dict of tensors .it contains 0.weight"),
        ("page.pt", "is not a torch file"),
        ("pointer.pt", "is a Git LFS pointer"),
        ("pointer.safetensors", "is a Git LFS pointer"),
    ):
        with pytest.raises(CheckpointError, match=told):
            load_into(nn.Linear(2, 2), Checkpoint.open(tmp_path / name, "m", 1))


def test_a_dictionary_that_holds_itself_is_looked_into_once(tmp_path):
    state = {"model": weights()}
    torch.save(state | {"again": state}, tmp_path / "shared_1.pt")
    circle = {"model": weights()}
    circle["self"] = circle
    torch.save(circle, tmp_path / "circle_1.pt")
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert load_into(model, Checkpoint.open(tmp_path / "circle_1.pt", "m", 1)) == "model"
    with pytest.raises(CheckpointError, match=r"again\.model and model"):
        load_into(model, Checkpoint.open(tmp_path / "shared_1.pt", "m", 1))


def shadow(model):
    """Averages of parameters by position, as diffusers and torch_ema save them."""
    return {"decay": 0.99, "shadow_params": [parameter.detach() + 1 for parameter in model.parameters()]}


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def loaded(path, state, model, choice=""):
    torch.save(state, path)
    checkpoint = Checkpoint.open(path, "m", 1)
    try:
        told = load_into(model, checkpoint, choice)
    except CheckpointError as refused:
        for way_out in re.findall(r"state=(\S+)", str(refused)):
            assert load_into(model, checkpoint, way_out).split(" ")[0] == way_out
        raise
    return told, dict(model.state_dict())


def test_averages_without_names_fill_a_model_in_the_order_of_its_parameters(tmp_path):
    source, path = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), tmp_path / "ema_1.pt"
    target = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    told, got = loaded(path, shadow(source), target)
    assert told == "shadow_params (by position)"
    assert same(got, {name: tensor + 1 for name, tensor in source.state_dict().items()})
    trained = {"shadow_params": shadow(source)["shadow_params"][1:]}  # torch_ema averages only what is trained
    target[0].weight.requires_grad_(False)
    told, got = loaded(path, {"model": source.state_dict(), "ema": trained}, target, "ema")
    assert told == "ema.shadow_params (by position, rest of model)"
    assert torch.equal(got["0.weight"], source[0].weight)
    assert torch.equal(got["1.bias"], source[1].bias + 1)
    with pytest.raises(CheckpointError, match="does not fit the model: missing 0.weight"):
        loaded(path, shadow(nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2))), target)


def test_buffers_beside_averages_are_those_of_the_only_state_dict_in_the_file(tmp_path):
    source, target, path = network(), network(), tmp_path / "ema_1.pt"
    source[1].running_mean += 5
    both = {"model": source.state_dict(), "ema": shadow(source)}
    with pytest.raises(CheckpointError, match=r"contains 2 .*--option state=model or state=ema\.shadow_params$"):
        loaded(path, both, target)
    told, got = loaded(path, both, target, "ema")
    assert told == "ema.shadow_params (by position, rest of model)"
    assert torch.equal(got["0.weight"], source[0].weight + 1)
    assert torch.equal(got["1.running_mean"], source[1].running_mean)
    with pytest.raises(
        CheckpointError, match="has only parameters in shadow_params, but the model has also 1.running_"
    ):
        loaded(path, shadow(source), target)


def test_averages_of_parameters_by_name_are_completed_too(tmp_path):
    source, target, path = network(), network(), tmp_path / "ema_1.pt"
    source[1].running_mean += 5
    averages = {f"module.{name}": parameter.detach() + 1 for name, parameter in source.named_parameters()}
    file = {"net": source.state_dict(), "ema": {"shadow": averages}}
    with pytest.raises(CheckpointError, match=r"contains 2 .*--option state=net or state=ema\.shadow\.module$"):
        loaded(path, file, target)
    told, got = loaded(path, file, target, "ema")
    assert told == "ema.shadow.module (rest of net)"
    assert torch.equal(got["0.weight"], source[0].weight + 1)
    assert torch.equal(got["1.running_mean"], source[1].running_mean)
    with pytest.raises(CheckpointError, match=r"does not fit the model: missing 1\.running_mean and 2 more in ema"):
        loaded(path, {"ema": averages}, target)


@pytest.mark.parametrize("norm", [weight_norm, parametrizations.weight_norm, spectral_norm])
def test_averages_of_normalized_weights_are_completed_by_what_is_no_parameter(tmp_path, norm):
    source, target = (nn.Sequential(norm(nn.Linear(2, 3)), nn.BatchNorm1d(3)) for _ in range(2))
    told, got = loaded(tmp_path / "ema_1.pt", {"net": source.state_dict(), "ema": shadow(source)}, target, "ema")
    assert told == "ema.shadow_params (by position, rest of net)"
    averages = {name: parameter.detach() + 1 for name, parameter in source.named_parameters()}
    assert same(got, source.state_dict() | averages)


def test_averages_by_names_without_dots_are_those_of_latent_diffusion(tmp_path):
    source, target, path = network(), network(), tmp_path / "last.ckpt"
    averages = {
        "model_ema.diffusion_model" + name.replace(".", ""): parameter.detach() + 1
        for name, parameter in source.named_parameters()
    }
    file = {"state_dict": prefixed("model.diffusion_model.", source.state_dict()) | averages}
    with pytest.raises(CheckpointError, match=r"state=state_dict.model.diffusion_model or state=state_dict.model_ema$"):
        loaded(path, file, target)
    told, got = loaded(path, file, target, "state_dict.model_ema")
    assert told == "state_dict.model_ema (by names without dots, rest of state_dict.model.diffusion_model)"
    assert torch.equal(got["0.bias"], source[0].bias + 1)


def test_tied_parameters_are_averaged_once_and_filled_twice(tmp_path):
    source = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    source[1].weight = source[0].weight
    told, got = loaded(tmp_path / "ema_1.pt", shadow(source), source)
    assert told == "shadow_params (by position)"
    assert torch.equal(got["1.weight"], got["0.weight"])


def test_averages_of_ema_pytorch_timm_and_swa_are_chosen_by_their_entry():
    online = prefixed("online_model.", weights(1)) | prefixed("ema_model.", weights(2)) | {"step": torch.tensor(1)}
    swa = {"model": weights(1), "swa": prefixed("module.", weights(2)) | {"n_averaged": torch.tensor(3)}}
    for entries, state in (
        ({"": online}, "ema_model"),
        ({"state_dict": weights(1), "state_dict_ema": weights(2)}, "state_dict_ema"),
        ({"model": weights(1), "model_ema": weights(2)}, "model_ema"),
        (swa, "swa"),
    ):
        with pytest.raises(InputError, match=f"state={state}"):
            filled(entries)
        assert same(filled(entries, state)[1], weights(2))


def test_a_wrapped_average_counts_beside_an_unwrapped_model():
    entries = {"": prefixed("model.", weights(1)) | prefixed("ema._orig_mod.", weights(2))}
    with pytest.raises(InputError, match="contains 2 state dicts that fit the model, ema._orig_mod and model:"):
        filled(entries)
    assert same(filled(entries, "ema")[1], weights(2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_converted_and_named(dtype):
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights().items()}
    where, got = filled({"ema": state})
    assert where == f"ema ({str(dtype).removeprefix('torch.')})"
    assert same(got, {name: value.to(weights()[name].dtype) for name, value in state.items()})


def test_integers_in_place_of_weights_are_refused():
    quantized = {name: (value * 9).to(torch.int8) for name, value in weights().items()}
    with pytest.raises(InputError, match=r"^has 0\.weight as int8, but the model has it as float32: save a state dict"):
        filled({"": quantized})
