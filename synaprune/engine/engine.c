/* Exact inference of pruned spiking networks: spikes are bits, a synapse is one addition under a mask.
 *
 * A network is a list of steps that act on one block of working memory; plan.py makes both, and has checked every
 * number in them. Nothing is allocated here, and nothing but the C library is used.
 *
 * Spike trains. A channel is a string of bits, 32 pixels to a word, words of the T time steps side by side:
 *
 *     pixel (y, x) of channel c at time t: bit f % 32 of bits[(c * stride + lead + f / 32) * T + t], f = y * pitch + x
 *
 * pitch leaves a gap of zeros right of each row, lead and tail words of zeros surround the channel: they are the
 * padding of convolutions, which need not be copied anywhere. The input that a tap of the kernel meets is then the
 * same string from another bit on; SHIFT writes the string once for each such bit within a word that occurs.
 *
 * Order. Currents are sums of floats, whose last bits depend on the order. It is that of a plain loop: the bias
 * first, then the synapses by input channel, bit of a pooled count, row and column of the kernel. All paths below
 * and any number of threads give the same bits; the compiler must not contract or reorder (-ffp-contract=off).
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifndef __STDC_NO_THREADS__
#include <threads.h>
#endif
#if defined(__x86_64__) && !defined(SYNAPRUNE_PORTABLE)
#include <immintrin.h>
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define LOW_BIT(x) __builtin_ctz(x)
#define COUNT_BITS(x) __builtin_popcountll(x)
#define PREFETCH(x) __builtin_prefetch(x)
#else
#define INLINE static inline
#define UNROLL
#define PREFETCH(x) (void)(x)
static int LOW_BIT(uint32_t x) { int n = 0; while (!(x >> n & 1)) n++; return n; }
static int COUNT_BITS(uint64_t x) { int n = 0; for (; x; x &= x - 1) n++; return n; }
#endif

#define LANES 32 /* pixels in a word */
#define AHEAD 16 /* synapses; so many entries lie behind the end of where, for convolutions */

enum kind { PLACE, PLACE_BITS, SHIFT, GATHER, POOL_MAX, POOL_SUM, CONV, CONV_ANALOG, LINEAR, LINEAR_ANALOG, COUNT };

struct neuron {
    int32_t leaky, decay_input, soft, by_product; /* by_product: tau is what to multiply by, and not to divide by */
    int32_t kept, late; /* kept: tau is the share of the potential that stays; late: what is soft waits for a step */
    float tau, threshold, reset; /* reset: with soft, what a spike takes away */
    int32_t plain; /* leaky, decayed input, hard reset to 0, by_product: the papers' neuron, which has a way of its own */
};

/* One step. What the numbers mean for each kind is said where it is carried out. in and out are byte offsets. */
struct step {
    int32_t kind, layer, channels, words, lead, stride, out_lead, out_stride, copies, size, slices, bits_in, bits_out;
    int64_t in, out, scratch;
    const int32_t *start, *where, *table;
    const float *value, *bias;
    const uint32_t *valid;
    struct neuron neuron;
};

struct network {
    int32_t T, count, lanes, group; /* lanes: samples side by side; group: outputs that vote for a class */
    float unit;                     /* what a class's spikes are divided by */
    const struct step *steps;
};

struct barrier {
    atomic_int arrived, phase, wild;
};

/* One call: samples at x, x_sample values apart, time steps x_step apart; spikes is for this rank alone. */
struct call {
    const void *x;
    int64_t samples, x_sample, x_step;
    float *votes;
    uint64_t *spikes; /* of each layer of neurons */
    int32_t rank, ranks;
};

/* ---- 32 floats side by side ---- */

