"""The reference explains every key and every variable, since it is made from what the code says of them."""

import pytest

from evalsvc.api.server.state import ServerSettings
from evalsvc.core.settings import Settings
from evalsvc.gates import policy
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.suite_entries import ExtractorUse, IndexPart, MetricUse, Prompts
from evalsvc.inputs.suites import Suite

POLICY = (
    policy.Policy,
    policy.MetricPolicy,
    policy.Waiver,
    policy.Defaults,
    policy.OnInconclusive,
    policy.CheckpointName,
)
MODELS = (Settings, ServerSettings, Suite, MetricUse, ExtractorUse, IndexPart, Prompts, Decoding, *POLICY)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_says_what_it_means(model):
    assert [name for name, field in model.model_fields.items() if not field.description] == []
