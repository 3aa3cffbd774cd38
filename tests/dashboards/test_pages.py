"""Every page, on every kind of store."""

import re
import string
from dataclasses import replace
from datetime import date

import pytest

from evalsvc.analysis import leaderboard
from evalsvc.dashboards import charts, i18n, url_state
from evalsvc.dashboards.formatting import cut, html, safe, unique_labels
from evalsvc.dashboards.series import best_so_far, lines, on_scale, pairs, pareto, right_values
from evalsvc.store import dashboard_queries, queries, status_queries
from evalsvc.store.dashboard_queries import Filter
from evalsvc.store.tables import Evaluation, Score, Status

from .conftest import VIEWS
from .stores import HOSTILE, add_failure, add_twins, fill

MARKUP = re.compile(r"<img|\[link|:red|:material/delete|\*\*bold|https?:|www\.|\w@\w+\.")
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
"""Code in a line of Markdown, as CommonMark says: between runs of the same number of backticks."""


@pytest.mark.parametrize("view", VIEWS)
def test_every_page_stands_on_every_store(view, store, page):
    at = page(view)
    assert not at.exception
    assert at.title
    if store == "empty" and view != "operations":
        assert "evalsvc demo" in at.code[0].value
    if store in ("hostile", "twins"):
        for kind in (at.markdown, at.caption, at.error, at.warning, at.info, at.header, at.button, at.metric):
            for element in kind:
                assert not MARKUP.search(
                    CODE.sub("", f"{getattr(element, 'value', '')} {getattr(element, 'label', '')}")
                )


@pytest.mark.parametrize("name", [*HOSTILE, "`", "a``b", "``` x", "`$x$`", " ", "", "\n# h", "L" * 400 + "@1", "x\\`"])
def test_names_mean_nothing_in_markdown_and_in_html(name):
    whole = CODE.fullmatch(safe(name))
    assert whole or safe(name) == "–"
    if whole:
        assert whole[2].strip() == cut(name).strip()
        assert not set("\n\u202e\x1b") & set(whole[2])
    assert not set("<>\"'") & set(re.sub(r"&[#\w]+;", "", html(name)))
    assert "\u202e" not in html(name)


def test_of_a_long_name_both_ends_are_seen():
    assert cut("a" * 200 + "b" * 200, 11) == "aaaaa…bbbbb"
    assert cut("short", 11) == "short"


def test_no_two_labels_are_the_same_whatever_they_stand_for():
    names = {str(place): label for place, label in enumerate(["a", "b", "a", "Model", "a ~x"])}
    found = unique_labels(names, ["Model"])
    assert len(set(found.values()) | {"Model"}) == len(names) + 1
    assert found["1"] == "b"
    forged = unique_labels(names | {"forged": found["0"], "again": found["2"]}, ["Model"])
    assert len(set(forged.values())) == len(forged)


def test_texts_exist_in_both_languages_with_the_same_placeholders():
    english, chinese = i18n.phrases("en"), i18n.phrases("zh")
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert placeholders(text) == placeholders(chinese[key]), key


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_the_address_sets_the_language(use_home, demo, page):
    use_home(demo)
    assert page("trends", lang="zh").title[0].value == i18n.phrases("zh")["trends.title"]


def test_a_link_restores_the_view(use_home, demo, page):
    use_home(demo)
    at = page("leaderboard", metric="recall", which="all")
    assert at.selectbox("metric.choice").value == "recall"
    assert len(at.dataframe[0].value) == 4


def test_a_choice_outlives_an_address_that_was_sent_before_it(use_home, demo, page, monkeypatch):
    use_home(demo)
    at = page("leaderboard", metric="recall")
    at.selectbox("metric.choice").select("frechet_distance").run()
    at.query_params["metric"] = "recall"  # from a browser that has not heard of the choice
    at.run()
    assert at.selectbox("metric.choice").value == "frechet_distance"
    monkeypatch.setattr(url_state, "GRACE_SECONDS", 0.0)
    at.query_params["metric"] = "recall"  # by hand, later
    at.run()
    assert at.selectbox("metric.choice").value == "recall"


def test_a_link_restores_the_days_of_the_filter(use_home, demo, page):
    use_home(demo)
    at = page("leaderboard", since="2001-02-03", until="2002-03-04")
    assert [each.value for each in at.date_input] == [date(2001, 2, 3), date(2002, 3, 4)]
    assert not at.dataframe  # nothing was scored then
    at.date_input[1].set_value(None).run()
    assert at.dataframe
    assert at.query_params["since"] == "2001-02-03"
    assert "until" not in at.query_params


