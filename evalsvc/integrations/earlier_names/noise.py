"""Deprecated: ``evalsvc.noise``, as plug-ins and scripts written for 0.1 import it."""

from evalsvc.core.deprecation import moved

__getattr__ = moved("evalsvc.noise", {"evalsvc.plugins.rng": None})
