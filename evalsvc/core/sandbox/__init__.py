"""Sandbox for processes that read untrusted files, and a probe that tests it."""
