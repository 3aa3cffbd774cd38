"""Programs of models, run and tested in namespaces: a host that starts them, and the processes that it starts."""
