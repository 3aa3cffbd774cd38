"""Programs of models: hostile ones harm nothing but their own verdict, and tests judge as they would in one process."""

import ctypes
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from evalsvc.core.programs import process
from evalsvc.core.programs.process import NamespacesError, Process
from evalsvc.core.programs.remote import UnfitTestError
from evalsvc.core.programs.verdicts import Limits, judge
from tests.namespaces import needs_namespaces
from tests.unprivileged import in_a_copy

pytestmark = needs_namespaces

LIMITS = Limits(20.0, 2**29)
NEW_MOUNTS, NEW_USER, BIND, RECURSIVE_PRIVATE, DUMPABLE, USER = 0x20000, 0x10000000, 0x1000, 0x44000, 4, 12345
SHORT = Limits(1.0, 2**29)


def verdict(source, *tests, setup="", limits=LIMITS):
    return judge((setup + source, source), setup, tests, limits)


REFUSED = """
import ctypes, gc, os, resource, shutil, signal, socket, subprocess, sys, threading
from pathlib import Path

def outcome(attack):
    try:
        return repr(attack())
    except BaseException as error:
        return type(error).__name__

def fork():
    return outcome(os.fork)

def fork_by_call():  # past the C library
    libc = ctypes.CDLL(None, use_errno=True)
    return [libc.syscall(57), libc.syscall(58), libc.syscall(56, 17, 0, 0, 0, 0), libc.syscall(435, 0, 0)]

def run_program():
    return [outcome(lambda: subprocess.run(["/bin/sh"])), outcome(lambda: os.execv(sys.executable, ["x"]))]

def sockets():
    return [outcome(lambda: socket.socket(family)) for family in (socket.AF_INET, socket.AF_UNIX, socket.AF_NETLINK)]

def connect():
    return outcome(lambda: socket.create_connection(("127.0.0.1", 22), 1))

def remove_all():
    shutil.rmtree("/", ignore_errors=True)
    return os.path.exists(os.__file__)

def write_outside(path):
    return [outcome(lambda: Path(each).write_text("x")) for each in (path, "/x", "/usr/lib/x", os.__file__)]

def through_links(path):
    os.symlink(path, "link")
    os.symlink("/proc/1/root", "root")
    return [outcome(lambda: Path(each).write_text("x")) for each in ("link", "root/x", "../../../../x")]

def see_processes():
    return [os.path.exists("/proc"), os.path.exists("/sys"), os.path.exists("/dev"), os.getpid(), os.getppid()]

def read_memory(other):
    here = ctypes.create_string_buffer(8)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(here), 8)
    libc = ctypes.CDLL(None, use_errno=True)
    return [libc.process_vm_readv(other, vector, 1, vector, 1, 0), libc.ptrace(16, other, 0, 0)]

def signal_others(other):
    return [outcome(lambda: os.kill(each, 9)) for each in (other, 0, -1, 2, os.getppid())]

def stop_itself():
    os.kill(os.getpid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGKILL)
    return "goes on"

def secrets():
    return [len(os.environ), sorted(os.listdir("/")), os.getuid() != 0 or os.geteuid() == 0]

def descriptors():
    return [each for each in range(256) if outcome(lambda: os.fstat(each)) != "OSError"]

def tests():
    words = [each for each in gc.get_objects() if isinstance(each, str)]
    return [any("FORTY" + "TWO" in word for word in words), any("packages" in each for each in sys.path)]

def packages(folder):
    return os.listdir(folder) if os.path.exists(folder) else []

def rights():
    libc = ctypes.CDLL(None, use_errno=True)
    return [outcome(lambda: os.setuid(0)) if os.getuid() else "PermissionError", libc.unshare(0x10000000),
            libc.mount(b"x", b"/tmp", b"tmpfs", 0, None), outcome(lambda: os.chroot("/tmp")),
            outcome(lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)))]

def fill_disk():
    written = 0
    with open("big", "wb") as file:
        try:
            while written < 2**32:
                written += file.write(b"x" * 2**20)
                file.flush()
        except OSError:
            pass
    names = 0
    try:
        while names < 10**5:
            open(str(names), "w").close()
            names += 1
    except OSError:
        pass
    return [written <= 2**25, names < 2000]

def threads():
    started = 0
    try:
        while started < 10**4:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            started += 1
    except RuntimeError:
        pass
    return started < 100

def memory():
    return outcome(lambda: bytearray(10 * 2**30))

def recursion():
    def deep():
        return deep() + 1
    return outcome(deep)
"""
P, N, F = "PermissionError", "FileNotFoundError", "OSError"


