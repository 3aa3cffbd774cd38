import pytest
import torch

from evalsvc.builtin.demo import shipped, shipped_by_class, train
from evalsvc.inputs.checkpoints import Checkpoint


@pytest.mark.parametrize("name", train.RECIPES)
def test_training_again_writes_the_same_bytes(name, tmp_path):
    first, second = (train.train(name, tmp_path / run, (0, 3)) for run in ("first", "second"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_training_changes_the_weights(tmp_path):
    start, end = train.train("vae", tmp_path, (0, 3))
    assert start.read_bytes() != end.read_bytes()


def test_training_leaves_the_caller_its_randomness_and_its_threads(tmp_path):
    torch.manual_seed(5)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(5)
    train.train("vae", tmp_path, (1,))
    assert torch.rand(3).equal(expected)
    assert torch.get_num_threads() == threads


def test_every_shipped_checkpoint_is_one_that_training_writes():
    every = shipped() + shipped_by_class()
    assert {(s.family, s.step) for s in every} == {(name, n) for name, steps in train.STEPS.items() for n in steps}


def test_a_checkpoint_says_what_it_is():
    for family, step, path in shipped() + shipped_by_class():
        assert Checkpoint.open(path, family, step).metadata() == {"checkpoint": f"{family}@{step}"}


def test_an_unknown_model_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        train.main(["wave"])
    assert "no model 'wave'; available are classifier, gan" in capsys.readouterr().err
