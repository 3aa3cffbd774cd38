"""What every room may use: errors, settings, digests, files, the sandbox, logs. It imports no other room."""