#if defined(__AVX512F__) && !defined(SYNAPRUNE_PORTABLE) && !defined(SYNAPRUNE_AVX2)
#define PATH "avx512"
#define STEPS 8 /* time steps whose currents fit into the registers */
typedef struct { __m512 a, b; } v32;
INLINE v32 fill(float x) { return (v32){_mm512_set1_ps(x), _mm512_set1_ps(x)}; }
INLINE v32 load(const float *x) { return (v32){_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)}; }
INLINE void save(float *x, v32 y) { _mm512_storeu_ps(x, y.a), _mm512_storeu_ps(x + 16, y.b); }
INLINE v32 look_up(const float *x, const int32_t *i) {
    return (v32){_mm512_i32gather_ps(_mm512_loadu_si512(i), x, 4), _mm512_i32gather_ps(_mm512_loadu_si512(i + 16), x, 4)};
}
INLINE v32 add(v32 x, v32 y) { return (v32){_mm512_add_ps(x.a, y.a), _mm512_add_ps(x.b, y.b)}; }
INLINE v32 sub(v32 x, v32 y) { return (v32){_mm512_sub_ps(x.a, y.a), _mm512_sub_ps(x.b, y.b)}; }
INLINE v32 mul(v32 x, v32 y) { return (v32){_mm512_mul_ps(x.a, y.a), _mm512_mul_ps(x.b, y.b)}; }
INLINE v32 over(v32 x, v32 y) { return (v32){_mm512_div_ps(x.a, y.a), _mm512_div_ps(x.b, y.b)}; }
/* Which of v are at least a threshold; those become `after`. */
INLINE uint32_t exceed(v32 *v, v32 threshold, v32 after) {
    const __mmask16 a = _mm512_cmp_ps_mask(v->a, threshold.a, _CMP_GE_OQ);
    const __mmask16 b = _mm512_cmp_ps_mask(v->b, threshold.b, _CMP_GE_OQ);
    *v = (v32){_mm512_mask_mov_ps(v->a, a, after.a), _mm512_mask_mov_ps(v->b, b, after.b)};
    return (uint32_t)a | (uint32_t)b << 16;
}
/* Masks made by a test of broadcast bits: moving them from general registers costs a port that is scarce. */
INLINE v32 add_where(v32 x, uint32_t m, v32 w) {
    const __m512i low = _mm512_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1 << 10, 1 << 11, 1 << 12, 1 << 13,
                                          1 << 14, 1 << 15);
    const __m512i bits = _mm512_set1_epi32((int)m), high = _mm512_slli_epi32(low, 16);
    return (v32){_mm512_mask_add_ps(x.a, _mm512_test_epi32_mask(bits, low), x.a, w.a),
                 _mm512_mask_add_ps(x.b, _mm512_test_epi32_mask(bits, high), x.b, w.b)};
}
#elif defined(__AVX2__) && !defined(SYNAPRUNE_PORTABLE)
#define PATH "avx2"
#define STEPS 2
typedef struct { __m256 a, b, c, d; } v32;
#define BOTH(f, x, y) (v32){f(x.a, y.a), f(x.b, y.b), f(x.c, y.c), f(x.d, y.d)}
INLINE v32 fill(float x) { const __m256 y = _mm256_set1_ps(x); return (v32){y, y, y, y}; }
INLINE v32 load(const float *x) {
    return (v32){_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24)};
}
INLINE void save(float *x, v32 y) {
    _mm256_storeu_ps(x, y.a), _mm256_storeu_ps(x + 8, y.b), _mm256_storeu_ps(x + 16, y.c), _mm256_storeu_ps(x + 24, y.d);
}
INLINE __m256 look_up_8(const float *x, const int32_t *i) {
    return _mm256_i32gather_ps(x, _mm256_loadu_si256((const __m256i *)i), 4);
}
INLINE v32 look_up(const float *x, const int32_t *i) {
    return (v32){look_up_8(x, i), look_up_8(x, i + 8), look_up_8(x, i + 16), look_up_8(x, i + 24)};
}
INLINE v32 add(v32 x, v32 y) { return BOTH(_mm256_add_ps, x, y); }
INLINE v32 sub(v32 x, v32 y) { return BOTH(_mm256_sub_ps, x, y); }
INLINE v32 mul(v32 x, v32 y) { return BOTH(_mm256_mul_ps, x, y); }
INLINE v32 over(v32 x, v32 y) { return BOTH(_mm256_div_ps, x, y); }
INLINE uint32_t exceed_8(__m256 *v, __m256 threshold, __m256 after) {
    const __m256 above = _mm256_cmp_ps(*v, threshold, _CMP_GE_OQ);
    *v = _mm256_blendv_ps(*v, after, above);
    return (uint32_t)_mm256_movemask_ps(above);
}
INLINE uint32_t exceed(v32 *v, v32 threshold, v32 after) {
    return exceed_8(&v->a, threshold.a, after.a) | exceed_8(&v->b, threshold.b, after.b) << 8 |
           exceed_8(&v->c, threshold.c, after.c) << 16 | exceed_8(&v->d, threshold.d, after.d) << 24;
}
INLINE __m256 add_where_8(__m256 x, __m256i bits, __m256i lanes, __m256 w) {
    return _mm256_add_ps(x, _mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(bits, lanes), lanes)), w));
}
INLINE v32 add_where(v32 x, uint32_t m, v32 w) {
    const __m256i low = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128), bits = _mm256_set1_epi32((int)m);
    return (v32){add_where_8(x.a, bits, low, w.a), add_where_8(x.b, bits, _mm256_slli_epi32(low, 8), w.b),
                 add_where_8(x.c, bits, _mm256_slli_epi32(low, 16), w.c),
                 add_where_8(x.d, bits, _mm256_slli_epi32(low, 24), w.d)};
}
#else
#define PATH "portable"
#define STEPS 1
typedef struct { float v[LANES]; } v32;
#define EACH(r, expression) v32 r; for (int i = 0; i < LANES; i++) r.v[i] = (expression); return r
INLINE v32 fill(float x) { EACH(r, x); }
INLINE v32 load(const float *x) { EACH(r, x[i]); }
INLINE void save(float *x, v32 y) { memcpy(x, y.v, sizeof y.v); }
INLINE v32 look_up(const float *x, const int32_t *at) { EACH(r, x[at[i]]); }
INLINE v32 add(v32 x, v32 y) { EACH(r, x.v[i] + y.v[i]); }
INLINE v32 sub(v32 x, v32 y) { EACH(r, x.v[i] - y.v[i]); }
INLINE v32 mul(v32 x, v32 y) { EACH(r, x.v[i] * y.v[i]); }
INLINE v32 over(v32 x, v32 y) { EACH(r, x.v[i] / y.v[i]); }
INLINE uint32_t exceed(v32 *v, v32 threshold, v32 after) {
    uint32_t m = 0;
    for (int i = 0; i < LANES; i++) {
        const int above = v->v[i] >= threshold.v[i];
        v->v[i] = above ? after.v[i] : v->v[i];
        m |= (uint32_t)above << i;
    }
    return m;
}
#define BITS_4(b) UINT32_C(1) << (b), UINT32_C(1) << ((b) + 1), UINT32_C(1) << ((b) + 2), UINT32_C(1) << ((b) + 3)
static const uint32_t bit_of[LANES] = {BITS_4(0),  BITS_4(4),  BITS_4(8),  BITS_4(12),
                                       BITS_4(16), BITS_4(20), BITS_4(24), BITS_4(28)};
