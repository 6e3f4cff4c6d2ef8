// One row adds up as several do.
//
// ggml multiplies half-precision matrices (the attention over the KV cache) by a tiled kernel, but leaves a single row to its general dot
// product, which adds up in another order. So a token computed by itself had other last bits than the same token beside a guessed one,
// and at a near tie another token followed. Here a single row is computed in the order of the tiled kernel (`tinyBLAS::gemm_bloc` in
// ggml-cpu/llamafile/sgemm.cpp): lane by lane over the whole length, lanes added at the end. It costs no more than the general product.
//
// `project.cmake` has this file included ahead of ggml's own C sources. `every_row_of_a_draft_has_the_logits_it_would_have_alone` in
// src/llama/tests.rs fails in a build without it.
#if defined(GGML_USE_LLAMAFILE) && defined(__AVX__) && defined(__F16C__) && !defined(__cplusplus)
#if __has_include("ggml-cpu-impl.h")
#include "ggml-cpu-impl.h"
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define ONE_ROW_LANES 16
typedef __m512 one_row_lanes;
static inline one_row_lanes one_row_load(const uint16_t * p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p));
}
static inline one_row_lanes one_row_zero(void) { return _mm512_setzero_ps(); }
static inline one_row_lanes one_row_madd(one_row_lanes a, one_row_lanes b, one_row_lanes c) { return _mm512_fmadd_ps(a, b, c); }
static inline float one_row_sum(one_row_lanes x) { return _mm512_reduce_add_ps(x); }
#else
#define ONE_ROW_LANES 8
typedef __m256 one_row_lanes;
static inline one_row_lanes one_row_load(const uint16_t * p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)); }
static inline one_row_lanes one_row_zero(void) { return _mm256_setzero_ps(); }
static inline one_row_lanes one_row_madd(one_row_lanes a, one_row_lanes b, one_row_lanes c) {
#if defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#else
    return _mm256_add_ps(_mm256_mul_ps(a, b), c);
#endif
}
static inline float one_row_sum(one_row_lanes wide) {
    __m128 x = _mm_add_ps(_mm256_extractf128_ps(wide, 1), _mm256_castps256_ps128(wide));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    x = _mm_add_ss(x, _mm_movehdup_ps(x));
    return _mm_cvtss_f32(x);
}
#endif

// The last values, with zeroes after them.
static inline one_row_lanes one_row_rest(const uint16_t * p, int64_t count) {
    uint16_t rest[ONE_ROW_LANES] = { 0 };
    memcpy(rest, p, (size_t) count * sizeof(rest[0]));
    return one_row_load(rest);
}

#include "few_rows.h"

enum { ONE_ROW_TILE = 4 };

// C[m] = A[m][k] B[k], divided between the threads by rows of A.
static inline void one_row(const struct ggml_compute_params * params, int64_t m, int64_t k, const uint16_t * A, int64_t lda,
                           const uint16_t * B, float * C) {
    const int64_t tiles = m / ONE_ROW_TILE;
    const int64_t from = tiles * params->ith / params->nth;
    const int64_t until = tiles * (params->ith + 1) / params->nth;
    const int64_t whole = k - k % ONE_ROW_LANES;
    for (int64_t tile = from; tile < until; ++tile) {
        const uint16_t * rows = A + lda * tile * ONE_ROW_TILE;
        one_row_lanes sums[ONE_ROW_TILE];
        for (int i = 0; i < ONE_ROW_TILE; ++i) {
            sums[i] = one_row_zero();
        }
        for (int64_t l = 0; l < whole; l += ONE_ROW_LANES) {
            const one_row_lanes b = one_row_load(B + l);
            for (int i = 0; i < ONE_ROW_TILE; ++i) {
                sums[i] = one_row_madd(one_row_load(rows + lda * i + l), b, sums[i]);
            }
        }
        if (whole < k) {
            const one_row_lanes b = one_row_rest(B + whole, k - whole);
            for (int i = 0; i < ONE_ROW_TILE; ++i) {
                sums[i] = one_row_madd(one_row_rest(rows + lda * i + whole, k - whole), b, sums[i]);
            }
        }
        for (int i = 0; i < ONE_ROW_TILE; ++i) {
            C[tile * ONE_ROW_TILE + i] = one_row_sum(sums[i]);
        }
    }
}

bool llamafile_sgemm(const struct ggml_compute_params *, int64_t, int64_t, int64_t, const void *, int64_t, const void *, int64_t,
                     void *, int64_t, int, int, int);

// As the tiled kernel, which refuses a single row, and rows that are no whole tile; a few rows of `Q8_0` by a kernel that reads ahead.
static inline bool sgemm_of_any_rows(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * A,
                                     int64_t lda, const void * B, int64_t ldb, void * C, int64_t ldc, int a, int b, int c) {
    if (n == 1 && a == GGML_TYPE_F16 && b == GGML_TYPE_F16 && c == GGML_TYPE_F32 && m % ONE_ROW_TILE == 0) {
        one_row(params, m, k, (const uint16_t *) A, lda, (const uint16_t *) B, (float *) C);
        return true;
    }
    if (a == GGML_TYPE_Q8_0 && b == GGML_TYPE_Q8_0 && c == GGML_TYPE_F32 && few_rows(params, m, n, k, A, lda, B, ldb, (float *) C, ldc)) {
        return true;
    }
    return llamafile_sgemm(params, m, n, k, A, lda, B, ldb, C, ldc, a, b, c);
}

// ggml's own declaration of the function becomes a second one of this.
#define llamafile_sgemm(...) sgemm_of_any_rows(__VA_ARGS__)
#endif
#endif
