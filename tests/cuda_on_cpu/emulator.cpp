// Runs CUDA kernels on a CPU, for tests, and finds what a device would forgive or hide: each thread of a block is a fiber,
// blocks follow each other.
//
// Order. A warp that is chosen at random goes on, lane after lane in random order, mostly until it waits for the block; only
// then come the others. A barrier that some threads never reach is an error.
//
// Memory. The kernels are compiled with g++'s instrumentation for its sanitizers, but linked with the
// functions below in the place of their runtimes: each access that is not to a thread's own stack is looked at. Errors are
//   - an address that is no multiple of the type's alignment, and a signed integer that overflows,
//   - an access outside of the arrays that the kernel was given, or of a thread's own arrays where the compiler can see it,
//   - a read of shared memory that this block has not written,
//   - a race: two threads at one address, one of them writing, with no barrier between them: __syncthreads, or __syncwarp
//     for two lanes of a warp (a shuffle orders no memory); threads of two blocks always race.
#include <setjmp.h>
#include <ucontext.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda_on_cpu.h"

extern char image_begins __asm__("__ehdr_start") __attribute__((visibility("hidden")));
extern char shared_begins __asm__("__bss_start") __attribute__((visibility("hidden")));
extern char shared_ends __asm__("_end") __attribute__((visibility("hidden")));

