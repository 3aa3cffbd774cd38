import pytest

from evalsvc.core.settings import Settings
from evalsvc.store.session import Database

from .store import add_checkpoint, add_scores, point

pytest_plugins = ["pytester"]

POLICY = """
version: 1
suite: digits@1
candidate: {model: flow, step: 9}
baseline: {alias: production}
metrics: {frechet_distance: {max_worsening: 2.0}}
"""


@pytest.fixture
def project(pytester, home):
    database = Database(Settings().database)
    with database.write() as session:
        for step, value in ((5, 20.0), (9, 20.0), (10, 90.0)):
            add_scores(session, add_checkpoint(session, step=step), {"frechet_distance": value})
        from evalsvc.store import names

        point(session, "production", names.find(session, "flow@5"))
    database.engine.dispose()
    (pytester.path / "evalsvc-gate.yaml").write_text(POLICY)
    return pytester


def test_a_gate_is_a_test_that_passes_or_says_why_not(project):
    project.makepyfile(
        """
        def test_release(evalsvc_gate):
            evalsvc_gate("evalsvc-gate.yaml", stored=True).assert_passed()

        def test_worse(evalsvc_gate):
            gate = evalsvc_gate("evalsvc-gate.yaml", candidate="flow@10", stored=True)
            assert gate.status == "FAIL"
            gate.assert_passed()

        def test_nobody(evalsvc_gate):
            evalsvc_gate("evalsvc-gate.yaml", candidate="nobody@1", stored=True).assert_passed()
        """
    )
    result = project.runpytest_inprocess("-p", "evalsvc.pytest_plugin", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*gate 2 is FAIL*", "*frechet_distance: FAIL: surely beyond*", "*is MISSING*"])
