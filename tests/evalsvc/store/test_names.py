"""A name means one checkpoint in one configuration, whatever models, options and digests are called."""

import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, insert
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from evalsvc.core.digests import digest_configuration
from evalsvc.core.errors import AmbiguousError, InputError
from evalsvc.store import names
from evalsvc.store.tables import Alias, Checkpoint, Model, Table

ENGINE = create_engine("sqlite://", poolclass=StaticPool)
Table.metadata.create_all(ENGINE)

words = st.sampled_from(
    ["m", "m@1", "m#abcd", "m[x=1]", "[m]", "m@1#deadbeef", "deadbeef", "a, b=c", "模型", "m@", "@"]
)
digests = st.sampled_from(["d" * 64, "d" * 11 + "e" * 53, "deadbeef" * 8, "deadbeef" + "0" * 56, "abcd" * 16])
leaves = (
    st.none() | st.booleans() | st.integers(-2, 200) | st.sampled_from([0.5, 1.0, 1e300, "", "1", "null", "a,b", "]"])
)
values = (
    leaves
    | st.text(max_size=4)
    | st.lists(leaves, max_size=2)
    | st.dictionaries(st.text(max_size=2), leaves, max_size=2)
)
keys = st.sampled_from(["noise", "version", "generator", "option.version", "a=b", "a,b", "[", "#", ""]) | st.text(
    max_size=3
)
rows = st.tuples(
    words | st.text("m@#[]=, 1", min_size=1, max_size=5),
    st.integers(0, 2),
    digests,
    st.sampled_from(["dial", "dial[x]", "samples"]),
    st.sampled_from(["", "p 1", "p 2"]),
    st.dictionaries(keys, values, max_size=3),
)


def add(session, model, step, digest, generator="dial", version="p 1", options=None):
    """A checkpoint in a configuration, with its model."""
    owner = session.query(Model).filter_by(name=model).first() or Model(name=model)
    session.add(owner)
    session.flush()
    row = Checkpoint(
        model_id=owner.id,
        step=step,
        digest=digest,
        path="p",
        generator=generator,
        generator_version=version,
        options=options or {},
        configuration=digest_configuration(generator, version, options or {}),
    )
    session.add(row)
    session.flush()
    return row


@pytest.fixture
def session():
    with Session(ENGINE) as opened:
        yield opened
        opened.rollback()


@settings(max_examples=50, deadline=None)
@given(st.lists(rows, min_size=1, max_size=8))
def test_the_title_of_every_checkpoint_finds_exactly_this_one(drawn):
    with Session(ENGINE) as session:
        added = {}
        for facts in drawn:
            model, step, digest, *configuration = facts
            key = model, step, digest, digest_configuration(*configuration)
            added[key] = added.get(key) or add(session, *facts)
        titles = names.titles(session, added.values())
        for row in added.values():
            assert [found.id for found in names.matching(session, titles[row.id])] == [row.id]
            assert names.find(session, titles[row.id]).id == row.id
        assert names.marks(session) == {key: mark for key, mark in names.marks(session, set(titles)).items() if mark}
        session.rollback()


@given(values)
def test_a_mark_is_inert_in_markup_markdown_terminals_and_spreadsheets(value):
    assert re.fullmatch(
        r"""[\w .:/+()"~-]{1,40}""",
        names.facts_of(Checkpoint(options={"x": value}, generator="g", generator_version=""))["x"],
    )


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "**b** [l](javascript:alert(1))",
    "\x1b[31m",
    "\u202egnp",
    "=1+1",
    "x" * 200,
    "\x9b2J",
]


def test_hostile_options_are_named_by_their_digests(session):
    for place, value in enumerate(HOSTILE):
        add(session, "m", 1, "d" * 64, options={"x": value, value: place})
    for title in names.titles(session, names.matching(session, "m@1")).values():
        assert re.fullmatch(r"m@1\[x=~[0-9a-f]{8}(,~[0-9a-f]{8}=\d?)+\]", title)


def test_an_option_is_named_as_the_command_line_reads_it(session):
    for value in (200, "200", 2e2, None, "null", True, "warm", [1, 2]):
        add(session, "m", 1, "d" * 64, options={"noise": value})
    add(session, "m", 1, "d" * 64)
    marks = {mark.removeprefix("[noise=")[:-1] for mark in names.marks(session).values()}
    assert {"200", '"200"', "200.0", "null", '"null"', "true", "warm", ""} < marks
    assert len(marks) == 9  # and the list, by its digest
    assert names.find(session, 'm@1[noise="200"]').options == {"noise": "200"}
    assert names.find(session, "m@1[noise=]").options == {}


