/* The mathematics library: double and float, with the tests for special values written as expressions. */
#ifndef INTAGLIO_MATH_H
#define INTAGLIO_MATH_H

#define INFINITY (1.0f / 0.0f)
#define NAN (0.0f / 0.0f)
#define HUGE_VAL (1.0 / 0.0)

#define isnan(x) ((x) != (x))
#define isinf(x) ((x) == INFINITY || (x) == -INFINITY)
#define isfinite(x) ((x) - (x) == 0)
#define signbit(x) (sizeof(x) == sizeof(float) ? __signbitf((float)(x)) != 0 : __signbit((double)(x)) != 0)

int __signbit(double x);
int __signbitf(float x);

#define INTAGLIO_UNARY(name) \
    double name(double x);   \
    float name##f(float x);
#define INTAGLIO_BINARY(name)         \
    double name(double x, double y); \
    float name##f(float x, float y);

INTAGLIO_UNARY(exp) INTAGLIO_UNARY(exp2) INTAGLIO_UNARY(expm1)
INTAGLIO_UNARY(log) INTAGLIO_UNARY(log2) INTAGLIO_UNARY(log10) INTAGLIO_UNARY(log1p)
INTAGLIO_UNARY(sqrt) INTAGLIO_UNARY(cbrt) INTAGLIO_UNARY(fabs)
INTAGLIO_UNARY(sin) INTAGLIO_UNARY(cos) INTAGLIO_UNARY(tan)
INTAGLIO_UNARY(asin) INTAGLIO_UNARY(acos) INTAGLIO_UNARY(atan)
INTAGLIO_UNARY(sinh) INTAGLIO_UNARY(cosh) INTAGLIO_UNARY(tanh)
INTAGLIO_UNARY(asinh) INTAGLIO_UNARY(acosh) INTAGLIO_UNARY(atanh)
INTAGLIO_UNARY(erf) INTAGLIO_UNARY(erfc) INTAGLIO_UNARY(tgamma) INTAGLIO_UNARY(lgamma)
INTAGLIO_UNARY(floor) INTAGLIO_UNARY(ceil) INTAGLIO_UNARY(trunc)
INTAGLIO_UNARY(round) INTAGLIO_UNARY(rint) INTAGLIO_UNARY(nearbyint)
INTAGLIO_BINARY(pow) INTAGLIO_BINARY(fmod) INTAGLIO_BINARY(remainder) INTAGLIO_BINARY(atan2)
INTAGLIO_BINARY(fmin) INTAGLIO_BINARY(fmax) INTAGLIO_BINARY(hypot)
INTAGLIO_BINARY(copysign) INTAGLIO_BINARY(nextafter) INTAGLIO_BINARY(fdim)

#undef INTAGLIO_UNARY
#undef INTAGLIO_BINARY

double fma(double x, double y, double z);
float fmaf(float x, float y, float z);
double ldexp(double x, int exponent);
float ldexpf(float x, int exponent);
double frexp(double x, int *exponent);
float frexpf(float x, int *exponent);
long lround(double x);
long lroundf(float x);
long lrint(double x);
long lrintf(float x);

#endif