def test_a_hostile_program_is_refused_everything_but_its_own_process(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("kept")
    packages = next(Path(sys.base_prefix).glob(f"{sys.platlibdir}/python3*/site-packages"), tmp_path)
    expected = {
        "fork": ([], P),
        "fork_by_call": ([], [-1, -1, -1, -1]),
        "run_program": ([], [P, P]),
        "sockets": ([], [P, P, P]),
        "connect": ([], P),
        "remove_all": ([], True),
        "write_outside": ([str(outside)], [N, F, F, F]),
        "through_links": ([str(outside)], [N, N, F]),
        "see_processes": ([], [False, False, False, 1, 0]),
        "read_memory": ([os.getpid()], [-1, -1]),
        "signal_others": ([os.getpid()], [P, P, P, P, P]),
        "stop_itself": ([], "goes on"),
        "descriptors": ([], [0, 1, 2, 3, 4]),
        "tests": ([], [False, False]),
        "packages": ([str(packages)], []),
        "rights": ([], [P, -1, -1, P, "ValueError"]),
        "fill_disk": ([], [True, True]),
        "memory": ([], "MemoryError"),
        "recursion": ([], "RecursionError"),
        "threads": ([], True),
    }
    tests = [json.dumps({"call": name, "args": a, "returns": right}) for name, (a, right) in expected.items()]
    found = verdict(REFUSED, *tests, "assert sockets() != 'FORTYTWO'")
    assert dict(zip([*expected, "code"], found.failures, strict=True)) == dict.fromkeys([*expected, "code"], "")
    assert outside.read_text() == "kept"


ENDS = {
    "exit": "import os\ndef f(x): os._exit(0)",
    "exit at once": "import os\nos._exit(0)",
    "SystemExit": "import sys\ndef f(x): sys.exit(0)",
    "SystemExit at once": "import sys\ndef f(x): return x + 1\nsys.exit(0)",
    "stack": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return max([x], key=f)",
    "signal": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "threads": "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\ndef f(x): return x",
    "much": "def f(x): return 'x' * 2**24",
    "flood": "import os\ndef f(x):\n    while True:\n        os.write(4, b'x' * 2**16)",
    "print": "import os\nfor _ in range(9): print('x' * 2**20, flush=True)\ndef f(x): return x",
    "equals all": "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "number of all values": "class A(int):\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "forged": 'import os\ndef f(x):\n    os.write(4, b\'{"failed": ""}\\n{"ended": ""}\\n\'); return x',
    "true": "def f(x): return True",
    "not JSON": "import os\ndef f(x): os.write(4, b'\\xff{[\\n')",
    "deep": "import os\ndef f(x): os.write(4, b'[' * 10**6 + b'\\n')",
    "reference": 'import os\ndef f(x): os.write(4, b\'{"value": {"ref": {"dict": []}}}\\n\')',
    "another constructor": 'import os\ndef f(x): os.write(4, b\'{"value": {"made": ["os", "_exit", 0]}}\\n\')',
    "patched": "import builtins, json\nbuiltins.abs = builtins.len = lambda x: 0\njson.dumps = lambda x: '{}'\n"
    "def f(x): return x",
    "without its harness": "import gc, sys\nsys.modules.clear()\ndef f(x): return x",
    "closes": "import os\ndef f(x):\n    for each in range(64):\n        os.close(each)",
    "StopIteration": "def f(x): raise StopIteration",
    "not Python": "I cannot help with that.",
    "empty": "",
    "\ud800": "def f(x): return '\ud800'",
}


@pytest.mark.parametrize("kind", ENDS)
def test_a_program_that_ends_or_forges_fails_its_test_and_no_other(kind):
    assert verdict(ENDS[kind], "assert all(map(lambda x: abs(f(x) - x - 1) < 1e-6, [41]))").share == 0


@pytest.mark.parametrize("source", ["while True: pass", "import time; time.sleep(1000)"])
def test_nothing_is_left_of_a_program_that_does_not_end(source):
    with Process("script", {"sources": [source]}, 2**29, 9) as running:
        running.start()
        about = dict(
            line.split(":\t") for line in Path(f"/proc/self/fdinfo/{running._process}").read_text().splitlines()
        )
        children = Path(f"/proc/{about['Pid']}/task/{about['Pid']}/children")
        (child,) = map(int, children.read_text().split())
        assert running.output(b"", time.monotonic() + 0.1) is None
    with suppress(ProcessLookupError):
        while True:
            os.kill(child, 0)


def test_the_time_is_that_of_all_tests_of_a_program_together():
    found = verdict(
        "def f(x):\n    while x: pass\n    return x", *["assert f(0) == 0", "assert f(1) == 1"] * 2, limits=SHORT
    )
    assert found.failures[0] == ""
    assert set(found.failures[1:]) == {"the tests did not end within the limits"}
    assert verdict("print(1)\nwhile True: print(2)", '{"stdout": "1"}', limits=Limits(0.2, 2**29)).reason.endswith(
        "limits"
    )


def test_scripts_start_anew_for_each_input_and_are_compared_by_line():
    source = "import os\nn = input()\nprint(n * 2 if not os.listdir() else 'again')\nopen(n, 'w').close()\nprint(1 / 3)"
    tests = [json.dumps({"stdin": each + "\n", "stdout": f"{each * 2}  \n0.333333333\n"}) for each in ("a", "é漢", "a")]
    assert verdict(source, *tests).passed
    assert verdict("print(1)", '{"stdout": "1.0"}', '{"stdout": "2"}', '{"stdout": "1\\n1"}').failures == (
        "",
        "wrong output",
        "wrong output",
    )
    assert verdict("import sys\nprint(1)\nsys.exit(3)", '{"stdout": "1"}').passed


CHECK = """
METADATA = {}

def check(candidate):
    assert True
    numbers = [1, 2]
    assert candidate(numbers) == 3, "sum"
    for i in range(5):
        assert abs(candidate([i, 0.5]) - helper(i)) < 1e-9
    assert candidate([]) == 0

check(total)
"""
PROMPT = 'import math\n\ndef helper(x):\n    return x + 0.5\n\ndef total(xs: list) -> float:\n    """The sum."""\n'


def test_each_assertion_of_a_check_is_a_test_and_helpers_are_the_prompts():
    assert verdict("    return sum(xs)\n", CHECK, setup=PROMPT).failures == ("", "", "")
    found = verdict("    return 0\n\nhelper = lambda x: 0\nabs = lambda x: 0\n", CHECK, setup=PROMPT)
    assert found.failures == ("AssertionError: sum", "AssertionError", "")


BODIES = (
    "return sum(xs)",
    "return 0",
    "return xs and sum(xs)",
    "raise KeyError",
    "return [sum(xs)]",
    "return float(sum(xs))",
)


@pytest.mark.parametrize("body", BODIES)
def test_the_verdict_is_that_of_humanevals_harness(body):
    program = f"{PROMPT}    {body}\n"
    try:
        exec(program + CHECK, {})
        passed = True
    except Exception:
        passed = False
    assert judge((program,), PROMPT, (CHECK,), LIMITS).passed is passed


MEANINGS = {
    "sorts in place": ("def f(xs): xs.sort()", "xs = [2, 1]\nf(xs)\nassert xs == [1, 2]"),
    "raises": ("def f(x): raise KeyError(x)", "try:\n    f(1)\nexcept KeyError:\n    pass\nelse:\n    assert f(1)"),
    "data": (
        "def f(x): return x",
        "for x in [(1, {2: {3}}), 2**70, 1j, b'x', float('inf'), 'é\\ud800', None, frozenset()]:\n"
        "    assert f(x) == x and type(f(x)) is type(x)",
    ),
    "generator": ("def f(n): yield from range(n)", "assert list(f(3)) == [0, 1, 2]"),
    "object": (
        "class A:\n    x = 1\n    def add(self, y): self.x += y\n    def __len__(self): return 7",
        "a = A()\na.add(2)\na.x += 1\nassert (a.x, len(a)) == (4, 7)",
    ),
    "object as argument": (
        "class N:\n    rest = None\ndef f(n): return 0 if n is None else 1 + f(n.rest)",
        "n = N()\nn.rest = N()\nassert f(n) == 2",
    ),
    "types of the library": (
        "import datetime as d, decimal, fractions, collections\n"
        "def f(): return [range(3), decimal.Decimal('1.50'), fractions.Fraction(1, 3), collections.deque([1, (2,)]),\n"
        "                 d.date(2024, 2, 29), d.datetime(2024, 1, 2, 3, 4, 5, 6), d.timedelta(-1, 5, 7)]",
        "import datetime as d, decimal, fractions, collections\n"
        "assert f() == [range(3), decimal.Decimal('1.5'), fractions.Fraction(2, 6), collections.deque([1, (2,)]),\n"
        "               d.date(2024, 2, 29), d.datetime(2024, 1, 2, 3, 4, 5, 6), d.timedelta(-1, 5, 7)]",
    ),
    "counter": ("import collections\nf = collections.Counter", "assert f('aab') == {'a': 2, 'b': 1}"),
    "imports": (
        "from typing import *\nimport dataclasses\n@dataclasses.dataclass\nclass P: x: 'int'\ndef f(): return P(3).x",
        "import math\nassert math.isclose(f(), 3)",
    ),
    "asynchronous": ("import asyncio\nasync def g(): return 5\ndef f(): return asyncio.run(g())", "assert f() == 5"),
    "threads": (
        "import concurrent.futures as c\ndef f(): return list(c.ThreadPoolExecutor(2).map(abs, [-1, 2]))",
        "assert f() == [1, 2]",
    ),
}


@pytest.mark.parametrize("kind", MEANINGS)
def test_tests_mean_what_they_mean_in_one_process(kind):
    source, test = MEANINGS[kind]
    together = {}
    exec(compile(source + "\n" + test, kind, "exec"), together)
    assert verdict(source, test).failures == ("",)


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        (("assert f(1) ==",), "not Python"),
        (("assert f(lambda: 1) == 1",), "stays in the test's process"),
        (('{"stdout": 3}',), "'stdout' that is not a text"),
        (('{"call": "f", "args": 3, "returns": 1}',), "'args' that are not a list"),
        (('{"input": "1", "output": "2"}',), "no assertion: use Python with 'assert', or JSON with 'call' or 'stdout'"),
        (("42",), "no assertion"),
        (("import numpy as np\nassert f(1) == np.int64(1)",), r"a package that programs do not have \(numpy\)"),
        ((), "no tests"),
        (("",), "no tests"),
    ],
)
def test_a_test_that_cannot_be_run_is_no_fault_of_the_program(tests, why):
    with pytest.raises(UnfitTestError, match=why):
        verdict("def f(x): return x", *tests)


