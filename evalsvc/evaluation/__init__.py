"""Evaluations: planning, computation, scoring, lifecycle."""
