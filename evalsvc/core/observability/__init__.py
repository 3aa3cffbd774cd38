"""Logs and traces of processes, without secrets."""
