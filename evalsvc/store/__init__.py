"""What evalsvc remembers: tables, sessions, and the questions asked of them."""