@pytest.mark.parametrize(
    ("view", "parameters"),
    [
        ("leaderboard", {"metric": "nonsense"}),
        ("leaderboard", {"since": "yesterday"}),
        ("leaderboard", {"until": "0001-01-01"}),
        ("trends", {"suite": "nobody@7"}),
        ("trends", {"model": "nobody"}),
        ("compare", {"checkpoint": "nobody@1"}),
        ("checkpoint", {"checkpoint": "flow@7"}),
        ("memorization", {"checkpoint": "flow@7"}),
        ("gates", {"gate": "99"}),
        ("samples", {"models": "nobody"}),
        ("samples", {"step": "77"}),
        ("trends", {"lang": "tlh"}),
    ],
)
def test_an_unknown_value_in_a_link_is_not_found_and_nothing_else_is_shown(view, parameters, use_home, demo, page):
    use_home(demo)
    at = page(view, **parameters)
    assert not at.exception
    assert "not found" in at.error[0].value
    assert not at.dataframe


def test_checkpoints_that_noise_cannot_tell_apart_share_the_lead(use_home, demo, page):
    use_home(demo)
    assert list(page("leaderboard").dataframe[0].value["Rank"]) == [1, 1]  # gan and flow at their last step


def test_the_ranks_of_the_page_are_those_of_the_command_line(use_home, demo, page):
    with use_home(demo).read() as session:
        board = leaderboard.boards(queries.scores(session), "recall", "all")[0]
    shown = page("leaderboard", metric="recall", which="all").dataframe[0].value
    expected = [(entry.rank, entry.model, entry.step) for entry in board.entries]
    assert expected == list(zip(shown["Rank"], shown["Model"], shown["Step"], strict=True))


def test_the_leaderboard_says_what_its_ranks_hold_for_and_a_switch_changes_it(use_home, tmp_path, page):
    database = use_home(tmp_path)
    fill(database, ["gan"], range(0, 5000, 1000))
    with database.write() as session:
        for score in session.query(Score):
            score.stderr_reference, score.reference_method = 1e6, "rows"
    shown = {}
    for holds in ("sampled", "fixed"):
        shown[holds] = page("leaderboard", which="all", reference=holds)
        assert not shown[holds].exception
        assert set(shown[holds].dataframe[0].value["Reference ±"]) == {"1.00e+06"}
    assert set(shown["sampled"].dataframe[0].value["Rank"]) == {1}
    assert max(shown["fixed"].dataframe[0].value["Rank"]) > 1
    assert any("count both errors" in each.value for each in shown["sampled"].caption)
    assert any("hold on this reference file" in each.value for each in shown["fixed"].caption)


def test_pages_show_the_error_of_the_reference_and_the_right_value(use_home, tmp_path, page):
    database = use_home(tmp_path)
    fill(database, ["gan", "vae"], range(0, 3000, 1000))
    with database.write() as session:
        for score in session.query(Score):
            score.stderr_reference, score.reference_method = 1e6, "rows"
            score.target, score.target_stderr = 14.0, 0.5
    shown = {view: page(view) for view in ("leaderboard", "compare", "trends", "scorecard", "tradeoffs")}
    assert not any(each.exception for each in shown.values())
    assert set(shown["leaderboard"].dataframe[0].value["Right value (of real samples)"]) == {"14.00 ± 0.50"}
    assert all("(right: 14)" in cell for cell in shown["compare"].dataframe[0].value.iloc[:, 1])
    low, high = shown["trends"].dataframe[0].value["95 % interval"][0].split(" … ")
    assert float(high) - float(low) > 3e6


def test_what_cannot_be_compared_says_why_and_gives_no_number(use_home, demo, page):
    use_home(demo)
    cells = page("compare").dataframe[0].value.to_string()
    assert "not comparable: b has no bits_per_dim_heldout" in cells  # a GAN has no likelihood
    assert set("▲▼△▽") & set(cells)


def test_a_failed_evaluation_leaves_a_gap_in_the_trend(use_home, tmp_path):
    database = use_home(tmp_path)
    fill(database, ["gan"], range(0, 5000, 1000))
    add_failure(database, 1, 2500, "out of luck")
    with database.read() as session:
        points = dashboard_queries.points(session, Filter("digits@1"), "frechet_distance", "p")
        failures = status_queries.failed(session, "digits@1", ["gan"])
    runs = [row["run"] for row in lines(points, failures, log=False)]
    assert runs == ["gan/0"] * 3 + ["gan/1"] * 2


def test_steps_are_drawn_in_order_whatever_the_order_of_arrival(use_home, tmp_path):
    database = use_home(tmp_path)
    fill(database, ["gan"], range(4000, -1000, -1000))
    with database.read() as session:
        points = dashboard_queries.points(session, Filter("digits@1"), "frechet_distance", "p")
    assert [point.step for point in points] == [0, 1000, 2000, 3000, 4000]
    assert [point.step for point in best_so_far(points, "lower")] == [0, 1000, 2000, 3000, 4000]
    assert len({point.value for point in best_so_far(points, "higher")}) == 5
    # With a right value, the nearest is the best, and the line is drawn where the scale permits.
    aimed = [replace(point, value=value, target=5.0) for point, value in zip(points, (9, 4, 8, 5.5, 1), strict=True)]
    assert [point.value for point in best_so_far(aimed, "higher")] == [9, 4, 4, 5.5, 5.5]
    assert right_values(aimed, log=True) == [{"value": 5.0, "words": "5"}]
    assert right_values([replace(points[0], target=0.0)], log=True) == []


