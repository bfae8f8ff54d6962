"""Exponentials and logarithms in float: branch-free C that compilers turn into vector code.

Coefficients are minimax fits, many as in Moshier's Cephes library. The bounds that stand in the comments are
tested over all exponents against double precision; infinities, NaN and denormals are exact.
"""

from __future__ import annotations

from intaglio.native.helper import Helper

_BITS = ("bits_f32_u32", "bits_u32_f32")

CORES = {"exp_f32": ("exp_core_f32", -105.0, 90.0)}
"""Functions that are a core between bounds. Vectors are bounded first: where bounds and core are one loop,
compilers work out what the core is at the bounds and choose between three results."""

HELPERS = {
    "scale_f32": Helper(
        """/* x * 2^k for -252 <= k <= 254 */
static inline float scale_f32(float x, int32_t k) {
    int32_t half = k >> 1;
    float a = bits_u32_f32((uint32_t)(half + 127) << 23);
    float b = bits_u32_f32((uint32_t)(k - half + 127) << 23);
    return x * a * b;
}""",
        ("bits_u32_f32",),
    ),
    "round_core_f32": Helper(
        """/* the integer nearest to x, as a float, for |x| < 2^22 */
static inline float round_core_f32(float x) {
    return (x + 12582912.0f) - 12582912.0f;
}"""
    ),
    "expm1_core_f32": Helper(
        """/* e^r - 1 for |r| <= ln(2) / 2 */
static inline float expm1_core_f32(float r) {
    float p = 1.9875691e-4f;
    p = p * r + 1.3981999e-3f;
    p = p * r + 8.333452e-3f;
    p = p * r + 4.1665796e-2f;
    p = p * r + 0.16666666f;
    p = p * r + 0.5f;
    return p * (r * r) + r;
}"""
    ),
    "exp_core_f32": Helper(
        """/* e^x for -105 <= x <= 90 */
static inline float exp_core_f32(float x) {
    float near = x * 1.442695f + 12583166.0f; /* low bits: 254 + n, n near x / ln(2) */
    float n = near - 12583166.0f;
    float r = (x - n * 0.693359375f) + n * 2.1219444e-4f;
    uint32_t bits = bits_f32_u32(near), half = bits >> 1;
    float a = bits_u32_f32(half << 23), b = bits_u32_f32((bits - half) << 23); /* a * b is 2^n */
    return (1.0f + expm1_core_f32(r)) * a * b;
}""",
        ("expm1_core_f32", *_BITS),
    ),
    "exp_core_f32x16": Helper(
        """/* e^x for -105 <= x <= 90 */
static inline f32x16 exp_core_f32x16(f32x16 x) {
    f32x16 n = (x * 1.442695f + 12582912.0f) - 12582912.0f; /* the integer near x / ln(2) */
    f32x16 r = (x - n * 0.693359375f) + n * 2.1219444e-4f;
    f32x16 p = r * 1.9875691e-4f + 1.3981999e-3f;
    p = p * r + 8.333452e-3f;
    p = p * r + 4.1665796e-2f;
    p = p * r + 0.16666666f;
    p = p * r + 0.5f;
    p = 1.0f + (p * (r * r) + r);
#if defined(__AVX512F__)
    return (f32x16)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    u32x16 k = (u32x16)__builtin_convertvector(n + 254.0f, i32x16), half = k >> 1;
    return p * (f32x16)(half << 23) * (f32x16)((k - half) << 23);
#endif
}""",
        ("f32x16", "i32x16", "u32x16", "IMMINTRIN"),
    ),
    "exp_f32": Helper(
        """/* e^x; error below 1.5 ULP */
static inline float exp_f32(float x) {
    x = x < -105.0f ? -105.0f : x;
    x = x > 90.0f ? 90.0f : x;
    return exp_core_f32(x);
}""",
        ("exp_core_f32",),
    ),
    "exp2_f32": Helper(
        """/* 2^x; error below 1.5 ULP */
static inline float exp2_f32(float x) {
    x = x < -151.0f ? -151.0f : x > 129.0f ? 129.0f : x;
    float n = round_core_f32(x);
    return scale_f32(1.0f + expm1_core_f32((x - n) * 0.6931472f), x == x ? (int32_t)n : 0);
}""",
        ("scale_f32", "round_core_f32", "expm1_core_f32"),
    ),
    "expm1_f32": Helper(
        """/* e^x - 1, accurate near 0; error below 2.5 ULP */
static inline float expm1_f32(float x) {
    float c = x < -18.0f ? -18.0f : x > 90.0f ? 90.0f : x;
    float n = round_core_f32(c * 1.442695f);
    n = n > 128.0f ? 128.0f : n;
    float r = (c - n * 0.693359375f) + n * 2.1219444e-4f;
    float half = bits_u32_f32((uint32_t)((x == x ? (int32_t)n : 0) + 126) << 23);
    float y = 2.0f * (half * expm1_core_f32(r) + (half - 0.5f));
    return x == 0.0f ? x : c > 88.8f ? INFINITY : y;
}""",
        ("bits_u32_f32", "round_core_f32", "expm1_core_f32"),
        ("math.h",),
    ),
    "log_core_f32": Helper(
        """/* ln(1 + f) - f for sqrt(1/2) <= 1 + f < sqrt(2) */
static inline float log_core_f32(float f) {
    float p = 7.0376836e-2f;
    p = p * f - 0.1151461f;
    p = p * f + 0.11676999f;
    p = p * f - 0.12420141f;
    p = p * f + 0.14249323f;
    p = p * f - 0.16668057f;
    p = p * f + 0.20000714f;
    p = p * f - 0.24999994f;
    p = p * f + 0.3333333f;
    float z = f * f;
    return p * f * z - 0.5f * z;
}"""
    ),
    "log_split_f32": Helper(
        """/* x = 2^k * (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), for finite x > 0 */
static inline float log_split_f32(float x, float *k) {
    bool tiny = x < 1.1754944e-38f;
    uint32_t bits = bits_f32_u32(tiny ? x * 8388608.0f : x) - 0x3f3504f3u;
    *k = (float)((int32_t)bits >> 23) - (tiny ? 23.0f : 0.0f);
    return bits_u32_f32((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
}""",
        _BITS,
    ),
    "log_limits_f32": Helper(
        """/* y, or what a logarithm of x is at 0, infinity, negative numbers and NaN */
static inline float log_limits_f32(float x, float y) {
    y = x == 0.0f ? -INFINITY : x == INFINITY ? x : y;
    return x >= 0.0f ? y : NAN;
}""",
        (),
        ("math.h",),
    ),
    "log_f32": Helper(
        """/* natural logarithm; error below 1.5 ULP */
static inline float log_f32(float x) {
    float k, f = log_split_f32(x, &k);
    float y = log_core_f32(f) - k * 2.1219444e-4f;
    return log_limits_f32(x, (y + f) + k * 0.693359375f);
}""",
        ("log_split_f32", "log_core_f32", "log_limits_f32"),
    ),
    "log2_f32": Helper(
        """/* logarithm to base 2; error below 2 ULP */
static inline float log2_f32(float x) {
    float k, f = log_split_f32(x, &k), y = log_core_f32(f);
    return log_limits_f32(x, (y * 0.44269504f + f * 0.44269504f + y + f) + k);
}""",
        ("log_split_f32", "log_core_f32", "log_limits_f32"),
    ),
    "log10_f32": Helper(
        """/* logarithm to base 10; error below 2 ULP */
static inline float log10_f32(float x) {
    float k, f = log_split_f32(x, &k), y = log_core_f32(f);
    float low = y * 7.007319e-4f + f * 7.007319e-4f + k * 2.4874566e-4f;
    return log_limits_f32(x, low + y * 0.43359375f + f * 0.43359375f + k * 0.30078125f);
}""",
        ("log_split_f32", "log_core_f32", "log_limits_f32"),
    ),
    "log1p_f32": Helper(
        """/* ln(1 + x), accurate near 0; error below 2 ULP */
static inline float log1p_f32(float x) {
    float u = 1.0f + x;
    float lost = u > 0.0f && u < INFINITY ? (x - (u - 1.0f)) / u : 0.0f;
    return x == 0.0f ? x : log_f32(u) + lost;
}""",
        ("log_f32",),
        ("math.h",),
    ),
    "sigmoid_f32": Helper(
        """/* 1 / (1 + e^-x) */
static inline float sigmoid_f32(float x) {
    return 1.0f / (1.0f + exp_f32(-x));
}""",
        ("exp_f32",),
    ),
    "tanh_f32": Helper(
        """/* hyperbolic tangent; error below 2 ULP */
static inline float tanh_f32(float x) {
    float a = fabsf(x) > 10.0f ? 10.0f : fabsf(x);
    float near = 12582912.0f - a * 2.8853901f; /* low bits: n, the integer nearest to -2 a / ln(2) */
    float r = -a - (near - 12582912.0f) * 0.34657359f;
    float p = 0.044474367f;
    p = p * r + 0.13385798f;
    p = p * r + 0.33333483f;
    p = p * r + 0.6666619f;
    p = p * r + 1.0f;
    float q = p * (r * r) + r; /* (e^(2 r) - 1) / 2 */
    float half = bits_u32_f32((bits_f32_u32(near) << 23) + 0x3f000000u), power = half + half; /* 2^n */
    return copysignf(((0.5f - half) - q * power) / ((0.5f + half) + q * power), x);
}""",
        _BITS,
        ("math.h",),
    ),
    "sinh_f32": Helper(
        """/* hyperbolic sine; error below 4 ULP */
static inline float sinh_f32(float x) {
    float a = fabsf(x), t = expm1_f32(a > 30.0f ? 30.0f : a), root = exp_f32(0.5f * a);
    float y = a > 20.0f ? 0.5f * root * root : 0.5f * (t + t / (t + 1.0f));
    return copysignf(y, x);
}""",
        ("exp_f32", "expm1_f32"),
        ("math.h",),
    ),
    "cosh_f32": Helper(
        """/* hyperbolic cosine; error below 4 ULP */
static inline float cosh_f32(float x) {
    float root = exp_f32(0.5f * fabsf(x)), e = root * root;
    return fabsf(x) > 20.0f ? 0.5f * root * root : 0.5f * (e + 1.0f / e);
}""",
        ("exp_f32",),
        ("math.h",),
    ),
    "asinh_f32": Helper(
        """/* inverse hyperbolic sine; error below 4 ULP */
static inline float asinh_f32(float x) {
    float a = fabsf(x), s = a * a;
    float y = log1p_f32(a + s / (1.0f + sqrtf(s + 1.0f)));
    return copysignf(a > 1e8f ? log_f32(a) + 0.6931472f : y, x);
}""",
        ("log1p_f32", "log_f32"),
        ("math.h",),
    ),
    "acosh_f32": Helper(
        """/* inverse hyperbolic cosine; error below 4 ULP */
static inline float acosh_f32(float x) {
    float t = x - 1.0f;
    float y = log1p_f32(t + sqrtf(2.0f * t + t * t));
    return x > 1e8f ? log_f32(x) + 0.6931472f : x >= 1.0f ? y : NAN;
}""",
        ("log1p_f32", "log_f32"),
        ("math.h",),
    ),
    "atanh_f32": Helper(
        """/* inverse hyperbolic tangent; error below 4 ULP */
static inline float atanh_f32(float x) {
    float a = fabsf(x);
    return copysignf(0.5f * log1p_f32(2.0f * a / (1.0f - a)), x);
}""",
        ("log1p_f32",),
        ("math.h",),
    ),
    "erf_f32": Helper(
        """/* error function; error below 2.5 ULP */
static inline float erf_f32(float x) {
    float t = fabsf(x) > 3.925f ? 3.925f : fabsf(x), s = x * x;
    float p = 1.1532533e-5f;
    p = p * t - 2.2783238e-4f;
    p = p * t + 0.0017684554f;
    p = p * t - 0.0062363087f;
    p = p * t + 0.006668558f;
    p = p * t + 0.00877035f;
    p = p * t + 0.023742715f;
    p = p * t - 0.12384878f;
    p = p * t - 0.28068256f;
    p = p * t + 0.99980336f;
    float root = p * p; /* p^4 is 1 - erf(t) */
    float q = -5.967617e-4f;
    q = q * s + 4.9911942e-3f;
    q = q * s - 2.6768135e-2f;
    q = q * s + 0.11281993f;
    q = q * s - 0.37612534f;
    q = q * s + 0.12837917f;
    return t > 0.9277344f ? copysignf(1.0f - root * root, x) : q * x + x;
}""",
        (),
        ("math.h",),
    ),
}
