"""A path that is given means what was scored of its content, and nothing else."""

import pytest

from evalsvc.core.errors import AmbiguousError, InputError
from evalsvc.inputs import stored_checkpoints
from evalsvc.inputs.checkpoint_folders import digest_checkpoint
from evalsvc.store.session import Database
from tests.evalsvc.gates.store import add_checkpoint, point


@pytest.fixture
def session(tmp_path, monkeypatch):
    """An empty store, in a folder with the file ``step_1.pt``."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "step_1.pt").write_text("weights")
    database = Database(f"sqlite:///{tmp_path}/e.db")
    with database.write() as opened:
        yield opened
    database.engine.dispose()


def add(session, path, model="m", step=1, **options):
    """What was scored of a path."""
    row = add_checkpoint(session, model, step, digest=digest_checkpoint(path), options=options)
    row.path = str(path.resolve())
    session.flush()
    return row


def test_a_path_is_found_by_its_content_wherever_it_lies(session, tmp_path):
    row = add(session, tmp_path / "work" / "step_1.pt", "release", 7)
    (tmp_path / "elsewhere").write_text("weights")
    for name in ("step_1.pt", "./step_1.pt", str(tmp_path / "elsewhere")):
        assert stored_checkpoints.find(session, name).id == row.id


def test_a_path_whose_content_has_changed_is_never_taken_for_what_was_scored(session, tmp_path):
    add(session, tmp_path / "work" / "step_1.pt")
    (tmp_path / "work" / "step_1.pt").write_text("others")
    with pytest.raises(
        InputError, match=r"step_1.pt has no scores, its content has changed since .* m@1 \(.*\): score it with 'ev"
    ):
        stored_checkpoints.find(session, "step_1.pt")


def test_a_content_under_several_labels_or_in_several_configurations_lists_them(session, tmp_path):
    path = tmp_path / "work" / "step_1.pt"
    rows = [add(session, path), add(session, path, "other"), add(session, path, noise=200)]
    with pytest.raises(AmbiguousError, match=r"step_1.pt is ambiguous: choose one of m@1\[noise=\] \(") as caught:
        stored_checkpoints.find(session, "step_1.pt")
    assert {stored_checkpoints.find(session, choice).id for choice in caught.value.choices} == {row.id for row in rows}


def test_a_word_that_is_a_path_and_a_name_is_neither_until_it_is_said_which(session, tmp_path):
    (tmp_path / "work" / "m").write_text("others")
    add(session, tmp_path / "work" / "step_1.pt")
    path = add(session, tmp_path / "work" / "m", "n")
    with pytest.raises(InputError, match=r"write \./m for the path, or choose one of m@1 "):
        stored_checkpoints.find(session, "m")
    assert stored_checkpoints.find(session, "./m").id == path.id


def test_an_alias_is_what_it_points_at_whatever_lies_there(session, tmp_path):
    row = add(session, tmp_path / "work" / "step_1.pt")
    point(session, "production", row)
    (tmp_path / "work" / "production").mkdir()
    assert stored_checkpoints.find(session, "production").id == row.id


def test_a_folder_is_found_without_what_no_loader_reads_and_by_what_its_generator_reads(session, tmp_path):
    folder = tmp_path / "work" / "checkpoint-1"
    folder.mkdir()
    (folder / "model.safetensors").write_text("weights")
    row = add(session, folder)
    (folder / "optimizer.pt").write_text("state")
    assert stored_checkpoints.find(session, "checkpoint-1").id == row.id

    class Narrow:
        def checkpoint_files(self, generator):
            return lambda path: ["config.json"]

    (folder / "config.json").write_text("{}")
    narrow = add(session, folder, "n")
    narrow.digest = digest_checkpoint(folder, Narrow().checkpoint_files("flow"))
    (folder / "notes.bin").write_text("more")
    assert stored_checkpoints.find(session, "checkpoint-1", Narrow()).id == narrow.id


@pytest.mark.parametrize("name", ["x" * 5000, "", "/", "a/" * 3000, "nothing/there.pt"])
def test_no_text_is_more_than_an_error_of_one_sentence(session, name):
    with pytest.raises(InputError):
        stored_checkpoints.find(session, name)
