// Every row by itself, also by repacked weights.
//
// ggml repacks `Q4_K` (and with AVX-512 `Q2_K`), eight rows of weights side by side, and has two kernels for them: one for a single row
// and one for four and more, which add up in different orders, and for which values are rounded to eight bits differently. So a token
// computed beside others had other last bits than alone. Here four rows are computed as four times a single one, eight rows of weights after
// eight, which stay in the first cache meanwhile; `Q4_K` is taken apart once for all four. Of 40 MB of weights a row takes 2.7 to 2.9 ms so,
// 3.2 to 4.1 with ggml's (an Intel of the Skylake kind, AVX2). With AVX-512 and many rows ggml's would be the faster one: 2.2.
//
// Included ahead of ggml-cpu/arch/x86/repack.cpp (project.cmake), which defines what is replaced here under other names.
#include "read_ahead.h"

#if defined(__AVX2__) && defined(__cplusplus)
#include <cstddef>
#include <cstdint>
#include <cstring>

extern "C" {
void quantize_row_q8_K(const float * x, void * y, int64_t k);
void ggml_gemv_q2_K_8x8_q8_K(int n, float * s, size_t bs, const void * vx, const void * vy, int nr, int nc);

// ggml's blocks of 256: eight of `block_q4_K` or `block_q2_K` side by side, and one of `block_q8_K`. Four of the last take what one of
// `block_q8_Kx4` does, for which there is room.
enum { REPACKED_ROWS = 8, REPACKED_Q4_K = 8 * 144, REPACKED_Q2_K = 8 * 84, REPACKED_VALUES = 4 + 256 + 32 };

void ggml_quantize_mat_q8_K_4x8(const float * x, void * vy, int64_t k) {
    for (int64_t row = 0; row < 4; ++row) {
        quantize_row_q8_K(x + row * k, static_cast<char *>(vy) + row * (k / 256) * REPACKED_VALUES, k);
    }
}

// Eight of `block_q4_K` side by side, and a `block_q8_K`.
struct repacked_weights {
    uint16_t d[8];
    uint16_t dmin[8];
    uint8_t scales[96];
    uint8_t quants[1024];
};
struct repacked_values {
    float d;
    int8_t quants[256];
    int16_t sums[16];
};
static_assert(sizeof(repacked_weights) == REPACKED_Q4_K && sizeof(repacked_values) == REPACKED_VALUES, "as ggml has them");

// The scales and minima of a sub-block of all eight, six bits each, as bytes: scales, then minima.
static inline __m128i repacked_scales(const uint8_t * packed) {
    uint32_t u[4];
    memcpy(u, packed, 12);
    u[3] = ((u[2] >> 4) & 0x0f0f0f0f) | (((u[1] >> 6) & 0x03030303) << 4);
    const uint32_t minima = u[1] & 0x3f3f3f3f;
    u[1] = (u[2] & 0x0f0f0f0f) | (((u[0] >> 6) & 0x03030303) << 4);
    u[2] = minima;
    u[0] &= 0x3f3f3f3f;
    return _mm_set_epi32(u[3], u[2], u[1], u[0]);
}

static inline __m256i repacked_broadcast(const void * four_bytes) {
    int32_t value;
    memcpy(&value, four_bytes, sizeof(value));
    return _mm256_set1_epi32(value);
}

// Eight rows of weights by four rows, `blocks` blocks long; each number as from `ggml_gemv_q4_K_8x8_q8_K`.
static void repacked_four(int64_t blocks, float * s, size_t bs, const repacked_weights * weights, const repacked_values * values) {
    constexpr int N = 4;
    const __m128i delta_order = _mm_set_epi8(15, 14, 7, 6, 13, 12, 5, 4, 11, 10, 3, 2, 9, 8, 1, 0);
    const __m128i scale_order = _mm_set_epi8(7, 7, 3, 3, 6, 6, 2, 2, 5, 5, 1, 1, 4, 4, 0, 0);
    const __m256i result_order = _mm256_set_epi32(7, 5, 3, 1, 6, 4, 2, 0);
    const __m256i nibble = _mm256_set1_epi8(0x0F);
    __m256 products[N], minima[N];
    for (int r = 0; r < N; ++r) {
        products[r] = minima[r] = _mm256_setzero_ps();
    }
    for (int64_t b = 0; b < blocks; ++b) {
        const repacked_weights & w = weights[b];
        const __m256 d = _mm256_cvtph_ps(_mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i *>(w.d)), delta_order));
        const __m256 dmin = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(w.dmin)));
        __m256i sums[N], minimum_sums[N];
        int16_t value_sums[N][8];
        for (int r = 0; r < N; ++r) {
            sums[r] = minimum_sums[r] = _mm256_setzero_si256();
            const __m128i * two = reinterpret_cast<const __m128i *>(values[r * blocks + b].sums);
            _mm_storeu_si128(reinterpret_cast<__m128i *>(value_sums[r]), _mm_hadd_epi16(_mm_loadu_si128(two), _mm_loadu_si128(two + 1)));
        }
        for (int sb = 0; sb < 4; ++sb) {
            const __m128i first = repacked_scales(w.scales + 24 * sb), second = repacked_scales(w.scales + 24 * sb + 12);
            const __m256i scales[2] = { _mm256_cvtepu8_epi16(_mm_shuffle_epi8(first, scale_order)),
                                        _mm256_cvtepu8_epi16(_mm_shuffle_epi8(second, scale_order)) };
            const __m256i both_minima =
                _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(_mm_shuffle_epi32(first, 78), _mm_shuffle_epi32(second, 78)));
            for (int half = 0; half < 2; ++half) {
                __m256i dots[N];
                for (int r = 0; r < N; ++r) {
                    dots[r] = _mm256_setzero_si256();
                }
                for (int x = 0; x < 4; ++x) {
                    const uint8_t * raw = w.quants + sb * 256 + x * 64;
                    __m256i low = _mm256_loadu_si256(raw), high = _mm256_loadu_si256(raw + 32);
                    if (half == 1) {
                        low = _mm256_srli_epi16(low, 4);
                        high = _mm256_srli_epi16(high, 4);
                    }
                    low = _mm256_and_si256(low, nibble);
                    high = _mm256_and_si256(high, nibble);
                    const __m256i even = _mm256_blend_epi32(low, _mm256_shuffle_epi32(high, 177), 170);
                    const __m256i odd = _mm256_blend_epi32(_mm256_shuffle_epi32(low, 177), high, 170);
                    for (int r = 0; r < N; ++r) {
                        const int8_t * v = values[r * blocks + b].quants + sb * 64 + half * 32 + x * 8;
                        dots[r] = _mm256_add_epi16(dots[r], _mm256_maddubs_epi16(even, repacked_broadcast(v)));
                        dots[r] = _mm256_add_epi16(dots[r], _mm256_maddubs_epi16(odd, repacked_broadcast(v + 4)));
                    }
                }
                for (int r = 0; r < N; ++r) {
                    sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(dots[r], scales[half]));
                }
            }
            for (int r = 0; r < N; ++r) {
                const __m256i two = repacked_broadcast(value_sums[r] + 2 * sb);
                minimum_sums[r] = _mm256_add_epi32(minimum_sums[r], _mm256_madd_epi16(two, both_minima));
            }
        }
        for (int r = 0; r < N; ++r) {
            const __m256 scale = _mm256_set1_ps(values[r * blocks + b].d);
            products[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[r]), _mm256_mul_ps(d, scale), products[r]);
            minima[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(minimum_sums[r]), _mm256_mul_ps(dmin, scale), minima[r]);
        }
    }
    for (int r = 0; r < N; ++r) {
        _mm256_storeu_ps(s + r * bs, _mm256_sub_ps(_mm256_permutevar8x32_ps(products[r], result_order), minima[r]));
    }
}

