"""The Python interface: evaluations in this process, and what they and others left in the store."""
