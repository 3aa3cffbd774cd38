from pathlib import Path

import yaml

from evalsvc.gates.policy import load_policy
from evalsvc.gates.reports.markdown import MARKER
from evalsvc.gates.reports.write import requested
from evalsvc.gates.subjects import labels_of

from .store import DIGITS

CI = Path(__file__).parents[3] / "examples" / "ci"


def test_the_example_policy_fits_its_suite():
    policy = load_policy(CI / "evalsvc-gate.yaml")
    assert labels_of(policy, DIGITS)


def test_the_action_asks_for_reports_that_exist_and_puts_no_input_into_a_script():
    action = yaml.safe_load((CI / "action.yml").read_text())
    scripts = [step["run"] for step in action["runs"]["steps"] if "run" in step]
    assert "${{" not in "".join(scripts)
    assert MARKER in scripts[1]
    wanted = [word for word in " ".join(scripts).split() if "=gate/" in word and "@" not in word]
    assert set(requested(wanted)) == {"junit", "html", "json", "comment"}


def test_the_gitlab_template_publishes_the_reports_that_it_writes():
    job = yaml.safe_load((CI / "gitlab.yml").read_text())["release-gate"]
    words = " ".join(job["script"]).split()
    written = {str(path) for path in requested([word for word in words if "=gate/" in word]).values()}
    assert set(job["artifacts"]["reports"].values()) <= written
    assert job["allow_failure"]["exit_codes"] == [4]
