"""Pipelines of ``diffusers``: opened without code of their folder, and called by the signatures of their classes."""
