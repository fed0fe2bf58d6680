// The two reductions and the fused combination of every normalizer: moments, paired sums, combine. common.cu says what (N, C, L),
// codes of small arrays, and VEC are.

// -- moments: each block reads a part of one channel once, tile by tile, each tile kept in registers ---------------------

template <int V>
__device__ void moments_of_part(const REAL* x, REAL* mean, REAL* squares, Int C, Int L, Int elements, Int span, Int parts)
{
    const Int c = blockIdx.x / parts, start = blockIdx.x % parts * span;
    const Int stop = start + span < elements ? start + span : elements;
    REAL mu = 0, ss = 0;
    for (Int tile = start; tile < stop; tile += THREADS * TILE) {
        const Int count = stop - tile < THREADS * TILE ? stop - tile : THREADS * TILE;
        REAL v[TILE / V][V], sum = 0, unused = 0;
#pragma unroll
        for (int i = 0; i < TILE / V; ++i) {
            const Int e = tile + (i * THREADS + (Int)threadIdx.x) * V;
            if (e < stop) {
                load<V>(v[i], x + place(e, c, C, L));
#pragma unroll
                for (int k = 0; k < V; ++k) sum += v[i][k];
            }
        }
        block_sums(sum, unused);
        const REAL centre = sum / count;
        REAL d = 0, dd = 0;  // of the differences from the centre: their sum corrects its rounding
#pragma unroll
        for (int i = 0; i < TILE / V; ++i)
            if (tile + (i * THREADS + (Int)threadIdx.x) * V < stop) {
#pragma unroll
                for (int k = 0; k < V; ++k) {
                    const REAL t = v[i][k] - centre;
                    d += t;
                    dd += t * t;
                }
            }
        block_sums(d, dd);
        const REAL here = centre + d / count, rest = dd - d * d / count;
        const REAL seen = tile - start, total = seen + count, delta = here - mu;
        mu += delta * (count / total);
        ss += (rest > 0 ? rest : 0) + delta * delta * (seen * (count / total));
    }
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = mu;
        squares[blockIdx.x] = parts == 1 ? ss / elements : ss;  // a single part is the whole channel: the variance
    }
}

// grid C*parts; mean, squares (C, parts): each part's mean and sum of squares about it. V > 1 needs L divisible by VEC.
extern "C" __global__ void __launch_bounds__(THREADS)
moments_parts(const REAL* x, REAL* mean, REAL* squares, Int C, Int L, Int elements, Int span, Int parts, Int vector)
{
    if (vector) moments_of_part<VEC>(x, mean, squares, C, L, elements, span, parts);
    else moments_of_part<1>(x, mean, squares, C, L, elements, span, parts);
}

// grid ceil(C/8): a warp for each channel merges its parts (Chan, Golub and LeVeque).
extern "C" __global__ void __launch_bounds__(THREADS)
moments_merge(const REAL* means, const REAL* squares, REAL* mean, REAL* variance, Int C, Int elements, Int span, Int parts)
{
    const Int c = blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (c >= C) return;  // a whole warp
    REAL mu = 0, ss = 0, seen = 0;
    for (Int p = threadIdx.x % 32; p < parts; p += 32) {
        const REAL count = p < parts - 1 ? span : elements - span * (parts - 1);
        const REAL total = seen + count, delta = means[c * parts + p] - mu;
        mu += delta * (count / total);
        ss += squares[c * parts + p] + delta * delta * (seen * (count / total));
        seen = total;
    }
#pragma unroll
    for (int offset = 16; offset; offset /= 2) {
        const REAL mu2 = __shfl_xor_sync(0xffffffffu, mu, offset), ss2 = __shfl_xor_sync(0xffffffffu, ss, offset);
        const REAL seen2 = __shfl_xor_sync(0xffffffffu, seen, offset), total = seen + seen2;
        if (total > 0) {
            const REAL delta = mu2 - mu;
            ss += ss2 + delta * delta * (seen * (seen2 / total));
            mu = seen >= seen2 ? mu + delta * (seen2 / total) : mu2 - delta * (seen / total);
            seen = total;
        }
    }
    if (threadIdx.x % 32 == 0) {
        mean[c] = mu;
        variance[c] = ss / elements;
    }
}

