"""Stand-ins for the libraries that glibc 2.34 dissolved, to link against as a system before it would.

NVIDIA's static runtime calls what was in libpthread, libdl and librt. Linked on a newer glibc these calls ask for the
versions that its libc gave them, and the library would not load before 2.34; the old versions are there everywhere.
"""

from __future__ import annotations

import platform

STAND_INS = {
    "libpthread.so.0": {
        "GLIBC_2.2.5": """
            pthread_condattr_setpshared pthread_create pthread_detach pthread_getspecific pthread_join pthread_key_create
            pthread_key_delete pthread_kill pthread_mutex_trylock pthread_mutexattr_destroy pthread_mutexattr_init
            pthread_mutexattr_setpshared pthread_mutexattr_settype pthread_once pthread_rwlock_destroy pthread_rwlock_init
            pthread_rwlock_rdlock pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock pthread_rwlock_tryrdlock
            pthread_rwlock_trywrlock pthread_rwlock_unlock pthread_rwlock_wrlock pthread_rwlockattr_destroy
            pthread_rwlockattr_init pthread_rwlockattr_setpshared pthread_setspecific pthread_spin_destroy
            pthread_spin_init pthread_spin_lock pthread_spin_trylock pthread_spin_unlock
            sem_destroy sem_init sem_post sem_timedwait sem_trywait sem_wait
        """
    },
    "libdl.so.2": {"GLIBC_2.2.5": "dlclose dlerror dlopen dlsym dlvsym", "GLIBC_2.3.4": "dlmopen"},
    "librt.so.1": {"GLIBC_2.2.5": "shm_open shm_unlink"},
}
"""Of each library the functions by the version of glibc that brought them, on x86-64."""

FOLDER = "old_glibc"
"""Theirs in the build folder: nvcc's programs look for libraries where they run, and would crash in these."""


def libraries_to_link(cxx: str) -> tuple[str, str]:
    """Shell commands that make the stand-ins in the build folder, and what the link then names after the objects."""
    if platform.machine() not in ("x86_64", "AMD64") or platform.libc_ver()[0] != "glibc":
        return "", "-ldl -lrt -lpthread"
    made = "".join(f"{_command(cxx, name, versions)} && " for name, versions in STAND_INS.items())
    return f"mkdir -p {FOLDER} && {made}", " ".join(f"{FOLDER}/{name}" for name in STAND_INS)


def _command(cxx: str, name: str, versions: dict[str, str]) -> str:
    """A library that holds nothing but the names: what they stand for, the real one of that name says at run time."""
    script = " ".join(f"{version} {{ {'; '.join(names.split())}; }};" for version, names in versions.items())
    functions = " ".join(f"void {name}(void) {{}}" for names in versions.values() for name in names.split())
    path = f"{FOLDER}/{name}"
    link = f"{cxx} -shared -fPIC -nostdlib -x c -w {path}.c -Wl,-soname,{name} -Wl,--version-script={path}.map"
    return f"echo '{script}' > {path}.map && echo '{functions}' > {path}.c && {link} -o {path}"
