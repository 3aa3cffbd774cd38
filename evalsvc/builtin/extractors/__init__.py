"""Extractors that come with the package."""
