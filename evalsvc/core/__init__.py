"""Foundations of all rooms: errors, settings, digests, files, sandbox, logs. Imports no other room."""
