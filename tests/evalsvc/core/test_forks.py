import gc
import os


class Native:
    """A model of a library, which must not be freed by a process that lacks its threads."""

    def __init__(self):
        self.owner, self.itself = os.getpid(), self

    def __del__(self):
        if os.getpid() != self.owner:
            os._exit(7)


def test_a_forked_process_does_not_free_the_garbage_of_the_one_that_evaluated(context):
    gc.disable()
    Native()
    if (child := os.fork()) == 0:
        gc.collect()
        os._exit(0)
    gc.enable()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
