// simd: loops that the compiler turns into vector code, for several instruction sets, chosen when the library is
// loaded.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define SHM_MULTIVERSION __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define SHM_MULTIVERSION
#endif