// -- paired sums: sums of w g and of w g r (x - mu) --------------------------------------------------------------------

template <int V>
__device__ void paired_of_part(const REAL* g, const REAL* x, Small mu, Small w, Small r, REAL* s, REAL* t, Int C, Int L,
                               Int elements, Int span, Int parts)
{
    const Int c = blockIdx.x / parts, start = blockIdx.x % parts * span;
    const Int stop = start + span < elements ? start + span : elements;
    REAL a = 0, b = 0;
#pragma unroll 4
    for (Int e = start + (Int)threadIdx.x * V; e < stop; e += THREADS * V) {
        const Int n = (unsigned)e / (unsigned)L, l = e - n * L, at = (n * C + c) * L + l;
        REAL gs[V], xs[V], mus[V], ws[V], rs[V];
        load<V>(gs, g + at);
        load<V>(xs, x + at);
        values<V>(mus, mu, 0, n, c, l, C, L);
        values<V>(ws, w, 1, n, c, l, C, L);
        values<V>(rs, r, 1, n, c, l, C, L);
#pragma unroll
        for (int k = 0; k < V; ++k) {
            const REAL h = gs[k] * ws[k];
            a += h;
            b += h * ((xs[k] - mus[k]) * rs[k]);
        }
    }
    block_sums(a, b);
    if (threadIdx.x == 0) {
        s[blockIdx.x] = a;
        t[blockIdx.x] = b;
    }
}

// grid C*parts; s, t (C, parts).
extern "C" __global__ void __launch_bounds__(THREADS)
paired_parts(const REAL* g, const REAL* x, const REAL* mu, Int mu_code, const REAL* w, Int w_code, const REAL* r, Int r_code,
             REAL* s, REAL* t, Int C, Int L, Int elements, Int span, Int parts, Int vector)
{
    const Small mu_ = {mu, (int)mu_code}, w_ = {w, (int)w_code}, r_ = {r, (int)r_code};
    if (vector) paired_of_part<VEC>(g, x, mu_, w_, r_, s, t, C, L, elements, span, parts);
    else paired_of_part<1>(g, x, mu_, w_, r_, s, t, C, L, elements, span, parts);
}

// Down the columns of (R, L), seen as (N, C, L) with C = 1: a thread has V columns, a block 32 V columns and every eighth row.
template <int V>
__device__ void columns_of_part(const REAL* g, const REAL* x, Small mu, Small w, Small r, REAL* s, REAL* t, Int R, Int L, Int span)
{
    __shared__ REAL sums[2][THREADS / 32][32 * V];
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32;
    const Int l = ((Int)blockIdx.x * 32 + lane) * V, start = blockIdx.y * span, stop = start + span < R ? start + span : R;
    REAL a[V], b[V];
#pragma unroll
    for (int k = 0; k < V; ++k) a[k] = b[k] = 0;
    if (l < L)
#pragma unroll 4
        for (Int n = start + row; n < stop; n += THREADS / 32) {
            REAL gs[V], xs[V], mus[V], ws[V], rs[V];
            load<V>(gs, g + n * L + l);
            load<V>(xs, x + n * L + l);
            values<V>(mus, mu, 0, n, 0, l, 1, L);
            values<V>(ws, w, 1, n, 0, l, 1, L);
            values<V>(rs, r, 1, n, 0, l, 1, L);
#pragma unroll
            for (int k = 0; k < V; ++k) {
                const REAL h = gs[k] * ws[k];
                a[k] += h;
                b[k] += h * ((xs[k] - mus[k]) * rs[k]);
            }
        }
#pragma unroll
    for (int k = 0; k < V; ++k) {
        sums[0][row][lane * V + k] = a[k];
        sums[1][row][lane * V + k] = b[k];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 32 * V; i += THREADS) {
        const Int column = (Int)blockIdx.x * 32 * V + i;
        if (column < L) {
            REAL both[2] = {0, 0};
            for (int j = 0; j < THREADS / 32; ++j) {
                both[0] += sums[0][j][i];
                both[1] += sums[1][j][i];
            }
            s[blockIdx.y * L + column] = both[0];
            t[blockIdx.y * L + column] = both[1];
        }
    }
}

