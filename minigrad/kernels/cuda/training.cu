// Activations and optimizer steps: one pass over memory each, of 16 bytes per load.

template <int V> __device__ void leaky_all(const REAL* x, REAL* y, REAL slope, Int size)
{
    for (Int e = ((Int)blockIdx.x * THREADS + threadIdx.x) * V; e < size; e += (Int)gridDim.x * THREADS * V) {
        REAL v[V];
        load<V>(v, x + e);
#pragma unroll
        for (int k = 0; k < V; ++k) v[k] = v[k] > 0 || v[k] != v[k] ? v[k] : slope == 0 ? 0 : v[k] * slope;  // NaN stays NaN
        store<V>(y + e, v);
    }
}

// y = x where x > 0, else slope x. Any grid.
extern "C" __global__ void __launch_bounds__(THREADS) leaky_forward(const REAL* x, REAL* y, REAL slope, Int size, Int vector)
{
    if (vector) leaky_all<VEC>(x, y, slope, size);
    else leaky_all<1>(x, y, slope, size);
}

template <int V> __device__ void gate_all(const REAL* g, const REAL* y, REAL* dx, REAL slope, Int size)
{
    for (Int e = ((Int)blockIdx.x * THREADS + threadIdx.x) * V; e < size; e += (Int)gridDim.x * THREADS * V) {
        REAL gs[V], ys[V];
        load<V>(gs, g + e);
        load<V>(ys, y + e);
#pragma unroll
        for (int k = 0; k < V; ++k) gs[k] = ys[k] > 0 ? gs[k] : slope == 0 ? 0 : gs[k] * slope;
        store<V>(dx + e, gs);
    }
}

// dx = g where y > 0, else slope g (0 for slope 0, whatever g). Any grid.
extern "C" __global__ void __launch_bounds__(THREADS) gate(const REAL* g, const REAL* y, REAL* dx, REAL slope, Int size, Int vector)
{
    if (vector) gate_all<VEC>(g, y, dx, slope, size);
    else gate_all<1>(g, y, dx, slope, size);
}

// Up to MANY parameters in one launch, passed by value: their addresses and sizes, and where each begins among the blocks.
const int MANY = 48;
const int CHUNK = 4096;  // elements that a block updates

struct Table {
    REAL *p[MANY], *g[MANY], *first[MANY], *second[MANY];
    Int size[MANY], block[MANY + 1];
};

struct Share {  // of one block: which parameter, from where to where
    int parameter;
    Int start, stop;
};

__device__ __forceinline__ Share share_of(const Table& table, Int count)
{
    int i = 0;
    while (i + 1 < count && blockIdx.x >= table.block[i + 1]) ++i;
    const Int start = (blockIdx.x - table.block[i]) * CHUNK, size = table.size[i];
    return {i, start, start + CHUNK < size ? start + CHUNK : size};
}

// Can all of these be loaded 16 bytes at a time? A null pointer can. (Every block begins at a multiple of CHUNK.)
__device__ __forceinline__ bool aligned(const void* a, const void* b, const void* c, const void* d)
{
    return (((unsigned long long)a | (unsigned long long)b | (unsigned long long)c | (unsigned long long)d) & 15) == 0;
}

template <int V>
__device__ __forceinline__ void sgd_at(Int e, REAL* p, const REAL* g, REAL* v, REAL lr, REAL momentum, REAL undamped, REAL decay, REAL sign,
                                       Int nesterov, Int initial)
{
    REAL ps[V], gs[V], vs[V];
    load<V>(ps, p + e);
    load<V>(gs, g + e);
    if (v && !initial) load<V>(vs, v + e);
#pragma unroll
    for (int k = 0; k < V; ++k) {
        REAL d = sign * gs[k] + decay * ps[k];
        if (v) {
            vs[k] = initial ? d : momentum * vs[k] + undamped * d;
            d = nesterov ? d + momentum * vs[k] : vs[k];
        }
        ps[k] -= lr * d;
    }
    if (v) store<V>(v + e, vs);
    store<V>(p + e, ps);
}

// v = momentum v + undamped d, p -= lr (nesterov ? d + momentum v : v), with d = sign g + decay p. `initial`: v = d.
extern "C" __global__ void __launch_bounds__(THREADS)
sgd(const Table table, Int count, REAL lr, REAL momentum, REAL undamped, REAL decay, REAL sign, Int nesterov, Int initial)
{
    const Share s = share_of(table, count);
    REAL *p = table.p[s.parameter], *v = table.first[s.parameter];
    const REAL* g = table.g[s.parameter];
    const Int end = aligned(p, g, v, nullptr) ? s.stop - s.stop % VEC : s.start;  // of what is taken VEC at a time
    for (Int e = s.start + (Int)threadIdx.x * VEC; e < end; e += THREADS * VEC)
        sgd_at<VEC>(e, p, g, v, lr, momentum, undamped, decay, sign, nesterov, initial);
    for (Int e = end + threadIdx.x; e < s.stop; e += THREADS) sgd_at<1>(e, p, g, v, lr, momentum, undamped, decay, sign, nesterov, initial);
}

template <int V>
__device__ __forceinline__ void adam_at(Int e, REAL* p, const REAL* g, REAL* m, REAL* v, REAL weight1, REAL beta2, REAL weight2, REAL eps,
                                        REAL decay, REAL shrink, REAL sign, REAL root, REAL rate)
{
    REAL ps[V], gs[V], ms[V], vs[V];
    load<V>(ps, p + e);
    load<V>(gs, g + e);
    load<V>(ms, m + e);
    load<V>(vs, v + e);
#pragma unroll
    for (int k = 0; k < V; ++k) {
        const REAL value = ps[k] * shrink, d = sign * gs[k] + decay * value;
        ms[k] += weight1 * (d - ms[k]);
        vs[k] = beta2 * vs[k] + weight2 * (d * d);
        ps[k] = value - rate * (ms[k] / (sqrt(vs[k]) / root + eps));
    }
    store<V>(m + e, ms);
    store<V>(v + e, vs);
    store<V>(p + e, ps);
}

// Adam; weight1 = 1 - beta1, weight2 = 1 - beta2, rounded once; shrink = 1 - lr weight_decay for AdamW and 1 else;
// root = sqrt(1 - beta2^t), rate = lr/(1 - beta1^t).
extern "C" __global__ void __launch_bounds__(THREADS)
adam(const Table table, Int count, REAL weight1, REAL beta2, REAL weight2, REAL eps, REAL decay, REAL shrink, REAL sign, REAL root, REAL rate)
{
    const Share s = share_of(table, count);
    REAL *p = table.p[s.parameter], *m = table.first[s.parameter], *v = table.second[s.parameter];
    const REAL* g = table.g[s.parameter];
    const Int end = aligned(p, g, m, v) ? s.stop - s.stop % VEC : s.start;
    for (Int e = s.start + (Int)threadIdx.x * VEC; e < end; e += THREADS * VEC)
        adam_at<VEC>(e, p, g, m, v, weight1, beta2, weight2, eps, decay, shrink, sign, root, rate);
    for (Int e = end + threadIdx.x; e < s.stop; e += THREADS) adam_at<1>(e, p, g, m, v, weight1, beta2, weight2, eps, decay, shrink, sign, root, rate);
}
