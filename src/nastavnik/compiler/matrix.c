/* The product of small matrices, compiled once for each type T (TB bytes). A tile of at most 6 rows and 4 vectors of
   the result stays in registers and runs once through the inner dimension. */

typedef long I;

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define W ((I)(BYTES / sizeof(T)))
typedef T V __attribute__((vector_size(BYTES), aligned(4), may_alias));

#define TILE(R, N) \
static void tile_##R##_##N(I k, const T *a, I ar, I ac, const T *b, I br, T *c, I cr) { \
  V s[R][N]; \
  for (int i = 0; i < R; i++) for (int j = 0; j < N; j++) s[i][j] = (V){0}; \
  for (I p = 0; p < k; p++) { \
    V t[N]; \
    for (int j = 0; j < N; j++) t[j] = *(const V *)(b + p * br + j * W); \
    for (int i = 0; i < R; i++) { T x = a[i * ar + p * ac]; for (int j = 0; j < N; j++) s[i][j] += x * t[j]; } \
  } \
  for (int i = 0; i < R; i++) for (int j = 0; j < N; j++) *(V *)(c + i * cr + j * W) = s[i][j]; \
}
#define TILES(N) TILE(1, N) TILE(2, N) TILE(3, N) TILE(4, N) TILE(5, N) TILE(6, N)
TILES(1) TILES(2) TILES(3) TILES(4)
#define ROW(R) {tile_##R##_1, tile_##R##_2, tile_##R##_3, tile_##R##_4}
static void (*const tiles[6][4])(I, const T *, I, I, const T *, I, T *, I) =
  {ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6)};

/* c[m, n] = a[m, k] b[k, n] for whole vectors of columns; rows of b are contiguous */
static void columns(I m, I n, I k, const T *a, I ar, I ac, const T *b, I br, T *c, I cr) {
  I groups = (m + 5) / 6;
  for (I j = 0; j < n; j += 4 * W) {
    I v = (n - j) / W < 4 ? (n - j) / W : 4;
    for (I g = 0, i = 0; g < groups; g++) {
      I r = (m - i) / (groups - g);
      tiles[r - 1][v - 1](k, a + i * ar, ar, ac, b + j, br, c + i * cr + j, cr);
      i += r;
    }
  }
}

/* to[j, i] = from[i, j]: squares of vectors are turned in registers, one exchange of halves after the other */
#define EXCHANGE(X, Y, D) \
  for (int r = 0; r < W; r++) if (!(r & D)) { \
    N lo, hi; \
    for (int e = 0; e < W; e++) { lo[e] = (e & D) ? W + (e ^ D) : e; hi[e] = (e & D) ? W + e : (e | D); } \
    Y[r] = __builtin_shuffle(X[r], X[r | D], lo); Y[r | D] = __builtin_shuffle(X[r], X[r | D], hi); \
  }
static void turn(I rows, I cols, const T *from, I fr, T *to, I tr) {
  I whole_rows = rows / W * W, whole_cols = cols / W * W;
#ifndef __clang__
  typedef TI N __attribute__((vector_size(BYTES)));
  for (I i = 0; i < whole_rows; i += W) for (I j = 0; j < whole_cols; j += W) {
    V t[W], u[W];
    for (int r = 0; r < W; r++) t[r] = *(const V *)(from + (i + r) * fr + j);
#if BYTES / TB == 16
    EXCHANGE(t, u, 1) EXCHANGE(u, t, 2) EXCHANGE(t, u, 4) EXCHANGE(u, t, 8)
#elif BYTES / TB == 8
    EXCHANGE(t, u, 1) EXCHANGE(u, t, 2) EXCHANGE(t, u, 4)
    for (int r = 0; r < W; r++) t[r] = u[r];
#elif BYTES / TB == 4
    EXCHANGE(t, u, 1) EXCHANGE(u, t, 2)
#else
    EXCHANGE(t, u, 1)
    for (int r = 0; r < W; r++) t[r] = u[r];
#endif
    for (int r = 0; r < W; r++) *(V *)(to + (j + r) * tr + i) = t[r];
  }
#else
  whole_rows = 0;
#endif
  for (I i = 0; i < rows; i++) for (I j = i < whole_rows ? whole_cols : 0; j < cols; j++) to[j * tr + i] = from[i * fr + j];
}

/* c[m, n] = a[m, k] b[k, n], c row by row; pack has room for k rows of n rounded up to whole vectors */
void product(I m, I n, I k, const T *a, I ar, I ac, const T *b, I br, I bc, T *c, T *pack) {
  I whole = n / W * W, rest = n - whole, width = rest ? whole + W : whole, tail_row = W;
  const T *tail = pack;
  if (bc != 1 && n > 1) { /* lay b out with contiguous rows */
    if (br == 1) turn(n, k, b, bc, pack, width);
    else for (I p = 0; p < k; p++) for (I j = 0; j < n; j++) pack[p * width + j] = b[p * br + j * bc];
    for (I p = 0; p < k; p++) for (I j = n; j < width; j++) pack[p * width + j] = 0;
    b = pack; br = width; tail = pack + whole; tail_row = width;
  } else if (rest) {
    for (I p = 0; p < k; p++) for (I j = 0; j < W; j++) pack[p * W + j] = j < rest ? b[p * br + whole + j] : 0;
  }
  columns(m, whole, k, a, ar, ac, b, br, c, n);
  if (!rest) return;
  I groups = (m + 5) / 6;
  for (I g = 0, i = 0; g < groups; g++) {
    I r = (m - i) / (groups - g);
    T tile[6 * W];
    tiles[r - 1][0](k, a + i * ar, ar, ac, tail, tail_row, tile, W);
    for (I x = 0; x < r; x++) for (I j = 0; j < rest; j++) c[(i + x) * n + whole + j] = tile[x * W + j];
    i += r;
  }
}