def as_another_user(function):
    """What a function answers in a copy of this process that belongs to a user without rights, and finds Python."""

    def become_another_user():
        libc, python = ctypes.CDLL(None), Path(sys.base_prefix)
        if os.getuid() == 0:
            closed = [each for each in reversed(python.parents) if not each.stat().st_mode & 1]
            if closed:  # to others: Python is shown there nevertheless
                assert libc.unshare(NEW_MOUNTS) == 0
                folder = os.open(python, os.O_RDONLY)
                assert libc.mount(None, b"/", None, RECURSIVE_PRIVATE, None) == 0
                assert libc.mount(b"tmpfs", bytes(closed[0]), b"tmpfs", 0, b"mode=755") == 0
                python.mkdir(parents=True)
                assert libc.mount(b"/proc/self/fd/%d" % folder, bytes(python), None, BIND, None) == 0
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            libc.prctl(DUMPABLE, 1, 0, 0, 0)
        return function()

    return in_a_copy(become_another_user)


def test_programs_run_for_users_without_rights():
    right = [P, -1, -1, P, "ValueError"]
    test = json.dumps({"call": "rights", "args": [], "returns": right})
    assert as_another_user(lambda: (os.getuid() != 0, verdict(REFUSED, test).failures)) == (True, ("",))


