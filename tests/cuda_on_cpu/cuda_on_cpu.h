// Runs CUDA kernels on a CPU, for tests: each thread of a block is a fiber, blocks follow each other.
//
// A fiber runs until it meets a barrier: __syncthreads, or the shuffle of a warp. Then the others run. A barrier that some
// threads never reach ends the process with a message. Only what minigrad's kernels use is here.
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __shared__ static

struct Dim {
    unsigned x = 1, y = 1, z = 1;
};

static Dim threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

enum State { ready, at_block, at_warp, done };

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    State state;
    double slot;  // what a shuffle offers
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static unsigned current;
static std::function<void()> body;

static void leave(State state)
{
    fibers[current].state = state;
    swapcontext(&fibers[current].context, &scheduler);
}

static void entry()
{
    body();
    leave(done);
}

// Lets everybody go on who waits at a barrier that nobody else will still come to.
static bool release(unsigned from, unsigned to, State state)
{
    bool all = true, any = false;
    for (unsigned i = from; i < to; ++i) {
        all = all && (fibers[i].state == state || (state == at_warp && fibers[i].state == done));
        any = any || fibers[i].state == state;
    }
    if (all && any)
        for (unsigned i = from; i < to; ++i)
            if (fibers[i].state == state) fibers[i].state = ready;
    return all && any;
}

static void run_block(unsigned threads)
{
    for (unsigned i = 0; i < threads; ++i) {
        Fiber& f = fibers[i];
        f.stack.resize(64 << 10);
        f.state = ready;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = nullptr;
        makecontext(&f.context, entry, 0);
    }
    for (bool running = true; running;) {
        bool progress = false;
        running = false;
        for (current = 0; current < threads; ++current)
            if (fibers[current].state == ready) {
                threadIdx.x = current;
                swapcontext(&scheduler, &fibers[current].context);
                progress = true;
            }
        for (unsigned warp = 0; warp < threads; warp += 32) progress |= release(warp, warp + 32 < threads ? warp + 32 : threads, at_warp);
        progress |= release(0, threads, at_block);
        for (unsigned i = 0; i < threads; ++i) running |= fibers[i].state != done;
        if (running && !progress) {
            std::fprintf(stderr, "block %u: some threads wait at a barrier that the others never reach\n", blockIdx.x);
            std::abort();
        }
    }
}

template <class... A, size_t... I>
void run(void (*kernel)(A...), const unsigned* grid, unsigned threads, void** arguments, std::index_sequence<I...>)
{
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {threads, 1, 1};
    if (fibers.size() < threads) fibers.resize(threads);
    body = [=] { kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...); };
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) run_block(threads);
}

}  // namespace emulator

inline void __syncthreads() { emulator::leave(emulator::at_block); }

template <class T> T __shfl_xor_sync(unsigned, T value, int lane)
{
    const unsigned me = emulator::current;
    emulator::fibers[me].slot = value;
    emulator::leave(emulator::at_warp);
    const T other = (T)emulator::fibers[me ^ lane].slot;
    emulator::leave(emulator::at_warp);  // before anybody offers something else
    return other;
}

// extern "C" void run_NAME(grid, threads, addresses of the arguments)
#define RUNNABLE(NAME)                                                                              \
    template <class... A> void launcher_##NAME(void (*k)(A...), const unsigned* g, unsigned t, void** a) \
    {                                                                                               \
        emulator::run(k, g, t, a, std::index_sequence_for<A...>());                                 \
    }                                                                                               \
    extern "C" void run_##NAME(const unsigned* grid, unsigned threads, void** arguments)            \
    {                                                                                               \
        launcher_##NAME(NAME, grid, threads, arguments);                                            \
    }
