// What a CUDA source sees when it is compiled for the emulator, emulator.cpp: only what minigrad's kernels use.
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(n)
#define __shared__ static

namespace emulator {

struct Dim {
    unsigned x, y, z;
};

extern struct Place {
    Dim thread, block, threads, grid;
} place;

struct Launch;
const char* run(const Launch* launch, void (*body)(void**), void** arguments);

enum State { ready, at_block, at_warp, at_shuffle, done };
void leave(State state);
unsigned long long exchange(unsigned mask, unsigned long long value, unsigned from);

#define NOT_WATCHED __attribute__((no_sanitize("thread"), noinline))

template <class... A, size_t... I> NOT_WATCHED void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>)
{
    kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
}

template <class... A> NOT_WATCHED void call(void (*kernel)(A...), void** arguments) { call(kernel, arguments, std::index_sequence_for<A...>()); }

}  // namespace emulator

#define threadIdx emulator::place.thread
#define blockIdx emulator::place.block
#define blockDim emulator::place.threads
#define gridDim emulator::place.grid

inline void __syncthreads() { emulator::leave(emulator::at_block); }

inline void __syncwarp() { emulator::leave(emulator::at_warp); }

template <class T> T __shfl_xor_sync(unsigned mask, T value, int lane)
{
    unsigned long long bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = emulator::exchange(mask, bits, threadIdx.x ^ lane);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// extern "C" const char* run_NAME(launch, addresses of the arguments): null, or what went wrong
#define RUNNABLE(NAME)                                                                                                  \
    extern "C" const char* run_##NAME(const emulator::Launch* launch, void** arguments)                                 \
    {                                                                                                                   \
        return emulator::run(launch, [](void** a) { emulator::call(NAME, a); }, arguments);                             \
    }
