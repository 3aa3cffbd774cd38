"""Modules under their names of version 0.1, which :mod:`evalsvc` looks up here."""
