/* The int8 multiply-add peak of one core: independent accumulators, no memory. Prints the instruction and Gop/s (2 per MAC). */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__aarch64__)
#define REGISTER(v) "+w"(v)
#else
#define REGISTER(v) "+v"(v)
#endif
#define LANES 12
#define ROUNDS 20000000L

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

#if defined(__AVX512VNNI__)
#define NAME "avx512_vnni"
#define MACS 64
typedef __m512i vector;
#define SET(x) _mm512_set1_epi32(x)
#define STEP(a) a = _mm512_dpbusd_epi32(a, u, s)
#elif defined(__AVXVNNI__)
#define NAME "avx_vnni"
#define MACS 32
typedef __m256i vector;
#define SET(x) _mm256_set1_epi32(x)
#define STEP(a) a = _mm256_dpbusd_avx_epi32(a, u, s)
#elif defined(__AVX2__)
#define NAME "avx2"
#define MACS 32
typedef __m256i vector;
#define SET(x) _mm256_set1_epi32(x)
#define STEP(a) a = _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_xor_si256(u, a), s), ones))
#elif defined(__ARM_FEATURE_DOTPROD)
#define NAME "sdot"
#define MACS 16
typedef int32x4_t vector;
#define SET(x) vdupq_n_s32(x)
#define STEP(a) a = vdotq_s32(a, vreinterpretq_s8_s32(u), vreinterpretq_s8_s32(s))
#endif

int main(void) {
#ifdef NAME
    volatile int one = 0x01010101;
    vector u = SET(one), s = SET(one), ones = SET(0x00010001), sum = SET(0), a[LANES];
    double best = 0;
    (void)ones;
    for (int i = 0; i < LANES; i++) a[i] = SET(i);
    for (int repeat = 0; repeat < 5; repeat++) {
        double start = seconds();
        for (long round = 0; round < ROUNDS / 4; round++) {
#pragma GCC unroll 12
            for (int i = 0; i < LANES; i++) STEP(a[i]);
            __asm__ volatile("" : REGISTER(u), REGISTER(s));
        }
        double speed = 2.0 * MACS * LANES * (ROUNDS / 4) / (seconds() - start) / 1e9;
        if (speed > best) best = speed;
    }
    for (int i = 0; i < LANES; i++) sum = a[i];
    volatile vector keep = sum;
    (void)keep;
    printf("%s %.1f\n", NAME, best);
#else
    printf("none 0\n");
#endif
    return 0;
}
