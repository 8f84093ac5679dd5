// What GCC and glibc call that is newer than RHEL 8 (manylinux_2_28: glibc 2.28, GCC 8), defined in the library itself.
//
// A compiler writes calls of its own release's libstdc++, and a library built on Debian 12 would not load on an older
// system. RHEL's newer compilers link an archive for that, libstdc++_nonshared.a; this is as much of it as we need.
// Hidden, so that nobody else in the process sees it; weak, so that it gives way to that archive. tests/test_build.py
// reads what is left.
#include <new>
#include <sstream>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GLIBCXX__)

#define BAM_HIDDEN extern "C" __attribute__((weak, visibility("hidden")))

// glibc 2.32: while it is true, libstdc++ counts without atomic instructions. False is right with any number of
// threads.
BAM_HIDDEN char bam_single_threaded __asm__("__libc_single_threaded");
char bam_single_threaded = 0;

// GCC 11: std::__throw_bad_array_new_length(), called where a std::vector would grow beyond every size.
BAM_HIDDEN void bam_throw_bad_array_new_length() __asm__("_ZSt28__throw_bad_array_new_lengthv");
void bam_throw_bad_array_new_length() { throw std::bad_array_new_length(); }

// GCC 9: the constructor of std::ostringstream without arguments. Before, it was the one with a default argument.
BAM_HIDDEN void bam_ostringstream(void* place) __asm__(
    "_ZNSt7__cxx1119basic_ostringstreamIcSt11char_traitsIcESaIcEEC1Ev");
void bam_ostringstream(void* place) { new (place) std::ostringstream(std::ios_base::out); }

#endif