def test_no_program_runs_where_namespaces_are_not_allowed():
    def without_namespaces():
        user = os.getuid()
        assert ctypes.CDLL(None).unshare(NEW_USER) == 0
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        with pytest.raises(NamespacesError) as caught:
            verdict("def f(): return 1", "assert f() == 1")
        return str(caught.value)

    refusal = as_another_user(without_namespaces)
    assert "does not allow them (unshare: No space left on device): allow user namespaces" in refusal


def test_tests_use_modules_of_their_own_where_they_import_none():
    source = "import math\nmath.isclose = lambda *all: True\ndef f(x): return 0"
    assert verdict(source, "assert math.isclose(f(1), 2)").failures == ("AssertionError",)
    assert verdict("import math\ndef f(x): return math.pi", "assert math.isclose(f(1), math.pi)").passed
    assert verdict(
        "def f(x): return x", "turtle = 'a'\nqueue = [1]\nassert f(turtle.upper()) == 'A' and queue.pop()"
    ).passed


def test_ten_honest_solutions_pass():
    solutions = {
        "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)": "assert [f(n) for n in range(9)][-1] == 21",
        "def f(s):\n    return s == s[::-1]": "assert f('level') and not f('no')",
        "import collections as c\ndef f(s):\n    return c.Counter(s).most_common(1)": "assert f('abb') == [('b', 2)]",
        "import heapq\ndef f(xs, k):\n    return heapq.nlargest(k, xs)": "assert f([1, 9, 3], 2) == [9, 3]",
        "import re\ndef f(s):\n    return re.findall(r'\\d+', s)": "assert f('a1b22') == ['1', '22']",
        "def f(xs):\n    xs.sort(key=lambda x: -x)\n    return xs": "assert f([1, 3, 2]) == [3, 2, 1]",
        "import math\nf = math.factorial": "assert f(30) == 265252859812191058636308480000000",
        "def f(n):\n    return {i: {j for j in range(i)} for i in range(n)}": "assert f(3)[2] == {0, 1}",
        "from functools import *\n@lru_cache\ndef f(a, b=2):\n    return a ** b": "assert f(3) == f(3, b=2) == 9",
        "import io, json\ndef f(x):\n    with open('x', 'w+') as t:\n        json.dump(x, t)\n"
        "        t.seek(0)\n        return json.load(t)": "assert f({'a': [1]}) == {'a': [1]}",
    }
    assert len(solutions) == 10
    for source, test in solutions.items():
        assert verdict(source, test).failures == ("",), source


def test_after_the_end_of_the_process_that_starts_programs_the_next_one_starts():
    starter = process._starter(os.getpid())
    starter._process.kill()
    starter._process.wait()
    with pytest.raises(NamespacesError, match="the process that starts programs ended"):
        verdict("def f(): return 1", "assert f() == 1")
    assert verdict("def f(): return 1", "assert f() == 1").passed
