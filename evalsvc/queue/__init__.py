"""Evaluations on many machines: coordinators, slots, heartbeats."""
