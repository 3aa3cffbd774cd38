"""What processes report: logs, traces, and nothing secret in either."""