void ggml_gemm_q4_K_8x8_q8_K(int n, float * s, size_t bs, const void * vx, const void * vy, int nr, int nc) {
    const int64_t blocks = n / 256;
    const repacked_weights * weights = static_cast<const repacked_weights *>(vx);
    const repacked_values * values = static_cast<const repacked_values *>(vy);
    for (int x = 0; x < nc / REPACKED_ROWS; ++x) {
        for (int y = 0; y + 3 < nr; y += 4) {
            repacked_four(blocks, s + y * bs + x * REPACKED_ROWS, bs, weights + x * blocks, values + y * blocks);
        }
    }
}

#define REPACKED_GEMM(type, bytes)                                                                                                   \
    void ggml_gemm_##type##_8x8_q8_K(int n, float * s, size_t bs, const void * vx, const void * vy, int nr, int nc) {                \
        const size_t weights = static_cast<size_t>(n / 256) * bytes;                                                                 \
        const size_t values = static_cast<size_t>(n / 256) * REPACKED_VALUES;                                                        \
        for (int x = 0; x < nc / REPACKED_ROWS; ++x) {                                                                               \
            for (int y = 0; y < nr; ++y) {                                                                                           \
                ggml_gemv_##type##_8x8_q8_K(n, s + y * bs + x * REPACKED_ROWS, bs, static_cast<const char *>(vx) + x * weights,      \
                                            static_cast<const char *>(vy) + y * values, 1, REPACKED_ROWS);                           \
            }                                                                                                                        \
        }                                                                                                                            \
    }
REPACKED_GEMM(q2_K, REPACKED_Q2_K)
#undef REPACKED_GEMM
}

#define ggml_quantize_mat_q8_K_4x8 ggml_quantize_mat_q8_K_4x8_together
#define ggml_gemm_q4_K_8x8_q8_K ggml_gemm_q4_K_8x8_q8_K_together
#define ggml_gemm_q2_K_8x8_q8_K ggml_gemm_q2_K_8x8_q8_K_together
#endif
