"""Trigonometric functions and powers in float: branch-free C that compilers turn into vector code.

Arguments are reduced in double precision. Below 2^28 a multiple of pi/2 in two parts is taken off; above,
the bits of 2/pi that matter are multiplied with the significand, so that no argument is too large.
Polynomials for sine and cosine are those of FreeBSD's msun, for inverse functions those of Cephes.
"""

from __future__ import annotations

from intaglio.native.helper import Helper

HELPERS = {
    "reduce_huge_f32": Helper(
        """/* x as n * pi/2 + r for 2^28 <= x < infinity, n modulo 4: x times the bits of 2/pi that matter */
static inline double reduce_huge_f32(float x, int32_t *n) {
    uint64_t w0 = 0xa2f9836e4e441529ull, w1 = 0xfc2757d1f534ddc0ull, w2 = 0xdb6295993c439041ull;
    uint64_t w3 = 0xfe5163abdebbc561ull;
    uint32_t bits = bits_f32_u32(x);
    uint64_t m = (bits & 0x007fffffu) | 0x00800000u;
    uint32_t shift = (bits >> 23) - 152u, s = shift & 63u;
    bool far = shift >= 64u;
    uint64_t a = far ? w1 : w0, b = far ? w2 : w1, c = far ? w3 : w2;
    uint64_t high = a << s | b >> 1 >> (63u - s), low = b << s | c >> 1 >> (63u - s);
    uint64_t product = m * high + (m * (low >> 32) >> 32);
    uint64_t quadrant = (product + 0x2000000000000000ull) >> 62;
    *n = (int32_t)quadrant;
    return (double)(int64_t)(product - (quadrant << 62)) * 3.406121580086554e-19;
}""",
        ("bits_f32_u32",),
    ),
    "reduce_f32": Helper(
        """/* x as n * pi/2 + r with |r| <= pi/4, n modulo 4 */
static inline double reduce_f32(float x, int32_t *n) {
    float a = fabsf(x);
    bool huge = !(a < 268435456.0f);
    int32_t n_huge;
    double r_huge = reduce_huge_f32(huge && a < INFINITY ? a : 268435456.0f, &n_huge);
    double small = huge ? 0.0 : (double)x;
    double count = (small * 0.6366197723675814 + 6755399441055744.0) - 6755399441055744.0;
    double r = (small - count * 1.5707963109016418) - count * 1.5893254773528197e-08;
    *n = huge ? (x < 0.0f ? -n_huge : n_huge) : (int32_t)count;
    return huge ? (x < 0.0f ? -r_huge : r_huge) : r;
}""",
        ("reduce_huge_f32",),
        ("math.h",),
    ),
    "sin_core_f32": Helper(
        """/* sin(r) for |r| <= pi/4 */
static inline double sin_core_f32(double r) {
    double z = r * r;
    double p = -0.00019839334836096632 + z * 2.718311493989822e-06;
    return r + r * z * (-0.16666666641626524 + z * 0.008333329385889463) + r * z * z * z * p;
}"""
    ),
    "cos_core_f32": Helper(
        """/* cos(r) for |r| <= pi/4 */
static inline double cos_core_f32(double r) {
    double z = r * r;
    double p = -0.001388676377460993 + z * 2.439044879627741e-05;
    return 1.0 + z * -0.499999997251031 + z * z * 0.04166662332373906 + z * z * z * p;
}"""
    ),
    "sin_f32": Helper(
        """/* sine; error below 1 ULP */
static inline float sin_f32(float x) {
    int32_t n;
    double r = reduce_f32(x, &n), y = n & 1 ? cos_core_f32(r) : sin_core_f32(r);
    y = n & 2 ? -y : y;
    return fabsf(x) < 1e-4f ? x : fabsf(x) < INFINITY ? (float)y : NAN;
}""",
        ("reduce_f32", "sin_core_f32", "cos_core_f32"),
        ("math.h",),
    ),
    "cos_f32": Helper(
        """/* cosine; error below 1 ULP */
static inline float cos_f32(float x) {
    int32_t n;
    double r = reduce_f32(x, &n), y = n & 1 ? sin_core_f32(r) : cos_core_f32(r);
    y = (n + 1) & 2 ? -y : y;
    return fabsf(x) < INFINITY ? (float)y : NAN;
}""",
        ("reduce_f32", "sin_core_f32", "cos_core_f32"),
        ("math.h",),
    ),
    "tan_f32": Helper(
        """/* tangent; error below 1 ULP */
static inline float tan_f32(float x) {
    int32_t n;
    double r = reduce_f32(x, &n), s = sin_core_f32(r), c = cos_core_f32(r);
    double y = n & 1 ? -c / s : s / c;
    return fabsf(x) < 1e-4f ? x : fabsf(x) < INFINITY ? (float)y : NAN;
}""",
        ("reduce_f32", "sin_core_f32", "cos_core_f32"),
        ("math.h",),
    ),
    "asin_core_f32": Helper(
        """/* asin(t) for 0 <= t <= 1/2, given z = t^2 */
static inline float asin_core_f32(float t, float z) {
    float p = 4.21632e-2f;
    p = p * z + 2.4181312e-2f;
    p = p * z + 4.5470025e-2f;
    p = p * z + 7.4953005e-2f;
    p = p * z + 0.16666752f;
    return p * z * t + t;
}"""
    ),
    "asin_f32": Helper(
        """/* inverse sine; error below 3 ULP */
static inline float asin_f32(float x) {
    float a = fabsf(x);
    float z = a > 0.5f ? 0.5f * (1.0f - a) : a * a;
    float t = asin_core_f32(a > 0.5f ? sqrtf(z) : a, z);
    return copysignf(a > 0.5f ? 1.5707964f - 2.0f * t : t, x);
}""",
        ("asin_core_f32",),
        ("math.h",),
    ),
    "acos_f32": Helper(
        """/* inverse cosine; error below 3 ULP */
static inline float acos_f32(float x) {
    float a = fabsf(x);
    float z = a > 0.5f ? 0.5f * (1.0f - a) : a * a;
    float t = asin_core_f32(a > 0.5f ? sqrtf(z) : a, z);
    float near = (x < 0.0f ? 1.5707964f + (t - 4.371139e-8f) : 1.5707964f - (t + 4.371139e-8f));
    float far = x < 0.0f ? 3.1415927f - (2.0f * t + 8.742278e-8f) : 2.0f * t;
    return a > 0.5f ? far : near;
}""",
        ("asin_core_f32",),
        ("math.h",),
    ),
    "atan_f32": Helper(
        """/* inverse tangent; error below 3 ULP */
static inline float atan_f32(float x) {
    float a = fabsf(x);
    float t = a > 2.4142137f ? -1.0f / a : a > 0.41421357f ? (a - 1.0f) / (a + 1.0f) : a, z = t * t;
    float p = 8.053745e-2f;
    p = p * z - 0.13877686f;
    p = p * z + 0.1997771f;
    p = p * z - 0.3333295f;
    float y = p * z * t + t;
    return copysignf(a > 2.4142137f ? 1.5707964f + y : a > 0.41421357f ? 0.7853982f + y : y, x);
}""",
        (),
        ("math.h",),
    ),
    "atan2_f32": Helper(
        """/* the angle of the point (x, y); error below 4 ULP */
static inline float atan2_f32(float y, float x) {
    float a = fabsf(x), b = fabsf(y);
    float q = b == a ? (b == 0.0f ? 0.0f : 1.0f) : b / a;
    float t = x != x || y != y ? NAN : atan_f32(q);
    bool left = copysignf(1.0f, x) < 0.0f;
    return copysignf(left ? 3.1415927f - (t + 8.742278e-8f) : t, y);
}""",
        ("atan_f32",),
        ("math.h",),
    ),
    "square_f32": Helper("static inline float square_f32(float x) {\n    return x * x;\n}"),
    "pow_f32": Helper(
        """/* x^y through double precision; error below 1 ULP */
static inline float pow_f32(float x, float y) {
    float a = fabsf(x), k, f = log_split_f32(a > 0.0f && a < INFINITY ? a : 1.0f, &k);
    double s = (double)f / (2.0 + (double)f), w = s * s;
    double p = 1.0 / 13 + w * (1.0 / 15);
    p = 1.0 / 7 + w * (1.0 / 9 + w * (1.0 / 11 + w * p));
    p = 1.0 + w * (1.0 / 3 + w * (1.0 / 5 + w * p));
    double e = (double)y * ((double)k + s * p * 2.8853900817779268);
    e = e < -200.0 ? -200.0 : e > 200.0 ? 200.0 : e == e ? e : 0.0;
    double n = (e + 6755399441055744.0) - 6755399441055744.0, r = (e - n) * 0.6931471805599453;
    double q = 1.0 / 5040 + r * (1.0 / 40320 + r * (1.0 / 362880));
    q = 1.0 / 24 + r * (1.0 / 120 + r * (1.0 / 720 + r * q));
    q = 1.0 + r * (1.0 + r * (1.0 / 2 + r * (1.0 / 6 + r * q)));
    float power = (float)(q * bits_u64_f64((uint64_t)((int64_t)n + 1023) << 52));
    float z = y < 0.0f ? INFINITY : 0.0f;
    power = a == 0.0f ? z : a == INFINITY ? (y < 0.0f ? 0.0f : INFINITY) : power;
    power = (fabsf(y) == INFINITY) & (a != 1.0f) ? ((a < 1.0f) == (y < 0.0f) ? INFINITY : 0.0f) : power;
    int32_t n_y = (int32_t)(fabsf(y) < 16777216.0f ? y : 0.0f);
    bool whole = (fabsf(y) >= 8388608.0f) | (y == (float)n_y), odd = whole & ((n_y & 1) != 0);
    power = (x < 0.0f) & !whole & (a < INFINITY) ? NAN : power;
    power = (bits_f32_u32(x) >> 31 != 0) & odd ? -power : power;
    power = (x != x) | (y != y) ? NAN : power;
    return (x == 1.0f) | (y == 0.0f) ? 1.0f : power;
}""",
        ("log_split_f32", "bits_u64_f64", "bits_f32_u32"),
        ("math.h",),
    ),
}
