"""Plug-in interfaces, their registry and the validation of their outputs.

Plug-ins import public names from :mod:`evalsvc`; the names of this module are those of 0.1 and are deprecated.
"""

from evalsvc.core.deprecation import moved

_INTERFACES = """
    EmbedsTexts Extractor ExtractorInfo Generator GeneratorInfo HoldsSamples Likelihood LikelihoodKind Modality
    NegativeLogLikelihood ReadsAt Reference SampleSet Skips
"""
_REGISTRY = "Plugin PluginKind Plugins open_to_clients register"
__getattr__ = moved(
    "evalsvc.plugins",
    {"evalsvc.plugins.interfaces": _INTERFACES.split(), "evalsvc.plugins.registry": _REGISTRY.split()},
)