namespace emulator {

struct Range {  // an array
    uintptr_t start, stop;
};

struct Launch {
    unsigned grid[3], threads;
    uint64_t first, last;  // of the blocks, which are run
    uint64_t seed;
    const Range* ranges;  // in the order of their addresses
    uint64_t count;
    uint64_t races;  // look for them too?
};

struct Fiber {
    jmp_buf at;
    ucontext_t fresh;
    bool started;
    uint64_t offered[2];  // to a shuffle, and to the next one: nobody is two ahead
    unsigned shuffles;
};

struct Warp {
    unsigned all, of[done + 1];  // lanes, and those in each state
    unsigned synced;  // calls of __syncwarp so far
};

struct Access {
    uint64_t block;  // 1 and up; 0: none
    unsigned thread, block_epoch, warp_epoch;
};

struct Cell {  // four bytes of memory
    Access write, read, earlier;  // the last write, the last read, the last read by another thread than that
};

Place place;
static const size_t STACK = 64 << 10;
static std::vector<char> stacks;
static std::vector<Fiber> fibers;
static std::vector<Warp> warps;
static std::vector<std::vector<Cell>> cells;  // of each range, and of shared memory
static const Launch* launch;
static void (*body)(void**);
static void** arguments;
static jmp_buf scheduler;
static unsigned current, block_epoch;
static uint64_t block_number, state_of_random, nearest;
static char message[400];

static void say(const char* format, ...)
{
    if (message[0]) return;
    const int n = std::snprintf(message, sizeof message, "block (%u, %u), thread %u: ", place.block.x, place.block.y, current);
    va_list list;
    va_start(list, format);
    std::vsnprintf(message + n, sizeof message - n, format, list);
    va_end(list);
}

#define FAIL(...) (say(__VA_ARGS__), _longjmp(scheduler, 1))

static unsigned random_below(unsigned n)  // xorshift64*
{
    state_of_random ^= state_of_random >> 12;
    state_of_random ^= state_of_random << 25;
    state_of_random ^= state_of_random >> 27;
    return (unsigned)((state_of_random * 0x2545F4914F6CDD1Dull) >> 33) % n;
}

// -- threads ------------------------------------------------------------------------------------------------------------

static void move(unsigned thread, State from, State to)
{
    warps[thread / 32].of[from] &= ~(1u << thread % 32);
    warps[thread / 32].of[to] |= 1u << thread % 32;
}

void leave(State state)
{
    move(current, ready, state);
    if (!_setjmp(fibers[current].at)) _longjmp(scheduler, 1);
}

uint64_t exchange_bits(unsigned mask, uint64_t value, unsigned from)
{
    const unsigned me = current, turn = fibers[me].shuffles++ % 2;
    if (mask != 0xffffffffu) FAIL("a shuffle of part of a warp");
    fibers[me].offered[turn] = value;
    leave(at_shuffle);
    if (from / 32 != me / 32 || from >= launch->threads) FAIL("a shuffle reads lane %u, which is not in the warp", from);
    if (fibers[from].shuffles < fibers[me].shuffles) FAIL("a shuffle reads lane %u, which has ended", from % 32);
    return fibers[from].offered[turn];
}

unsigned long long exchange(unsigned mask, unsigned long long value, unsigned from) { return exchange_bits(mask, value, from); }

static void entry()
{
    for (;;) {  // once per block
        body(arguments);
        leave(done);
    }
}

static void resume(unsigned thread)
{
    current = place.thread.x = thread;
    Fiber& f = fibers[thread];
    if (_setjmp(scheduler)) return;
    if (f.started) _longjmp(f.at, 1);
    f.started = true;
    getcontext(&f.fresh);
    f.fresh.uc_stack.ss_sp = &stacks[thread * STACK];
    f.fresh.uc_stack.ss_size = STACK;
    f.fresh.uc_link = nullptr;
    makecontext(&f.fresh, entry, 0);
    setcontext(&f.fresh);
}

// One warp goes on: each of its lanes to its next barrier. Then all that wait for each other and are complete are let go.
static void step(unsigned w)
{
    const unsigned todo = warps[w].of[ready], begin = random_below(32), stride = 2 * random_below(16) + 1;
    for (unsigned k = 0; k < 32 && !message[0]; ++k) {
        const unsigned lane = (begin + k * stride) % 32;
        if (todo >> lane & 1) resume(w * 32 + lane);
    }
    Warp& warp = warps[w];
    for (State state : {at_warp, at_shuffle})
        if (warp.of[state] && (warp.of[state] | warp.of[done]) == warp.all) {
            warp.of[ready] |= warp.of[state];
            warp.of[state] = 0;
            warp.synced += state == at_warp;
        }
}

static void run_block()
{
    for (unsigned w = 0; w < warps.size(); ++w) {
        const unsigned lanes = launch->threads - w * 32;
        warps[w] = {};
        warps[w].all = warps[w].of[ready] = lanes < 32 ? (1u << lanes) - 1 : ~0u;
    }
    for (unsigned i = 0; i < launch->threads; ++i) fibers[i].shuffles = 0;
    block_epoch = 0;
    for (unsigned w = 0; !message[0];) {
        if (!warps[w].of[ready] || random_below(8) == 0) {  // another one
            unsigned runnable = 0;
            for (unsigned i = 0; i < warps.size(); ++i)
                if (warps[i].of[ready] && random_below(++runnable) == 0) w = i;
            if (!runnable) {
                bool ended = true, together = true;
                for (const Warp& warp : warps) {
                    ended = ended && warp.of[done] == warp.all;
                    together = together && warp.of[at_block] == warp.all;
                }
                if (ended) return;
                if (!together) return say("some threads wait at a barrier that the others never reach");
                for (Warp& warp : warps) {
                    warp.of[ready] = warp.all;
                    warp.of[at_block] = 0;
                }
                ++block_epoch;
                continue;
            }
        }
        step(w);
    }
}

const char* run(const Launch* launch_, void (*body_)(void**), void** arguments_)
{
    launch = launch_, body = body_, arguments = arguments_;
    message[0] = 0;
    if (fibers.size() != launch->threads) {
        fibers.assign(launch->threads, {});
        stacks.resize(launch->threads * STACK);
        warps.resize((launch->threads + 31) / 32);
    }
    cells.assign(launch->count + 1, {});
    if (launch->races)
        for (uint64_t i = 0; i < launch->count; ++i) cells[i].resize((launch->ranges[i].stop - launch->ranges[i].start + 3) / 4);
    cells.back().resize((&shared_ends - &shared_begins) / 4 + 2);
    nearest = 0;
    place.grid = {launch->grid[0], launch->grid[1], launch->grid[2]};
    place.threads = {launch->threads, 1, 1};
    place.thread = {0, 0, 0};
    for (uint64_t b = launch->first; b < launch->last && !message[0]; ++b) {
        place.block = {(unsigned)(b % launch->grid[0]), (unsigned)(b / launch->grid[0] % launch->grid[1]), (unsigned)(b / launch->grid[0] / launch->grid[1])};
        block_number = b + 1;
        state_of_random = (launch->seed + 1) * 0x9E3779B97F4A7C15ull + b;
        run_block();
    }
    if (message[0])
        for (Fiber& f : fibers) f.started = false;  // they stopped midway
    return message[0] ? message : nullptr;
}

// -- memory -------------------------------------------------------------------------------------------------------------

static bool races_with(const Access& before)
{
    if (!before.block || (before.block == block_number && before.thread == current)) return false;
    if (before.block != block_number) return true;
    if (before.block_epoch != block_epoch) return false;
    return before.thread / 32 != current / 32 || before.warp_epoch == warps[current / 32].synced;
}

static void at_cell(Cell& cell, bool write, bool shared)
{
    const char* what = shared ? "shared memory" : "an array";
    if (shared) {  // of this block alone
        if (cell.write.block != block_number) cell.write = {};
        if (cell.read.block != block_number) cell.read = {};
        if (cell.earlier.block != block_number) cell.earlier = {};
        if (!write && !cell.write.block) FAIL("reads shared memory that nothing has been written to");
    }
    if (races_with(cell.write)) FAIL("a race: %s what thread %u wrote in %s, with no barrier between", write ? "overwrites" : "reads", cell.write.thread, what);
    const Access now = {block_number, current, block_epoch, warps[current / 32].synced};
    if (!write) {
        if (cell.read.block != now.block || cell.read.thread != now.thread) cell.earlier = cell.read;
        cell.read = now;
        return;
    }
    for (const Access& read : {cell.read, cell.earlier})
        if (races_with(read)) FAIL("a race: overwrites what thread %u read in %s, with no barrier between", read.thread, what);
    cell.write = now;
}

static void at_address(const void* address, size_t size, bool write)
{
    const uintptr_t a = (uintptr_t)address, stack = (uintptr_t)stacks.data(), space = (uintptr_t)&place;
    if (a - stack < stacks.size() || a - space < sizeof place) return;
    if (a >= (uintptr_t)&image_begins && a < (uintptr_t)&shared_begins) return;  // a constant
    const bool shared = a >= (uintptr_t)&shared_begins && a < (uintptr_t)&shared_ends;
    uintptr_t start = (uintptr_t)&shared_begins / 4 * 4;
    uint64_t i = launch->count;
    if (!shared) {
        const Range* r = launch->ranges;
        if (!(nearest < launch->count && a >= r[nearest].start && a < r[nearest].stop))
            for (nearest = 0; nearest < launch->count && !(a >= r[nearest].start && a < r[nearest].stop);) ++nearest;
        if (nearest == launch->count || a + size > r[nearest].stop) FAIL("%s %zu bytes outside of its arrays", write ? "writes" : "reads", size);
        i = nearest;
        start = r[i].start;
    }
    if (shared || launch->races)
        for (size_t at = (a - start) / 4; at <= (a + size - 1 - start) / 4; ++at) at_cell(cells[i][at], write, shared);
}

struct Location {
    const char* file;
    unsigned line, column;
};

struct Mismatch {
    Location location;
    const void* type;
    unsigned char log_alignment, kind;
};

static void mismatch(const Mismatch* found, const void* address)
{
    const unsigned after = (uintptr_t)address % 16;
    if ((uintptr_t)address % (1u << found->log_alignment)) FAIL("line %u: misaligned: an access at %u bytes after a multiple of 16", found->location.line, after);
    FAIL("line %u: beyond the end of an array of a thread", found->location.line);
}

static void overflow(const Location* location) { FAIL("line %u: an integer overflows", location->line); }

}  // namespace emulator

