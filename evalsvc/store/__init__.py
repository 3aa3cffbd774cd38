"""Storage: tables, sessions, queries and artifacts."""
