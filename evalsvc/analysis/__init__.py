"""Analysis of stored scores: differences, leaderboards, ratings, feature maps."""
