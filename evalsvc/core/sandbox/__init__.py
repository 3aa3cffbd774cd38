"""What a process that reads untrusted files may still do, and how that is tried."""
