"""``python -m evalsvc`` is ``evalsvc``."""

from evalsvc.cli.main import run

if __name__ == "__main__":  # a child process imports this module under another name
    run()
