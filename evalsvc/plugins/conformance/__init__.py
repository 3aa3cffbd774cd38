"""Conformance checks: each kind of plug-in is tested on a few samples before it is used."""

from evalsvc.plugins.conformance.extractors import check_extractor as check_extractor
from evalsvc.plugins.conformance.findings import Finding as Finding
from evalsvc.plugins.conformance.generators import check_generator as check_generator
from evalsvc.plugins.conformance.judges import check_judge as check_judge
from evalsvc.plugins.conformance.metrics import check_metric as check_metric
from evalsvc.plugins.conformance.references import check_reference as check_reference
from evalsvc.plugins.conformance.scorers import check_scorer as check_scorer