@pytest.mark.parametrize(
    ("kind", "limit", "baseline", "direction", "expected"),
    [
        ("max", 40.0, None, "lower", 40.0),
        ("max_worsening", 2.0, 30.0, "lower", 32.0),
        ("max_worsening", 0.1, 0.8, "higher", 0.7),
        ("max_worsening_rel", 0.5, 0.8, "higher", 0.4),
        ("max_worsening", 2.0, None, "lower", None),
    ],
)
def test_a_gate_limit_stands_on_the_metrics_own_scale(kind, limit, baseline, direction, expected):
    found = on_scale(kind, limit, baseline, direction)
    assert found == (None if expected is None else pytest.approx(expected))


def test_the_pareto_front_holds_what_nothing_beats_in_both():
    points = [(1.0, 5.0), (2.0, 4.0), (3.0, 4.0), (2.0, 6.0), (1.0, 5.0)]
    assert pareto(points, ["lower", "lower"]) == [True, True, False, False, True]
    assert pareto(points, ["higher", "higher"]) == [False, False, True, True, False]


@pytest.fixture
def twins(use_home, tmp_path):
    """The names of nine entries of ``gan@2000``: another content, and the first content with options of all kinds."""
    database = use_home(tmp_path)
    fill(database, ["gan", "vae"], range(0, 3000, 1000))
    return add_twins(database, 2000)


def test_the_leaderboard_has_a_row_for_each_content_and_configuration_of_a_label(twins, page):
    shown = page("leaderboard").dataframe[0].value
    found = [f"{row['Model']}@{row['Step']}{row['Distinguished by']}" for _, row in shown.iterrows()]
    assert sorted(found) == [*twins, "vae@2000"]
    assert all(re.fullmatch(r"gan@2000#[0-9a-f]{8}(\[noise=(|200|~[0-9a-f]{8})\])?", name) for name in twins)


def test_trends_draw_a_line_for_each_configuration_and_their_table_has_a_row(twins, page):
    shown = page("trends", model="gan").dataframe[0].value
    assert len(shown) == len(twins) - 1  # the other content is on the line of its configuration
    assert {"gan[noise=]", "gan[noise=200]"} < set(shown["Model"])


@pytest.mark.parametrize("view", ["checkpoint", "scorecard", "memorization"])
def test_a_link_names_one_of_several_and_one_that_could_mean_several_lists_them(twins, view, page):
    wanted = next(name for name in twins if "200]" in name)
    at = page(view, checkpoint=wanted)
    assert not at.exception
    assert at.query_params["checkpoint"] in (wanted, [wanted])
    assert not at.error
    ambiguous = page(view, checkpoint="gan@2000")
    assert not ambiguous.exception
    assert "not found" in ambiguous.error[0].value
    assert "choose one of gan@2000#" in ambiguous.code[0].value


def test_comparisons_are_of_the_entries_that_a_link_names(twins, page):
    at = page("compare", checkpoint=twins[:2])
    assert not at.exception
    assert at.multiselect("checkpoint.choices").value == twins[:2]
    assert len(at.multiselect("checkpoint.choices").options) == len(twins) + 5
    shown = page("tradeoffs").dataframe[0].value
    assert not shown["Checkpoint"].duplicated().any()


def test_operations_stands_when_all_that_ended_badly_was_cancelled(use_home, tmp_path, page):
    database = use_home(tmp_path)
    fill(database, ["gan"], range(0, 1000, 1000))
    with database.write() as session:
        session.get_one(Evaluation, 1).status = Status.CANCELLED
    at = page("operations")
    assert not at.exception
    assert [button.label for button in at.button if button.key and button.key.startswith("retry")] == ["Retry"]


@pytest.mark.parametrize("names", [["__proto__", "constructor"], ["a\u200b", "a"], ["www.evil.test", "datum['x'] \\"]])
def test_a_downloaded_chart_has_every_name_as_it_is_and_no_two_alike(names, monkeypatch):
    monkeypatch.setattr(charts, "dark", lambda: False)
    rows = [{"name": n, "value": 1.0 + i, "low": 1.0, "high": 3.0, "group": n} for i, n in enumerate(names)]
    chart_rows = charts._file(charts.forest(rows, "x"), rows, "svg").decode()
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", chart_rows)
    shown = unique_labels({name: cut(name) for name in names})
    assert {html(label) for label in shown.values()} <= {label.replace("'", "&#x27;") for label in labels}
    assert chart_rows.count('aria-roledescription="point"') == 2
    assert not any(label.startswith("·") for label in labels)


def test_the_pairs_worth_a_look_are_those_that_quantities_name_and_one_measure_comes_first():
    axes = ["frechet_distance", "vendi_score", "recall", "coverage", "density", "precision", "samples_per_second"]
    assert pairs(i18n.quantities(), axes) == [
        ("precision", "recall"),
        ("density", "coverage"),
        ("frechet_distance", "recall"),
        ("frechet_distance", "vendi_score"),
        ("frechet_distance", "samples_per_second"),
    ]
    assert pairs(i18n.quantities(), ["recall", "mind"]) == []