def test_digests_of_files_are_in_a_name_only_if_nothing_else_differs(session):
    def over(base, digest):
        return add(session, "m", 1, "d" * 64, options={"base": base, "contents": {"base": digest}})

    rows = [over("a", "1" * 64), over("b", "2" * 64)]
    assert {names.marks(session)[row.id] for row in rows} == {"[base=a]", "[base=b]"}
    retrained = over("a", "3" * 64)
    assert all("contents=" in names.marks(session)[row.id] for row in (*rows, retrained))


def test_a_name_that_several_have_lists_each_with_its_date_and_a_name_of_its_own(session):
    rows_ = [
        add(session, "m", 1, "a" * 64),
        add(session, "m", 1, "b" * 64),
        add(session, "m", 1, "b" * 64, options={"noise": 200}),
    ]
    with pytest.raises(AmbiguousError) as caught:
        names.find(session, "m@1")
    assert re.fullmatch(
        r"'m@1' is ambiguous: choose one of m@1#aaaaaaaa \(\d{4}-\d\d-\d\d \d\d:\d\d\), "
        r"m@1#bbbbbbbb\[noise=\] \(.*\), m@1#bbbbbbbb\[noise=200\] \(.*\)",
        str(caught.value),
    )
    assert [names.find(session, choice).id for choice in caught.value.choices] == [row.id for row in rows_]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.choices) == (str(caught.value), caught.value.choices)


def test_a_model_alone_is_its_last_step_and_in_a_configuration_the_last_step_of_that(session):
    add(session, "m", 1, "a" * 64, options={"noise": 200})
    last = add(session, "m", 2, "b" * 64, options={"noise": 0})
    assert names.find(session, "m").id == last.id
    assert names.find(session, "m[noise=200]").step == 1
    assert names.find(session, "m#aaaaaaaa").step == 1


def test_an_alias_means_what_it_points_at_whatever_else_has_its_name(session):
    row = add(session, "other", 1, "a" * 64)
    add(session, "production", 7, "b" * 64)
    session.add(Alias(name="production", checkpoint_id=row.id))
    assert names.find(session, "production").id == row.id


def test_options_choose_the_configuration_that_holds_them(session):
    add(session, "m", 1, "a" * 64, options={"noise": 0, "warm": True})
    wanted = add(session, "m", 1, "a" * 64, options={"noise": 1})
    assert names.find(session, "m@1", {"noise": 1}).id == wanted.id
    assert not names.matching(session, "m@1", {"noise": True})


@pytest.mark.parametrize("name", ["m@9", "m@1[noise=9]", "m@1#99999999", "m@1[zzzzzzzz]", "m@1[]x", "[]", "#", "@"])
def test_a_name_that_nothing_has_names_the_nearest(session, name):
    add(session, "m", 1, "a" * 64)
    with pytest.raises(InputError, match=r"the nearest are m@1|the step after '@' must be an integer"):
        names.find(session, name)


def test_what_tells_ten_thousand_checkpoints_apart_is_one_indexed_query(session):
    session.execute(insert(Model), [{"id": 1, "name": "m"}])
    facts = {
        "model_id": 1,
        "path": "p",
        "generator": "g",
        "generator_version": "",
        "options": {},
        "configuration": "c" * 64,
    }
    session.execute(insert(Checkpoint), [facts | {"step": step, "digest": f"{step:064x}"} for step in range(10_000)])
    asked = []
    note = lambda *args: asked.append(args[2:4])  # noqa: E731
    event.listen(ENGINE, "before_cursor_execute", note)
    for few in (None, {17}):
        assert names.marks(session, few) == {}
        statement, parameters = asked.pop(0)
        plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
        assert not [line for *_, line in plan if re.match("SCAN (?!.*COVERING INDEX)", line)]
        asked.clear()
    event.remove(ENGINE, "before_cursor_execute", note)


def test_the_marks_of_many_checkpoints_of_a_few_labels_are_those_of_all(session, monkeypatch):
    added = [add(session, "m", 1, letter * 64) for letter in "abc"]
    few = names.marks(session, {added[0].id})
    monkeypatch.setattr(names, "FEW", 0)
    assert few == names.marks(session, {added[0].id}) == names.marks(session)


def test_configurations_that_more_tells_apart_than_a_name_holds_are_named_by_their_digests(session):
    for each in (0, 1):
        add(session, "m", 1, "a" * 64, options={f"option_{i}": each for i in range(20)})
    for row in names.matching(session, "m@1"):
        assert names.title_of(session, row) == f"m@1[{row.configuration[:8]}]"
        assert names.find(session, f"m@1[{row.configuration[:8]}]").id == row.id