/* A table and not a shift: compilers can then vectorise it for processors that cannot shift each lane by its own. */
INLINE v32 add_where(v32 x, uint32_t m, v32 w) { EACH(r, x.v[i] + ((m & bit_of[i]) == bit_of[i] ? w.v[i] : 0.0f)); }
#endif

/* ---- neurons ---- */

INLINE v32 at_rest(const struct neuron *n) { return fill(n->soft ? 0.0f : n->reset); }

/* Let 32 neurons live through one time step with the current x; return who fires. plain is a constant at each call. */
INLINE uint32_t fire(const struct neuron *n, int plain, v32 *v, v32 x) {
    const v32 threshold = fill(n->threshold), tau = fill(n->tau), rest = plain ? fill(0.0f) : at_rest(n);
    v32 before = *v;
    if (plain) {
        *v = add(*v, mul(sub(x, *v), tau)); /* tau is 1 / tau with by_product */
    } else if (n->kept) {
        *v = add(mul(*v, tau), x);
    } else if (!n->leaky) {
        *v = add(*v, x);
    } else {
        v32 away = sub(*v, rest);
        if (n->decay_input) away = sub(x, away);
        away = n->by_product ? mul(away, tau) : over(away, tau);
        *v = n->decay_input ? add(*v, away) : add(sub(*v, away), x);
    }
    if (!plain && n->late) {
        *v = add_where(*v, exceed(&before, threshold, rest), fill(-n->reset));
        return exceed(v, threshold, *v);
    }
    return exceed(v, threshold, !plain && n->soft ? sub(*v, fill(n->reset)) : rest);
}

/* The n-th of so many equal shares of a count begins here. */
static int32_t share(int32_t count, int32_t n, int32_t shares) { return (int32_t)((int64_t)count * n / shares); }

