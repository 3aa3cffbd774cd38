"""Renderers: a decision's document in the words of whoever reads it. All of them take hostile names as mere text."""