// -- what the compiler calls --------------------------------------------------------------------------------------------

#define HOOKS(n)                                                                                  \
    void __tsan_read##n(void* a) { emulator::at_address(a, n, false); }                           \
    void __tsan_write##n(void* a) { emulator::at_address(a, n, true); }                           \
    void __tsan_unaligned_read##n(void* a) { emulator::at_address(a, n, false); }                 \
    void __tsan_unaligned_write##n(void* a) { emulator::at_address(a, n, true); }

extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void* a, unsigned long size) { emulator::at_address(a, size, false); }
void __tsan_write_range(void* a, unsigned long size) { emulator::at_address(a, size, true); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __ubsan_handle_type_mismatch_v1(emulator::Mismatch* found, void* address) { emulator::mismatch(found, address); }
void __ubsan_handle_add_overflow(emulator::Location* location, void*, void*) { emulator::overflow(location); }
void __ubsan_handle_sub_overflow(emulator::Location* location, void*, void*) { emulator::overflow(location); }
void __ubsan_handle_mul_overflow(emulator::Location* location, void*, void*) { emulator::overflow(location); }
void __ubsan_handle_divrem_overflow(emulator::Location* location, void*, void*) { emulator::overflow(location); }
void __ubsan_handle_negate_overflow(emulator::Location* location, void*) { emulator::overflow(location); }
}
