"""``python -m evalsvc`` is ``evalsvc``."""

from evalsvc.cli import run

if __name__ == "__main__":  # a child process imports this module under another name
    run()
