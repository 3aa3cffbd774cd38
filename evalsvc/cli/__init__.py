"""The command line. stdout is data, stderr is talk; errors a user can act on exit with 2."""