/* ---- convolution; with one pixel per sample, also a fully connected layer for 32 samples ---- */

/* Sum the currents of one output channel, 32 pixels and n time steps, and fire; n is a constant at each call. */
INLINE void conv_steps(const struct step *s, const uint32_t *bits, int32_t o, int n, int plain, v32 *v, uint32_t *fired) {
    v32 sum[STEPS];
    v32 bias = fill(s->bias ? s->bias[o] : 0.0f);
    UNROLL for (int t = 0; t < n; t++) sum[t] = bias;
    for (int32_t k = s->start[o]; k < s->start[o + 1]; k++) {
        const uint32_t *m = bits + s->where[k];
        v32 w = fill(s->value[k]);
        PREFETCH(bits + s->where[k + AHEAD]); /* the bits of all channels are more than the first cache holds */
        UNROLL for (int t = 0; t < n; t++) sum[t] = add_where(sum[t], m[t], w);
    }
    UNROLL for (int t = 0; t < n; t++) fired[t] = fire(&s->neuron, plain, v, sum[t]);
}

static uint64_t store(uint32_t *out, const uint32_t *fired, uint32_t valid, int32_t T) {
    uint64_t spikes = 0;
    for (int32_t t = 0; t < T; t++) {
        out[t] = fired[t] & valid;
        spikes += (uint64_t)COUNT_BITS(out[t]);
    }
    return spikes;
}

/* where: word of channel, shift and tap, times T. Pixels lead: what 32 of them need of all channels is in the cache. */
INLINE uint64_t conv(const struct step *s, char *work, int32_t T, uint32_t used, int32_t from, int32_t to, int plain) {
    const uint32_t *in = (const uint32_t *)(work + s->in);
    uint32_t *out = (uint32_t *)(work + s->out);
    uint64_t spikes = 0;
    for (int32_t j = 0; j < s->words; j++) {
        for (int32_t o = from; o < to; o++) {
            uint32_t *target = out + ((size_t)o * s->out_stride + s->out_lead + j) * T;
            v32 v = at_rest(&s->neuron);
            int32_t t = 0;
            uint32_t fired[STEPS];
            while (t < T) {
                const uint32_t *bits = in + (size_t)j * T + t;
                int n = T - t;
#if STEPS >= 8
                if (n >= 8) conv_steps(s, bits, o, n = 8, plain, &v, fired); else
                if (n >= 4) conv_steps(s, bits, o, n = 4, plain, &v, fired); else
#endif
#if STEPS >= 2
                if (n >= 2) conv_steps(s, bits, o, n = 2, plain, &v, fired); else
#endif
                conv_steps(s, bits, o, n = 1, plain, &v, fired);
                spikes += store(target + t, fired, s->valid[j] & used, n);
                t += n;
            }
        }
    }
    return spikes;
}

/* Let n words of neurons live with the same current at each time step; side by side, for each waits for its own last
 * step. Word i is written `apart` words behind the one before it. */
INLINE uint64_t fire_steadily(const struct step *s, const v32 *sum, uint32_t *out, size_t apart, const uint32_t *valid,
                              int32_t T, int n, int plain) {
    v32 v[2];
    uint64_t spikes = 0;
    for (int i = 0; i < n; i++) v[i] = at_rest(&s->neuron);
    for (int32_t t = 0; t < T; t++)
        for (int i = 0; i < n; i++) {
            const uint32_t fired = fire(&s->neuron, plain, &v[i], sum[i]);
            spikes += store(out + i * apart + t, &fired, valid[i], 1);
        }
    return spikes;
}

/* Currents from analog planes. where: place of channel and tap among the floats. */
INLINE uint64_t conv_analog_words(const struct step *s, char *work, int32_t T, uint32_t used, int32_t o, int32_t j, int n,
                                  int plain) {
    const float *in = (const float *)(work + s->in) + (size_t)j * LANES;
    uint32_t *out = (uint32_t *)(work + s->out) + ((size_t)o * s->out_stride + s->out_lead + j) * T;
    const uint32_t valid[2] = {s->valid[j] & used, s->valid[j] & used};
    v32 sum[2];
    for (int i = 0; i < n; i++) {
        sum[i] = fill(s->bias ? s->bias[o + i] : 0.0f);
        for (int32_t k = s->start[o + i]; k < s->start[o + i + 1]; k++)
            sum[i] = add(sum[i], mul(fill(s->value[k]), load(in + s->where[k])));
    }
    return fire_steadily(s, sum, out, (size_t)s->out_stride * T, valid, T, n, plain);
}

