"""What third parties implement, and how it is found and checked.

Plug-ins import their names from :mod:`evalsvc`; those here are as they were in 0.1, and deprecated.
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
