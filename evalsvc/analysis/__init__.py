"""Reads scores: differences, leaderboards, ratings, feature maps."""
