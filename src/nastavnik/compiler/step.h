/* What every compiled step is written with: types, vector mathematics, the product of matrices.
   T is the type of the network's numbers. */

typedef long I;

#ifdef VECTOR_MATH
#define MATH(name) \
  _Pragma("omp declare simd notinbranch") float name##f(float); \
  _Pragma("omp declare simd notinbranch") double name(double);
#else
#define MATH(name) float name##f(float); double name(double);
#endif
#define PLAIN(name) float name##f(float); double name(double);
MATH(exp) MATH(log) MATH(sin) MATH(cos) MATH(tan) MATH(tanh) MATH(sinh) MATH(cosh) MATH(expm1) MATH(log1p) MATH(log2)
MATH(asin) MATH(acos) MATH(atan) MATH(asinh) MATH(acosh) MATH(atanh) MATH(erf) MATH(erfc)
PLAIN(sqrt) PLAIN(lgamma) PLAIN(floor) PLAIN(ceil) PLAIN(trunc) PLAIN(nearbyint)
float powf(float, float); double pow(double, double);
float atan2f(float, float); double atan2(double, double);


/* an index that may count from the end; bad is set where it is out of range */
static inline I within(I i, I size, int *bad) {
  if (i < 0) i += size;
  if (i < 0 || i >= size) { *bad = 1; return 0; }
  return i;
}

void product(I m, I n, I k, const T *a, I ar, I ac, const T *b, I br, I bc, T *c, T *pack);