INLINE uint64_t conv_analog(const struct step *s, char *work, int32_t T, uint32_t used, int32_t from, int32_t to,
                            int plain) {
    uint64_t spikes = 0;
    for (int32_t o = from; o < to; o += 2)
        for (int32_t j = 0; j < s->words; j++)
            spikes += o + 1 < to ? conv_analog_words(s, work, T, used, o, j, 2, plain)
                                 : conv_analog_words(s, work, T, used, o, j, 1, plain);
    return spikes;
}

/* ---- fully connected layers for one sample: each input that spikes visits its list of synapses ---- */

/* Add w to 8 time steps where the mask is all ones. */
INLINE void add_steps(float *sum, const uint32_t *mask, float w) {
    uint32_t bits;
    memcpy(&bits, &w, sizeof bits);
    for (int t = 0; t < 8; t++) {
        uint32_t masked = bits & mask[t];
        float part;
        memcpy(&part, &masked, sizeof part);
        sum[t] += part;
    }
}

/* size: inputs of one channel; table: input of each bit of a channel; start: per slice, channel and input. */
INLINE uint64_t linear(const struct step *s, char *work, int32_t T, int32_t slice, int plain) {
    const uint32_t *in = (const uint32_t *)(work + s->in);
    float *sum = (float *)(work + s->scratch);
    const int32_t steps = (T + 7) / 8 * 8;
    const int32_t from = LANES * share(s->words, slice, s->slices), to = LANES * share(s->words, slice + 1, s->slices);
    uint64_t spikes = 0;
    for (int32_t o = from; o < to; o++)
        for (int32_t t = 0; t < steps; t++) sum[(size_t)o * steps + t] = s->bias ? s->bias[o] : 0.0f;
    for (int32_t c = 0; c < s->channels; c++) {
        const int32_t *start = s->start + (size_t)slice * ((size_t)s->channels * s->size + 1) + (size_t)c * s->size;
        for (int32_t j = 0; j < s->copies; j++) {
            const uint32_t *word = in + ((size_t)c * s->stride + s->lead + j) * T;
            uint32_t any = 0;
            for (int32_t t = 0; t < T; t++) any |= word[t];
            for (; any; any &= any - 1) {
                const int bit = LOW_BIT(any);
                const int32_t i = s->table[j * LANES + bit];
                if (start[i] == start[i + 1]) continue;
                for (int32_t t0 = 0; t0 < T; t0 += 8) {
                    uint32_t mask[8] = {0};
                    for (int32_t t = t0; t < T && t < t0 + 8; t++) mask[t - t0] = 0 - (word[t] >> bit & 1);
                    for (int32_t k = start[i]; k < start[i + 1]; k++)
                        add_steps(sum + (size_t)s->where[k] * steps + t0, mask, s->value[k]);
                }
            }
        }
    }
    for (int32_t o = from; o < to; o += LANES) {
        uint32_t *out = (uint32_t *)(work + s->out) + ((size_t)s->out_lead + o / LANES) * T;
        v32 v = at_rest(&s->neuron);
        for (int32_t t = 0; t < T; t++) {
            float x[LANES];
            for (int i = 0; i < LANES; i++) x[i] = sum[(size_t)(o + i) * steps + t];
            const uint32_t fired = fire(&s->neuron, plain, &v, load(x));
            spikes += store(out + t, &fired, s->valid[o / LANES], 1);
        }
    }
    return spikes;
}

/* start: of each word of outputs, in rows of 32; where: input of each output of a row, the n-th of its list; a list
 * that has ended goes on with weights of 0. Outputs are sorted by length of list within a slice; table: their places
 * in scratch, where the currents wait. */
