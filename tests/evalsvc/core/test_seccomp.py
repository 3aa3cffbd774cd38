import struct

import pytest

from evalsvc.core.sandbox import seccomp

ALLOWED, REFUSED, KILLED = 0x7FFF0000, 0x00050001, 0x80000000
SELF, OTHER = 4242, 1
NUMBERS = {
    # of x86-64 and of 64-bit ARM, from the headers of Linux
    **{"read": (0, 63), "write": (1, 64), "mmap": (9, 222), "exit_group": (231, 94), "fcntl": (72, 25)},
    **{"newfstatat": (262, 79), "prlimit64": (302, 261), "kill": (62, 129), "tgkill": (234, 131)},
    **{"openat": (257, 56), "openat2": (437, 437), "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203)},
    **{"clone": (56, 220), "clone3": (435, 435), "execve": (59, 221), "execveat": (322, 281), "ioctl": (16, 29)},
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "prctl": (157, 167)},
    **{"io_uring_setup": (425, 425), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "setns": (308, 268)},
    **{"memfd_create": (319, 279), "dup3": (292, 24), "sendmsg": (46, 211), "recvmsg": (47, 212), "keyctl": (250, 219)},
    **{"shmget": (29, 194), "msgget": (68, 186), "bpf": (321, 280), "userfaultfd": (323, 282), "mount": (165, 40)},
    **{"unshare": (272, 97), "setsid": (112, 157), "unlinkat": (263, 35), "renameat2": (316, 276), "tkill": (200, 130)},
    **{"rt_sigqueueinfo": (129, 138), "setpriority": (141, 140), "chroot": (161, 51), "setuid": (105, 146)},
}
OPEN = {"read", "write", "mmap", "exit_group"}
CONDITIONED = {
    "fcntl": ([(3, 1), (3, 3), (3, 1030)], [(3, 8, OTHER), (3, 10), (3, 37), (3, 1024), (3, 1033)]),
    "newfstatat": ([(3, 0, 0, 0x1000)], [(2**32 - 100, 0, 0, 0), (2**32 - 100, 0, 0, 0x100)]),
    "prlimit64": ([(0, 7)], [(OTHER, 7)]),
    "kill": ([(SELF, 9)], [(OTHER, 9), (0, 9), (2**32 - 1, 9), (2**32 - SELF, 9)]),
    "tgkill": ([(SELF, SELF, 6)], [(OTHER, OTHER, 6)]),
}


def answer(program, number, architecture, arguments=()):
    """What the kernel's machine makes of the filter for one call."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[2**40] * (6 - len(arguments)))
    place, value = 0, 0
    while True:
        code, if_so, if_not, operand = struct.unpack("=HBBI", program[place])
        place += 1
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif code == 0x54:
            value &= operand
        elif code == 0x15:
            place += if_so if value == operand else if_not
        else:
            assert code == 0x06
            return operand


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_allows_computing_and_open_descriptors_and_nothing_else(machine):
    column, architecture = seccomp._ARCHITECTURES[machine]
    program = seccomp._program(column, architecture, SELF)
    for name, numbers in NUMBERS.items():
        if name in CONDITIONED:
            allowed, refused = CONDITIONED[name]
            assert {answer(program, numbers[column], architecture, each) for each in allowed} == {ALLOWED}, name
            assert {answer(program, numbers[column], architecture, each) for each in refused} == {REFUSED}, name
        else:
            expected = ALLOWED if name in OPEN else REFUSED
            assert answer(program, numbers[column], architecture) == expected, name
    assert {answer(program, number, architecture) for number in range(440, 1000)} == {REFUSED}
    assert answer(program, 0x40000000, architecture) == REFUSED  # the other calls of x86-64, of 32 bits
    assert answer(program, NUMBERS["read"][column], 0x40000003) == KILLED  # a call as another machine's


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_of_programs_allows_files_and_threads_but_no_processes_networks_or_namespaces(machine):
    column, architecture = seccomp._ARCHITECTURES[machine]
    program = seccomp._program(column, architecture, SELF, programs=True)

    def answered(name, *arguments):
        return answer(program, NUMBERS[name][column], architecture, arguments)

    allowed = {"openat", "unlinkat", "renameat2", "dup3"} | OPEN
    conditioned = {"clone", "clone3", "socketpair", "ioctl", "newfstatat", *CONDITIONED}
    for name in NUMBERS.keys() - conditioned:
        assert answered(name) == (ALLOWED if name in allowed else REFUSED), name
    assert (answered("clone", 0x3D0F00), answered("clone", 17), answered("clone", 0x20000011)) == (
        ALLOWED,
        REFUSED,
        REFUSED,
    )
    assert answered("clone3") == 0x00050026  # not implemented
    assert (answered("socketpair", 1), answered("socketpair", 2)) == (ALLOWED, REFUSED)
    assert (answered("ioctl", 3, 0x5401), answered("ioctl", 3, 0x5412)) == (ALLOWED, REFUSED)  # types into a terminal
    assert (answered("kill", SELF), answered("kill", OTHER)) == (ALLOWED, REFUSED)
    assert len(program) < 4096
    assert {answer(program, number, architecture) for number in range(442, 1000)} == {REFUSED}


def test_where_the_platform_has_no_filter_there_is_none(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    assert not seccomp.install()
