"""Release gates: a policy of limits on scores, decided on confidence intervals. Missing evidence never passes."""
