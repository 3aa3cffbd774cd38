"""Modules under the names that they had in 0.1: :mod:`evalsvc` looks here for what it does not have itself."""
