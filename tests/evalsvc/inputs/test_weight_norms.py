"""Claims about weights that are saved as a direction and a norm, or with their largest singular vectors."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from evalsvc.core.errors import InputError
from evalsvc.inputs.state_dicts import StateDicts


def plain():
    return nn.Sequential(nn.Linear(6, 4), nn.Unflatten(1, (4, 1)), nn.Conv1d(4, 3, 1), nn.ConvTranspose1d(3, 3, 2))


def normed(norm, **options):
    model = plain()
    for place in (0, 2, 3):
        norm(model[place], **options)
    return model


FORMS = {
    "plain": plain,
    "old": lambda: normed(weight_norm),
    "old whole": lambda: normed(weight_norm, dim=None),
    "new": lambda: normed(parametrizations.weight_norm),
    "old spectral": lambda: normed(spectral_norm),
    "new spectral": lambda: normed(parametrizations.spectral_norm),
}


def trained(form):
    model = FORMS[form]()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    for _ in range(3):
        model(torch.randn(5, 6))  # which moves the singular vectors
    return model.eval()


@pytest.mark.parametrize("into", FORMS)
@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_one_form_gives_a_model_of_another_the_same_function_or_is_refused(form, into):
    source, target = trained(form), FORMS[into]()
    state = StateDicts({"": {f"generator.{name}": tensor for name, tensor in source.state_dict().items()}})
    if "spectral" in into and "spectral" not in form:
        with pytest.raises(InputError, match=r"^has 0.weight without spectral norm, which the model applies: build"):
            state.fill(target)
        return
    told = state.fill(target)
    x = torch.randn(7, 6)
    assert torch.allclose(target.eval()(x), source(x), atol=1e-6)
    renamed = form == into or {form, into} in ({"old", "new"}, {"old spectral", "new spectral"})
    assert told == ("generator" if renamed else "generator (norms converted)")


def test_names_that_only_look_like_parts_are_left_alone():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_g, self.gate_v = (nn.Parameter(torch.randn(n)) for n in (2, 3))

    source, target = Gate(), Gate()
    assert StateDicts({"ema": source.state_dict()}).fill(target) == "ema"
    assert torch.equal(target.gate_g, source.gate_g)
    assert torch.equal(target.gate_v, source.gate_v)


def test_norms_of_another_model_in_the_file_do_not_disturb():
    source = {f"g.{name}": tensor for name, tensor in trained("old").state_dict().items()}
    other = {f"d.{name}": tensor for name, tensor in nn.Sequential(weight_norm(nn.Linear(9, 1))).state_dict().items()}
    assert StateDicts({"": source | other}).fill(plain()) == "g (norms converted)"
    extra = StateDicts({"": source | {"g.4.weight_g": torch.ones(1), "g.4.weight_v": torch.ones(1)}})
    with pytest.raises(InputError, match=r"unexpected 4\.weight in g"):
        extra.fill(plain())
