"""Run evaluations on many machines: coordinators, slots, heartbeats."""