INLINE uint64_t linear_analog(const struct step *s, char *work, int32_t T, int32_t slice, int plain) {
    const float *in = (const float *)(work + s->in);
    float *sums = (float *)(work + s->scratch);
    const int32_t from = share(s->words, slice, s->slices), to = share(s->words, slice + 1, s->slices);
    uint64_t spikes = 0;
    for (int32_t j = from; j < to; j++) {
        v32 sum = s->bias ? load(s->bias + (size_t)j * LANES) : fill(0.0f);
        for (size_t k = (size_t)s->start[j] * LANES; k < (size_t)s->start[j + 1] * LANES; k += LANES)
            sum = add(sum, mul(load(s->value + k), look_up(in, s->where + k)));
        save(sums + (size_t)j * LANES, sum);
    }
    for (int32_t j = from; j < to; j += 2) {
        uint32_t *out = (uint32_t *)(work + s->out) + ((size_t)s->out_lead + j) * T;
        const int32_t *place = s->table + (size_t)j * LANES;
        const v32 sum[2] = {look_up(sums, place), j + 1 < to ? look_up(sums, place + LANES) : fill(0.0f)};
        spikes += j + 1 < to ? fire_steadily(s, sum, out, (size_t)T, s->valid + j, T, 2, plain)
                             : fire_steadily(s, sum, out, (size_t)T, s->valid + j, T, 1, plain);
    }
    return spikes;
}

/* ---- rearranging bits ---- */

/* Or a channel into another of the same size, its string read from bit 32 words + bits on; zeros are around it. */
INLINE void or_from(uint32_t *out, const uint32_t *in, int64_t size, int32_t T, int32_t words, int32_t bits) {
    for (int high = 0; high < (bits ? 2 : 1); high++) {
        const int64_t away = (int64_t)(words + high) * T;
        const int64_t from = away < 0 ? -away : 0, to = away > 0 ? size - away : size;
        if (high)
            for (int64_t k = from; k < to; k++) out[k] |= in[k + away] << (32 - bits);
        else
            for (int64_t k = from; k < to; k++) out[k] |= in[k + away] >> bits;
    }
}

/* table: the shifts in bits, one for each copy. */
static void shift(const struct step *s, char *work, int32_t T, int32_t from, int32_t to) {
    const size_t size = (size_t)s->stride * T;
    for (int32_t c = from; c < to; c++)
        for (int32_t i = 0; i < s->copies; i++) {
            uint32_t *out = (uint32_t *)(work + s->out) + ((size_t)c * s->copies + i) * size;
            memset(out, 0, size * sizeof *out);
            or_from(out, (const uint32_t *)(work + s->in) + c * size, (int64_t)size, T, 0, s->table[i]);
        }
}

/* table: size pairs of a bit in the planes of a channel that go out, and of the bit that comes in. */
static void gather(const struct step *s, char *work, int32_t T, int32_t from, int32_t to) {
    const size_t planes = (size_t)s->copies * s->out_stride * T;
    for (int32_t c = from; c < to; c++) {
        const uint32_t *in = (const uint32_t *)(work + s->in) + (size_t)c * s->stride * T;
        uint32_t *out = (uint32_t *)(work + s->out) + c * planes;
        memset(out, 0, planes * sizeof *out);
        for (int32_t k = 0; k < s->size; k++) {
            const int32_t target = s->table[2 * k], source = s->table[2 * k + 1];
            uint32_t *word = out + (size_t)(target / LANES) * T;
            const uint32_t *origin = in + (size_t)(source / LANES) * T;
            for (int32_t t = 0; t < T; t++) word[t] |= (origin[t] >> source % LANES & 1) << target % LANES;
        }
    }
}

/* The largest of a window, for spikes: any of them. table: size pairs of words and bits by which a tap is away. */
static void pool_max(const struct step *s, char *work, int32_t T, int32_t from, int32_t to) {
    const size_t size = (size_t)s->stride * T;
    for (int32_t c = from; c < to; c++) {
        const uint32_t *in = (const uint32_t *)(work + s->in) + c * size;
        uint32_t *out = (uint32_t *)(work + s->out) + c * size;
        memset(out, 0, size * sizeof *out);
        for (int32_t k = 0; k < s->size; k++)
            or_from(out, in, (int64_t)size, T, s->table[2 * k], s->table[2 * k + 1]);
    }
}

