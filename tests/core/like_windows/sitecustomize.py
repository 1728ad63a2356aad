"""Makes a Python on Linux refuse what Windows refuses; with this folder on PYTHONPATH its children do so too.

It only simulates. To the packages ``tts_train*`` the platform is ``win32``: modules, functions and signals that Windows
has not are hidden from them, and ``os.kill`` ends a process whatever the signal. Everybody meets the file system's
refusals: links, opened folders, names that exist, are reserved or in use. Processes start by ``spawn``. Libraries still
see Linux, since they choose by ``sys.platform``; ``msvcrt`` is a stand-in on record locks of POSIX.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import multiprocessing
import os
import shutil
import signal
import sys
import types
import warnings

_MODULES = {"fcntl", "grp", "pwd", "pty", "resource", "termios", "tty", "syslog", "posix"}
_NO_FUNCTIONS = """O_DIRECTORY O_NONBLOCK O_NOFOLLOW O_CLOEXEC chown confstr fork forkpty getegid geteuid getgid
getloadavg getpgid getpgrp getsid getuid killpg lchown mkfifo mknod nice openpty posix_spawn pread pwrite
sched_getaffinity sched_setaffinity sched_yield setpgid setsid statvfs sync sysconf uname wait wait4 waitid"""
_NO_SIGNALS = """SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGTTIN SIGTTOU
SIGURG SIGUSR1 SIGUSR2 alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigtimedwait sigwait"""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
_EXISTS, _IN_USE, _DENIED, _NAME, _PRIVILEGE = 183, 32, 5, 123, 1314


def _caller(depth: int = 1) -> str:
    return str(sys._getframe(depth + 1).f_globals.get("__name__", ""))


def _ours(depth: int) -> bool:
    return _caller(depth + 1).startswith("tts_train")


def _refusal(kind: type[OSError], number: int, winerror: int, path: object) -> OSError:
    error = kind(number, f"[WinError {winerror}] refused", os.fspath(path) if path is not None else None)
    error.winerror = winerror
    return error


def _terminate(pid: int, number: int) -> None:
    """End a process whatever the number, which is its exit code."""
    if pid == os.getpid():
        os._exit(number)
    _kill(pid, signal.SIGKILL)


def _disguise(module: types.ModuleType, shown: dict[str, object], names: str) -> None:
    """Show our packages another module than everybody else sees."""

    hidden = names.split()

    class Disguised(types.ModuleType):
        def __getattribute__(self, name: str) -> object:
            if name in shown and _ours(1):
                return shown[name]
            if name in hidden and _ours(1):
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return super().__getattribute__(name)

    module.__class__ = Disguised


def _import(name, globals=None, *rest, **more):
    if str((globals or {}).get("__name__", "")).startswith("tts_train"):
        if name == "msvcrt":
            return _msvcrt
        if name.split(".")[0] in _MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return _real_import(name, globals, *rest, **more)


def _in_use(path: str) -> bool:
    """Tell whether this process has a file of this name, or below it, open or mapped."""
    path = os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    with _open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        found += [line.split(None, 5)[5].rstrip("\n") for line in file if line.count("/")]
    return any(one == path or one.startswith(path + "/") for one in found)


def _check_free(path: object) -> None:
    path = os.fspath(path)
    if isinstance(path, str) and not os.path.islink(path) and os.path.exists(path) and _in_use(path):
        raise _refusal(PermissionError, errno.EACCES, _DENIED if os.path.isdir(path) else _IN_USE, path)


def _check_name(path: object) -> None:
    name = os.path.basename(os.fspath(path))
    if not isinstance(name, str) or str(path).startswith(("/dev/", "/proc/", "/sys/")):
        return
    if name.split(".")[0].lower() in _RESERVED or name != name.rstrip(" .") or set(name) & set('<>:"|?*\\'):
        raise _refusal(OSError, errno.EINVAL, _NAME, path)


def _moving(real):
    def move(source, target, **rest):
        _check_name(target)
        _check_free(source)
        if real is _rename and os.path.lexists(target):
            raise _refusal(FileExistsError, errno.EEXIST, _EXISTS, target)
        if os.path.isdir(target) and not os.path.islink(target):
            raise _refusal(PermissionError, errno.EACCES, _DENIED, target)
        _check_free(target)
        return real(source, target, **rest)

    return move


def _removing(real):
    def remove(path, **rest):
        if not _caller().startswith(("tempfile", "multiprocessing")):  # which delete otherwise there
            _check_free(path)
        return real(path, **rest)

    return remove


def _making(real):
    def make(path, *rest, **more):
        _check_name(path)
        return real(path, *rest, **more)

    return make


def _opening(file, mode="r", *rest, **more):
    if isinstance(file, (str, os.PathLike)) and set(mode) & set("wax+"):
        _check_name(file)
    if _ours(1) and "b" not in mode and not more.get("encoding") and len(rest) < 2:
        raise EncodingWarning(f"{file} is opened without an encoding")
    return _open(file, mode, *rest, **more)


def _open_descriptor(path, flags, *rest, **more):
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path):
        raise _refusal(PermissionError, errno.EACCES, _DENIED, path)
    return _os_open(path, flags, *rest, **more)


def _no_link(source, target, *rest, **more):
    raise _refusal(OSError, errno.EINVAL, _PRIVILEGE, target)


def _lock_bytes(descriptor: int, mode: int, count: int) -> None:
    """Lock from the descriptor's place on, as ``msvcrt.locking`` does."""
    how = {_msvcrt.LK_UNLCK: fcntl.LOCK_UN}.get(mode, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        fcntl.lockf(descriptor, how, count, os.lseek(descriptor, 0, os.SEEK_CUR))
    except OSError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


_kill, _real_import, _open, _os_open, _rename = os.kill, builtins.__import__, io.open, os.open, os.rename

_msvcrt = types.ModuleType("msvcrt")
_msvcrt.LK_UNLCK, _msvcrt.LK_LOCK, _msvcrt.LK_NBLCK = 0, 1, 2
_msvcrt.locking = _lock_bytes

if multiprocessing.get_start_method(allow_none=True) is None:
    multiprocessing.set_start_method("spawn")
del os.fork, os.forkpty
os.symlink = _no_link
os.rename, os.replace = _moving(os.rename), _moving(os.replace)
os.unlink, os.remove, os.rmdir = _removing(os.unlink), _removing(os.remove), _removing(os.rmdir)
os.mkdir = _making(os.mkdir)
os.open = _open_descriptor
builtins.open = io.open = _opening
shutil._use_fd_functions = False
builtins.__import__ = _import
_disguise(os, {"name": "nt", "kill": _terminate}, _NO_FUNCTIONS)
_disguise(signal, {"SIGBREAK": signal.Signals(21)}, _NO_SIGNALS)
_disguise(sys, {"platform": "win32"}, "")
warnings.filterwarnings("ignore", category=EncodingWarning)
warnings.filterwarnings("error", category=EncodingWarning, module="tts_train")
