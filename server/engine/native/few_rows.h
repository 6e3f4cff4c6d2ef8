// `Q8_0` weights by a few rows: what a step of decoding computes.
//
// Such a step reads every weight once and is as fast as they come from memory. ggml's own kernels wait for them: the processor's
// prefetcher stops at the end of each page of 4 KiB, and on the virtual machines measured a single core got half of what memory gives
// (4.5 of 8.4 GB/s), with several rows, where the tiled kernel reads four rows of weights at once, less. Here weights are read in one
// stream, asked for a page ahead, and once for up to four rows.
//
// Every number comes out as from `ggml_vec_dot_q8_0_q8_0` and `tinyBLAS_Q0_AVX` (ggml-cpu/llamafile/sgemm.cpp), which agree with each other:
// the same products, added up block by block in eight lanes, lanes added at the end. So a row is the same to the last bit whoever computes it.
//
// Included by one_row.h, under its conditions.
#if defined(__AVX2__) && defined(__FMA__)

// ggml's `block_q8_0`: a half-precision scale and what it scales.
typedef struct {
    uint16_t scale;
    int8_t quants[32];
} few_rows_block;

_Static_assert(sizeof(few_rows_block) == 34, "blocks lie one behind the other");

enum {
    // Beyond it the tiled kernel is as fast.
    FEW_ROWS_MOST = 32,
    // Rows computed with one reading of the weights: their sums are in registers.
    FEW_ROWS_GROUP = 4,
    // Rows of weights that stay in the first cache from one group to the next.
    FEW_ROWS_TILE = 16,
    // A longer row's scales would not find room on the stack.
    FEW_ROWS_BLOCKS = 1024,
    // Bytes from the weights that are computed to those that are asked for: a page.
    FEW_ROWS_AHEAD = 4096,
};

static inline float few_rows_half(uint16_t half) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half))); }

static inline __m256i few_rows_load(const few_rows_block * block) { return _mm256_loadu_si256((const __m256i *) block->quants); }

// Eight sums of four products each. `magnitudes` are those of the weights.
static inline __m256 few_rows_products(__m256i weights, __m256i magnitudes, __m256i values) {
    const __m256i with_signs = _mm256_sign_epi8(values, weights);
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    const __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), magnitudes, with_signs);
#else
    const __m256i sums = _mm256_madd_epi16(_mm256_set1_epi16(1), _mm256_maddubs_epi16(magnitudes, with_signs));
#endif
    return _mm256_cvtepi32_ps(sums);
}

// One row of weights by `count` rows, a constant wherever it is called. Only the first group brings weights from memory.
static inline __attribute__((always_inline)) void few_rows_one(const int count, const bool ahead, int64_t k, const few_rows_block * A,
                                                               const few_rows_block * B, int64_t ldb, float (*scales)[FEW_ROWS_BLOCKS],
                                                               float * C, int64_t ldc) {
    __m256 sums[FEW_ROWS_GROUP];
    for (int j = 0; j < count; ++j) {
        sums[j] = _mm256_setzero_ps();
    }
    for (int64_t l = 0; l < k; ++l) {
        if (ahead) {
            _mm_prefetch((const char *) (A + l) + FEW_ROWS_AHEAD, _MM_HINT_T0);
        }
        const __m256i weights = few_rows_load(A + l);
        const __m256i magnitudes = _mm256_sign_epi8(weights, weights);
        const __m256 scale = _mm256_set1_ps(few_rows_half(A[l].scale));
        for (int j = 0; j < count; ++j) {
            const __m256 both = _mm256_mul_ps(scale, _mm256_broadcast_ss(&scales[j][l]));
            sums[j] = _mm256_fmadd_ps(both, few_rows_products(weights, magnitudes, few_rows_load(B + ldb * j + l)), sums[j]);
        }
    }
    for (int j = 0; j < count; ++j) {
        __m128 x = _mm_add_ps(_mm256_extractf128_ps(sums[j], 1), _mm256_castps256_ps128(sums[j]));
        x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        x = _mm_add_ss(x, _mm_movehdup_ps(x));
        C[ldc * j] = _mm_cvtss_f32(x);
    }
}

// Rows `from..until` of the weights by up to FEW_ROWS_GROUP rows.
static inline void few_rows_group(int count, bool ahead, int64_t from, int64_t until, int64_t k, const few_rows_block * A, int64_t lda,
                                  const few_rows_block * B, int64_t ldb, float * C, int64_t ldc) {
    float scales[FEW_ROWS_GROUP][FEW_ROWS_BLOCKS];
    for (int j = 0; j < count; ++j) {
        for (int64_t l = 0; l < k; ++l) {
            scales[j][l] = few_rows_half(B[ldb * j + l].scale);
        }
    }
#define FEW_ROWS(count, ahead)                                                              \
    for (int64_t i = from; i < until; ++i) {                                                \
        few_rows_one(count, ahead, k, A + lda * i, B, ldb, scales, C + i, ldc);             \
    }                                                                                       \
    return;
    switch (count * 2 + ahead) {
        case 2: FEW_ROWS(1, false)
        case 3: FEW_ROWS(1, true)
        case 4: FEW_ROWS(2, false)
        case 5: FEW_ROWS(2, true)
        case 6: FEW_ROWS(3, false)
        case 7: FEW_ROWS(3, true)
        case 8: FEW_ROWS(4, false)
        default: FEW_ROWS(4, true)
    }
#undef FEW_ROWS
}

// C[n][m] = A[m][k] B[n][k], divided between the threads by rows of A. False where the numbers of rows or blocks are not for it.
static inline bool few_rows(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const few_rows_block * A,
                            int64_t lda, const few_rows_block * B, int64_t ldb, float * C, int64_t ldc) {
    if (n > FEW_ROWS_MOST || k > FEW_ROWS_BLOCKS) {
        return false;
    }
    const int64_t from = m * params->ith / params->nth;
    const int64_t until = m * (params->ith + 1) / params->nth;
    const int64_t tile = n <= FEW_ROWS_GROUP ? m : FEW_ROWS_TILE;
    for (int64_t i = from; i < until; i += tile) {
        const int64_t end = i + tile < until ? i + tile : until;
        for (int64_t j = 0; j < n; j += FEW_ROWS_GROUP) {
            const int count = n - j < FEW_ROWS_GROUP ? (int) (n - j) : FEW_ROWS_GROUP;
            few_rows_group(count, j == 0, i, end, k, A, lda, B + ldb * j, ldb, C + ldc * j, ldc);
        }
    }
    return true;
}
#else
static inline bool few_rows(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * A, int64_t lda,
                            const void * B, int64_t ldb, float * C, int64_t ldc) {
    (void) params, (void) m, (void) n, (void) k, (void) A, (void) lda, (void) B, (void) ldb, (void) C, (void) ldc;
    return false;
}
#endif