// grid (ceil(L/(32 V)), parts); s, t (parts, L).
extern "C" __global__ void __launch_bounds__(THREADS)
column_parts(const REAL* g, const REAL* x, const REAL* mu, Int mu_code, const REAL* w, Int w_code, const REAL* r, Int r_code,
             REAL* s, REAL* t, Int R, Int L, Int span, Int vector)
{
    const Small mu_ = {mu, (int)mu_code}, w_ = {w, (int)w_code}, r_ = {r, (int)r_code};
    if (vector) columns_of_part<VEC>(g, x, mu_, w_, r_, s, t, R, L, span);
    else columns_of_part<1>(g, x, mu_, w_, r_, s, t, R, L, span);
}

// -- combine: a w g + b (x - mu) + c, without g: w b (x - mu) + c ------------------------------------------------------

template <int V, typename Index>
__device__ void combine_all(REAL* out, const REAL* g, const REAL* x, Small mu, Small a, Small b, Small c, Small w, Index size, Index C, Index L)
{
    for (Index e = ((Index)blockIdx.x * THREADS + threadIdx.x) * V; e < size; e += (Index)gridDim.x * THREADS * V) {
        const Index segment = e / L, l = e - segment * L, n = segment / C, channel = segment - n * C;
        REAL gs[V], xs[V], mus[V], as[V], bs[V], cs[V], ws[V], y[V];
        load<V>(xs, x + e);
        values<V>(mus, mu, 0, n, channel, l, C, L);
        values<V>(bs, b, 1, n, channel, l, C, L);
        values<V>(cs, c, 0, n, channel, l, C, L);
        values<V>(ws, w, 1, n, channel, l, C, L);
        if (g) {
            load<V>(gs, g + e);
            values<V>(as, a, 1, n, channel, l, C, L);
        }
#pragma unroll
        for (int k = 0; k < V; ++k) {
            const REAL scaled = (xs[k] - mus[k]) * bs[k];
            y[k] = (g ? scaled + gs[k] * ws[k] * as[k] : scaled * ws[k]) + cs[k];
        }
        store<V>(out + e, y);
    }
}

// Any grid. `out` may be x or g: a thread writes what it alone has read. `wide`: size of 2^31 and more.
extern "C" __global__ void __launch_bounds__(THREADS)
combine(REAL* out, const REAL* g, const REAL* x, const REAL* mu, Int mu_code, const REAL* a, Int a_code, const REAL* b, Int b_code,
        const REAL* c, Int c_code, const REAL* w, Int w_code, Int size, Int C, Int L, Int vector, Int wide)
{
    const Small mu_ = {mu, (int)mu_code}, a_ = {a, (int)a_code}, b_ = {b, (int)b_code}, c_ = {c, (int)c_code}, w_ = {w, (int)w_code};
    if (wide) {
        if (vector) combine_all<VEC, Int>(out, g, x, mu_, a_, b_, c_, w_, size, C, L);
        else combine_all<1, Int>(out, g, x, mu_, a_, b_, c_, w_, size, C, L);
    } else {
        if (vector) combine_all<VEC, unsigned>(out, g, x, mu_, a_, b_, c_, w_, size, C, L);
        else combine_all<1, unsigned>(out, g, x, mu_, a_, b_, c_, w_, size, C, L);
    }
}
