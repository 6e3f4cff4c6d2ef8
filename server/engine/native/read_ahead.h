// Kernels that ask for what they will read.
//
// Included ahead of ggml's kernels of quantised weights for x86 (project.cmake says which). They read the weights in one stream and wait for
// it at the end of every page of 4 KiB, where the processor's own prefetcher stops; so each load asks for what lies a page further on.
// Where there is nothing, asking does nothing. Numbers stay what they are.
#if defined(__AVX2__)
#include <immintrin.h>

static inline __m256i read_ahead(const void * here) {
    _mm_prefetch((const char *) here + 4096, _MM_HINT_T0);
    return _mm256_loadu_si256((const __m256i *) here);
}

#define _mm256_loadu_si256(here) read_ahead(here)
#endif
