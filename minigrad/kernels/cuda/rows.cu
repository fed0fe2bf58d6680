// Layer norm and RMS norm of rows of at most THREADS*TILE elements: forward reads x once, backward reads g and x once.
//
// A block holds a whole row in registers. x, g, y, dx (R, L)
// contiguous; w, b (L,), b may be null; mean, variance (R,). For RMS norm (centred = 0) there is no mean, and the "variance"
// is the mean square.

template <int V> __device__ __forceinline__ void load_row(REAL (*to)[V], const REAL* from, Int L)
{
#pragma unroll
    for (int i = 0; i < TILE / V; ++i) {
        const Int l = (i * THREADS + (Int)threadIdx.x) * V;
        if (l < L) load<V>(to[i], from + l);
        else {
#pragma unroll
            for (int k = 0; k < V; ++k) to[i][k] = 0;
        }
    }
}

template <int V>
__device__ void forward_of_row(const REAL* x, const REAL* w, const REAL* b, REAL* y, REAL* mean, REAL* variance, REAL eps, Int L, Int centred)
{
    const Int row = blockIdx.x;
    REAL v[TILE / V][V];
    load_row<V>(v, x + row * L, L);
    REAL mu = 0, unused = 0;
    if (centred) {
#pragma unroll
        for (int i = 0; i < TILE / V; ++i)
#pragma unroll
            for (int k = 0; k < V; ++k) mu += v[i][k];
        block_sums(mu, unused);
        mu /= L;
    }
    REAL d = 0, dd = 0;
#pragma unroll
    for (int i = 0; i < TILE / V; ++i)
        if ((i * THREADS + (Int)threadIdx.x) * V < L) {
#pragma unroll
            for (int k = 0; k < V; ++k) {
                const REAL t = v[i][k] - mu;
                d += t;
                dd += t * t;
            }
        }
    block_sums(d, dd);
    if (centred) {  // the rounding of the mean, found and taken out
        mu += d / L;
        dd -= d * d / L;
    }
    const REAL var = (dd > 0 || dd != dd ? dd : 0) / L, rstd = 1 / sqrt(var + eps);
#pragma unroll
    for (int i = 0; i < TILE / V; ++i) {
        const Int l = (i * THREADS + (Int)threadIdx.x) * V;
        if (l < L) {
            REAL ws[V], bs[V];
            load<V>(ws, w + l);
            if (b) load<V>(bs, b + l);
#pragma unroll
            for (int k = 0; k < V; ++k) v[i][k] = (v[i][k] - mu) * rstd * ws[k] + (b ? bs[k] : 0);
            store<V>(y + row * L + l, v[i]);
        }
    }
    if (threadIdx.x == 0) {
        if (centred) mean[row] = mu;
        variance[row] = var;
    }
}

// grid R.
extern "C" __global__ void __launch_bounds__(THREADS)
rows_forward(const REAL* x, const REAL* w, const REAL* b, REAL* y, REAL* mean, REAL* variance, REAL eps, Int L, Int centred, Int vector)
{
    if (vector) forward_of_row<VEC>(x, w, b, y, mean, variance, eps, L, centred);
    else forward_of_row<1>(x, w, b, y, mean, variance, eps, L, centred);
}

// dx = (h - mean h - xhat mean(h xhat)) rstd with h = w g. A block takes every gridDim.x-th row and keeps the sums of its
// columns, g xhat and g, in registers.
template <int V>
__device__ void backward_of_rows(const REAL* g, const REAL* x, const REAL* w, const REAL* mean, const REAL* variance, REAL* dx, REAL* dw,
                                 REAL* db, REAL eps, Int R, Int L, Int centred)
{
    REAL dws[TILE / V][V], dbs[TILE / V][V];
#pragma unroll
    for (int i = 0; i < TILE / V; ++i)
#pragma unroll
        for (int k = 0; k < V; ++k) dws[i][k] = dbs[i][k] = 0;
    for (Int row = blockIdx.x; row < R; row += gridDim.x) {
        const REAL mu = centred ? mean[row] : 0, rstd = 1 / sqrt(variance[row] + eps);
        REAL h[TILE / V][V], xhat[TILE / V][V];
        load_row<V>(h, g + row * L, L);
        load_row<V>(xhat, x + row * L, L);
        REAL sum_h = 0, sum_hx = 0;
#pragma unroll
        for (int i = 0; i < TILE / V; ++i) {
            const Int l = (i * THREADS + (Int)threadIdx.x) * V;
            if (l < L) {
                REAL ws[V];
                load<V>(ws, w + l);
#pragma unroll
                for (int k = 0; k < V; ++k) {
                    xhat[i][k] = (xhat[i][k] - mu) * rstd;
                    dws[i][k] += h[i][k] * xhat[i][k];
                    dbs[i][k] += h[i][k];
                    h[i][k] *= ws[k];
                    sum_h += h[i][k];
                    sum_hx += h[i][k] * xhat[i][k];
                }
            }
        }
        block_sums(sum_h, sum_hx);
        const REAL mean_h = centred ? sum_h / L : 0, mean_hx = sum_hx / L;
#pragma unroll
        for (int i = 0; i < TILE / V; ++i) {
            const Int l = (i * THREADS + (Int)threadIdx.x) * V;
            if (l < L) {
#pragma unroll
                for (int k = 0; k < V; ++k) h[i][k] = (h[i][k] - mean_h - xhat[i][k] * mean_hx) * rstd;
                store<V>(dx + row * L + l, h[i]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < TILE / V; ++i) {
        const Int l = (i * THREADS + (Int)threadIdx.x) * V;
        if (l < L) {
            store<V>(dw + blockIdx.x * L + l, dws[i]);
            store<V>(db + blockIdx.x * L + l, dbs[i]);
        }
    }
}

// Any grid; dw, db (gridDim.x, L), to be added up.
extern "C" __global__ void __launch_bounds__(THREADS)
rows_backward(const REAL* g, const REAL* x, const REAL* w, const REAL* mean, const REAL* variance, REAL* dx, REAL* dw, REAL* db, REAL eps,
              Int R, Int L, Int centred, Int vector)
{
    if (vector) backward_of_rows<VEC>(g, x, w, mean, variance, dx, dw, db, eps, R, L, centred);
    else backward_of_rows<1>(g, x, w, mean, variance, dx, dw, db, eps, R, L, centred);
}
