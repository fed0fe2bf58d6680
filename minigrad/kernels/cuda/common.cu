// What the kernels of this folder share: it is put before each of their sources.
//
// Compiled with -DREAL=float -DVEC=4 or -DREAL=double -DVEC=2: 16 bytes per load. All integers are long long. An array seen as
// (N, C, L) is contiguous; statistics belong to c, over n and l. Rows are N = 1. Small arrays broadcast to (N, C, L):
// their code says along which axes they change, 1 for n, 2 for c, 4 for l; their other axes have length 1. A null pointer
// stands for "absent". Every block has THREADS threads, and all of them reach every barrier. Sums are formed in an order
// that does not depend on timing (no atomics), so results are the same in every run.

typedef long long Int;

const int THREADS = 256;
#define TILE 16  // elements of an array that a thread keeps in registers

template <int V> struct alignas(sizeof(REAL) * V) Pack { REAL v[V]; };

template <int V> __device__ __forceinline__ void load(REAL* to, const REAL* from)
{
    const Pack<V> p = *reinterpret_cast<const Pack<V>*>(from);
#pragma unroll
    for (int k = 0; k < V; ++k) to[k] = p.v[k];
}

template <int V> __device__ __forceinline__ void store(REAL* to, const REAL* from)
{
    Pack<V> p;
#pragma unroll
    for (int k = 0; k < V; ++k) p.v[k] = from[k];
    *reinterpret_cast<Pack<V>*>(to) = p;
}

// Both sums over the block, for every thread: 32 lanes by shuffles, then the warps by shared memory.
__device__ __forceinline__ void block_sums(REAL& a, REAL& b)
{
    __shared__ REAL shared[2][THREADS / 32];
#pragma unroll
    for (int offset = 16; offset; offset /= 2) {
        a += __shfl_xor_sync(0xffffffffu, a, offset);
        b += __shfl_xor_sync(0xffffffffu, b, offset);
    }
    if (threadIdx.x % 32 == 0) {
        shared[0][threadIdx.x / 32] = a;
        shared[1][threadIdx.x / 32] = b;
    }
    __syncthreads();
    a = b = 0;
#pragma unroll
    for (int w = 0; w < THREADS / 32; ++w) {
        a += shared[0][w];
        b += shared[1][w];
    }
    __syncthreads();  // before anybody writes into `shared` again
}

// Where element e of channel c lies, 0 <= e < N L < 2^31.
__device__ __forceinline__ Int place(Int e, Int c, Int C, Int L)
{
    const unsigned n = (unsigned)e / (unsigned)L;
    return ((Int)n * C + c) * L + (e - (Int)n * L);
}

// A small array's value for element (n, c, l + k): p[first(...) + (code & 4 ? k : 0)].
__device__ __forceinline__ Int first(int code, Int n, Int c, Int l, Int C, Int L)
{
    const Int along_c = code & 4 ? L : 1, along_n = along_c * (code & 2 ? C : 1);
    return (code & 4 ? l : 0) + (code & 2 ? c * along_c : 0) + (code & 1 ? n * along_n : 0);
}

struct Small {
    const REAL* p;
    int code;
};

template <int V> __device__ __forceinline__ void values(REAL* to, Small s, REAL absent, Int n, Int c, Int l, Int C, Int L)
{
    const Int at = s.p ? first(s.code, n, c, l, C, L) : 0;
#pragma unroll
    for (int k = 0; k < V; ++k) to[k] = s.p ? s.p[at + (s.code & 4 ? k : 0)] : absent;
}