/* The sum of a window as a binary number, one plane for each bit. scratch: one plane for each rank. */
static void pool_sum(const struct step *s, char *work, int32_t T, int32_t from, int32_t to, int32_t rank) {
    const size_t size = (size_t)s->stride * T;
    uint32_t *carry = (uint32_t *)(work + s->scratch) + rank * size;
    for (int32_t c = from; c < to; c++) {
        const uint32_t *in = (const uint32_t *)(work + s->in) + (size_t)c * s->bits_in * size;
        uint32_t *out = (uint32_t *)(work + s->out) + (size_t)c * s->bits_out * size;
        memset(out, 0, s->bits_out * size * sizeof *out);
        for (int32_t k = 0; k < s->size; k++)
            for (int32_t b = 0; b < s->bits_in; b++) {
                memset(carry, 0, size * sizeof *carry);
                or_from(carry, in + b * size, (int64_t)size, T, s->table[2 * k], s->table[2 * k + 1]);
                for (int32_t d = b; d < s->bits_out; d++) {
                    uint32_t *digit = out + d * size;
                    for (size_t i = 0; i < size; i++) {
                        const uint32_t both = digit[i] & carry[i];
                        digit[i] ^= carry[i];
                        carry[i] = both;
                    }
                }
            }
    }
}

/* ---- from the caller's arrays and back ---- */

/* table: where each of size values goes. With lanes, sample n of a value is its n-th float. Return 1 for NaN, inf. */
static int place(const struct step *s, char *work, const struct call *call, int64_t first, int32_t used) {
    float *out = (float *)(work + s->out);
    const float *x = (const float *)call->x + first * call->x_sample;
    uint32_t wild = 0;
    for (int32_t n = 0; n < used; n++)
        for (int32_t i = 0; i < s->size; i++) {
            uint32_t bits;
            memcpy(&bits, x + n * call->x_sample + i, sizeof bits);
            wild |= (bits & UINT32_C(0x7f800000)) == UINT32_C(0x7f800000);
        }
    if (used == 1 && s->copies) /* the values stay in a row */
        memcpy(out, x, (size_t)s->size * sizeof *x);
    else for (int32_t i = 0; i < s->size; i++)
        if (s->table[i] >= 0)
            for (int32_t n = 0; n < used; n++) out[(size_t)s->table[i] + n] = x[n * call->x_sample + i];
    return (int)wild;
}

/* table: which bit of the input, words of all channels in a row, each of size values is. Return 1 unless 0 or 1. */
static int place_bits(const struct step *s, char *work, const struct call *call, int64_t first, int32_t used, int32_t T) {
    uint32_t *out = (uint32_t *)(work + s->out);
    int wild = 0;
    memset(out, 0, (size_t)s->channels * s->stride * T * sizeof *out);
    for (int32_t n = 0; n < used; n++)
        for (int32_t t = 0; t < T; t++) {
            const uint8_t *x = (const uint8_t *)call->x + (first + n) * call->x_sample + t * call->x_step;
            for (int32_t i = 0; i < s->size; i++) {
                const int64_t bit = (int64_t)s->table[i] + n;
                wild |= x[i] > 1;
                out[(size_t)(bit / LANES) * T + t] |= (uint32_t)(x[i] & 1) << bit % LANES;
            }
        }
    return wild;
}

/* table: for each of size outputs its bit, words of all channels in a row. */
static void count(const struct step *s, const char *work, const struct network *net, float *votes, int32_t used) {
    const uint32_t *in = (const uint32_t *)(work + s->in);
    for (int32_t n = 0; n < used; n++)
        for (int32_t o = 0; o < s->size; o += net->group) {
            int32_t total = 0;
            for (int32_t i = o; i < o + net->group; i++) {
                const int64_t bit = (int64_t)s->table[i] + n;
                for (int32_t t = 0; t < net->T; t++)
                    total += (int32_t)(in[(size_t)(bit / LANES) * net->T + t] >> bit % LANES & 1);
            }
            *votes++ = (float)total / net->unit;
        }
}

/* ---- one call ---- */

/* Wait for the other ranks. Spins, for steps are short; lets others go first where that takes long. */
static void meet(struct barrier *b, int32_t ranks) {
    if (ranks == 1) return;
    const int phase = atomic_load(&b->phase);
    if (atomic_fetch_add(&b->arrived, 1) == ranks - 1) {
        atomic_store(&b->arrived, 0);
        atomic_store(&b->phase, phase + 1);
        return;
    }
    for (int spins = 0; atomic_load(&b->phase) == phase; spins++) {
#ifndef __STDC_NO_THREADS__
        if (spins > 2000) thrd_yield();
#endif
    }
}

