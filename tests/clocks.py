"""Clocks of processes that a test sets: of a part of Bridge, and of the ledger's server."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.serving import ROOT

HOUR_S = 3600.0

_OF_A_PART = '''
import os, struct
from datetime import timedelta
import bridge.clock as clock

_file, _epoch, _now = os.open(os.environ["CLOCK_OF_THE_TEST"], os.O_RDONLY), clock.epoch, clock.now

def _ahead():
    return struct.unpack("d", os.pread(_file, 8, 0))[0]

clock.epoch = lambda: _epoch() + _ahead()
clock.now = lambda: _now() + timedelta(seconds=_ahead())
'''
_OF_THE_SERVER = r'''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile double *ahead;
static double none = 0;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_OF_THE_TEST"), O_RDONLY);
    void *page = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    ahead = page == MAP_FAILED ? &none : page;
}
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, at);
    if (id == CLOCK_REALTIME && ahead) at->tv_sec += (long)*ahead;
    return result;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return result;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
'''


class Clock:
    """How far ahead of the real time the processes are that were started with its `environ`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._folder = folder / f"clock-{name}", folder
        self.jump(0.0)

    def jump(self, seconds_ahead: float) -> None:
        """From now on it is so far ahead (or, negative, behind)."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(file, struct.pack("d", seconds_ahead), 0)
        os.close(file)

    def of_a_part(self) -> Mapping[str, str]:
        """The environment of a part of Bridge that goes by this clock."""
        code = self._folder / "clock-of-a-part"
        code.mkdir(exist_ok=True)
        (code / "sitecustomize.py").write_text(_OF_A_PART)
        return {"CLOCK_OF_THE_TEST": str(self._path), "PYTHONPATH": f"{code}{os.pathsep}{ROOT}"}

    def of_the_server(self) -> Mapping[str, str]:
        """The environment of a server that goes by this clock; it takes a C compiler, and is empty without one."""
        compiler = shutil.which("cc")
        if compiler is None:
            return {}
        source, library = self._folder / "clock.c", self._folder / "clock.so"
        source.write_text(_OF_THE_SERVER)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
        return {"CLOCK_OF_THE_TEST": str(self._path), "LD_PRELOAD": str(library)}
