"""Renderers of a decision's document. All of them treat names as untrusted text."""
