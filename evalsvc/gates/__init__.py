"""Release gates: a policy over scores, judged on intervals. Nothing passes by being absent."""