INLINE uint64_t synapses(const struct step *s, char *work, int32_t T, uint32_t mask, int32_t rank, int32_t ranks, int plain) {
    const int32_t from = share(s->channels, rank, ranks), to = share(s->channels, rank + 1, ranks);
    uint64_t spikes = 0;
    if (s->kind == CONV) return conv(s, work, T, mask, from, to, plain);
    if (s->kind == CONV_ANALOG) return conv_analog(s, work, T, mask, from, to, plain);
    for (int32_t slice = rank; slice < s->slices; slice += ranks)
        spikes += s->kind == LINEAR ? linear(s, work, T, slice, plain) : linear_analog(s, work, T, slice, plain);
    return spikes;
}

static uint64_t carry_out(const struct step *s, char *work, int32_t T, uint32_t mask, int32_t rank, int32_t ranks) {
    const int32_t from = share(s->channels, rank, ranks), to = share(s->channels, rank + 1, ranks);
    switch (s->kind) {
    case SHIFT: shift(s, work, T, from, to); return 0;
    case GATHER: gather(s, work, T, from, to); return 0;
    case POOL_MAX: pool_max(s, work, T, from, to); return 0;
    case POOL_SUM: pool_sum(s, work, T, from, to, rank); return 0;
    default: break;
    }
    return s->neuron.plain ? synapses(s, work, T, mask, rank, ranks, 1) : synapses(s, work, T, mask, rank, ranks, 0);
}

const char *synaprune_path(void) { return PATH; }

#ifdef SYNAPRUNE_CEILING
/* Add a number so many times in each lane of the vectors that fill the registers, into sums; return how many lanes
 * there are. For timing alone. */
int32_t synaprune_add(int32_t times, float number, float *sums) {
    v32 sum[STEPS], x = fill(number);
    UNROLL for (int t = 0; t < STEPS; t++) sum[t] = load(sums + t * LANES);
    for (int32_t i = 0; i < times; i++) {
        UNROLL for (int t = 0; t < STEPS; t++) sum[t] = add(sum[t], x);
    }
    UNROLL for (int t = 0; t < STEPS; t++) save(sums + t * LANES, sum[t]);
    return STEPS * LANES;
}
#endif

/* Sizes of the structs, so that the caller can tell that it means the same ones. */
void synaprune_sizes(int32_t *sizes) {
    sizes[0] = (int32_t)sizeof(struct step);
    sizes[1] = (int32_t)sizeof(struct network);
    sizes[2] = (int32_t)sizeof(struct call);
    sizes[3] = (int32_t)sizeof(struct barrier);
}

/* Run all samples of a call. With several ranks, each calls this with the same working memory, whose first bytes
 * are the barrier; it is all zeros at first and stays fit for the next call. Return 1 for a value in x that is not
 * finite, or, of spikes, not 0 or 1. */
int32_t synaprune_run(const struct network *net, char *work, const struct call *call) {
    struct barrier *barrier = (struct barrier *)work;
    const int32_t lanes = net->lanes;
    for (int32_t i = 0; i < net->count; i++) call->spikes[net->steps[i].layer] = 0;
    for (int64_t first = 0; first < call->samples; first += lanes) {
        const int32_t used = call->samples - first < lanes ? (int32_t)(call->samples - first) : lanes;
        const uint32_t mask = lanes > 1 && used < LANES ? (UINT32_C(1) << used) - 1 : UINT32_MAX;
        for (int32_t i = 0; i < net->count; i++) {
            const struct step *s = net->steps + i;
            const int placing = s->kind == PLACE || s->kind == PLACE_BITS;
            if (placing) {
                if (call->rank == 0)
                    atomic_store(&barrier->wild, s->kind == PLACE ? place(s, work, call, first, used)
                                                                  : place_bits(s, work, call, first, used, net->T));
            } else if (s->kind == COUNT) {
                if (call->rank == 0) count(s, work, net, call->votes + first * (s->size / net->group), used);
            } else {
                call->spikes[s->layer] += carry_out(s, work, net->T, mask, call->rank, call->ranks);
            }
            meet(barrier, call->ranks);
            if (placing && atomic_load(&barrier->wild)) return 1; /* not later: rank 0 may be at the next sample */
        }
    }
    return 0;
}
