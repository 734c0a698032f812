// A CUDA runtime without a device. It is stricter than a device, and as late as one may be:
//
// - Some streams do their work as soon as nothing that they wait for is in the way, the others when somebody waits for
//   them, no sooner. Whoever reads without waiting, or writes over what is still to be read, finds wrong values.
//   FAKE_CUDA_EAGER says which are eager: bit n for the nth stream that is made, from 0.
// - A pointer to a device's memory cannot be read or written on the host: the page is not there. New memory holds
//   no zeros.
// - A copy needs pinned memory; streams and events are of one device. A mistake ends the process, with a word.
//
// FAKE_CUDA_DEVICES (1), FAKE_CUDA_MEMORY (bytes of each; 16 GiB), FAKE_CUDA_LOG (a file: what was called),
// FAKE_CUDA_FAULT=CALL:N (the Nth such call fails), FAKE_CUDA_ONCE (a file: it fails only if that is not there).

#include "fake.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

const char *setting(const char *name, const char *otherwise) {
    const char *value = std::getenv((std::string("FAKE_CUDA_") + name).c_str());
    return value ? value : otherwise;
}

using fake::must;

struct Block {
    char *given, *real;
    size_t bytes;
    int device;
    bool pinned;
    bool freed = false;
};
// By the address that was given out.
std::map<const char *, std::shared_ptr<Block>> blocks;
std::map<int, size_t> used;
thread_local int current = 0;
thread_local cudaError_t last = cudaSuccess;

int devices() { return std::atoi(setting("DEVICES", "1")); }
size_t memory() { return std::strtoull(setting("MEMORY", "17179869184"), nullptr, 10); }

cudaError_t said(cudaError_t code) {
    if (code != cudaSuccess) {
        last = code;
    }
    return code;
}

std::shared_ptr<Block> block_of(const void *pointer) {
    auto at = blocks.upper_bound(static_cast<const char *>(pointer));
    if (at == blocks.begin()) {
        return nullptr;
    }
    auto block = std::prev(at)->second;
    return static_cast<const char *>(pointer) < block->given + block->bytes ? block : nullptr;
}

char *real_of(const Block &block, const void *pointer, size_t bytes) {
    size_t offset = static_cast<const char *>(pointer) - block.given;
    must(!block.freed, "memory is used that was given back");
    must(offset + bytes <= block.bytes, "an access goes beyond its memory");
    return block.real + offset;
}

} // namespace

// A point in a stream's work.
struct Mark {
    CUstream_st *stream;
    bool done = false;
};
struct Work {
    std::function<void()> run;
    std::shared_ptr<Mark> needs, makes;
};
struct CUstream_st {
    int device;
    bool eager;
    std::deque<Work> work;
};
struct CUevent_st {
    int device;
    std::shared_ptr<Mark> mark;
};

namespace {

// In the order in which they were made.
std::vector<CUstream_st *> streams;

bool is_stream(CUstream_st *stream) { return std::find(streams.begin(), streams.end(), stream) != streams.end(); }

void bring(const std::shared_ptr<Mark> &mark);

// Eager streams do what they can.
void go_on();

// The next work of a stream, or what has to be done before it.
void step(CUstream_st *stream) {
    must(!stream->work.empty(), "a stream waits for what never comes");
    if (auto needs = stream->work.front().needs; needs && !needs->done) {
        bring(needs);
        return;
    }
    Work work = std::move(stream->work.front());
    stream->work.pop_front();
    if (work.run) {
        work.run();
    }
    if (work.makes) {
        work.makes->done = true;
        go_on();
    }
}

void go_on() {
    for (bool moved = true; moved;) {
        moved = false;
        for (auto *some : streams) {
            while (some->eager && !some->work.empty() && (!some->work.front().needs || some->work.front().needs->done)) {
                step(some);
                moved = true;
            }
        }
    }
}

void bring(const std::shared_ptr<Mark> &mark) {
    while (!mark->done) {
        step(mark->stream);
    }
}

void drain(CUstream_st *stream) {
    while (!stream->work.empty()) {
        step(stream);
    }
}

void drain_all() {
    for (auto *stream : streams) {
        drain(stream);
    }
}

void add(CUstream_st *stream, Work work) {
    must(is_stream(stream), "there is no such stream");
    must(stream->device == current, "a stream of another device");
    stream->work.push_back(std::move(work));
    go_on();
}

} // namespace

namespace fake {

void must(bool holds, const char *what) {
    if (!holds) {
        std::fprintf(stderr, "fake CUDA: %s\n", what);
        std::abort();
    }
}

void log(const char *format, ...) {
    static FILE *file = *setting("LOG", "") ? std::fopen(setting("LOG", ""), "a") : nullptr;
    if (file) {
        va_list arguments;
        va_start(arguments, format);
        std::vfprintf(file, format, arguments);
        va_end(arguments);
        std::fflush(file);
    }
}

bool fails(const char *call) {
    static std::string fault = setting("FAULT", "");
    static std::string name = fault.substr(0, fault.find(':'));
    static int left = fault.empty() ? 0 : std::atoi(fault.substr(fault.find(':') + 1).c_str());
    if (name != call || --left != 0) {
        return false;
    }
    const char *once = setting("ONCE", "");
    if (*once) {
        if (access(once, F_OK) == 0) {
            return false;
        }
        std::fclose(std::fopen(once, "w"));
    }
    log("fault %s\n", call);
    return true;
}

void launch(cudaStream_t stream, std::function<void()> kernel) { add(stream, {std::move(kernel), nullptr, nullptr}); }

char *real(const void *pointer, size_t bytes) {
    auto block = block_of(pointer);
    must(block && !block->pinned, "a kernel is given memory that is not a device's");
    return real_of(*block, pointer, bytes);
}

} // namespace fake

extern "C" {

cudaError_t cudaGetDeviceCount(int *count) {
    *count = devices();
    return said(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device) {
    *device = current;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= devices()) {
        return said(cudaErrorInvalidDevice);
    }
    current = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    *properties = {};
    std::snprintf(properties->name, sizeof properties->name, "fake CUDA device %d", device);
    properties->totalGlobalMem = memory();
    properties->sharedMemPerBlock = 48 << 10;
    properties->major = 9;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
    drain_all();
    return cudaSuccess;
}

cudaError_t cudaGetLastError() {
    auto code = last;
    last = cudaSuccess;
    return code;
}

const char *cudaGetErrorString(cudaError_t code) {
    switch (code) {
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    default: return "invalid argument";
    }
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    *total = memory();
    *free = *total - used[current];
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
    if (fake::fails("cudaMalloc") || bytes > memory() - used[current]) {
        fake::log("full %d %zu\n", current, bytes);
        return said(cudaErrorMemoryAllocation);
    }
    // The same pages twice: where the device has them, and where the host must not touch them.
    int file = memfd_create("fake-cuda", 0);
    must(file >= 0 && ftruncate(file, static_cast<off_t>(bytes)) == 0, "no memory for a device");
    auto map = [&](int rights) { return static_cast<char *>(mmap(nullptr, bytes, rights, MAP_SHARED, file, 0)); };
    char *given = map(PROT_NONE), *real = map(PROT_READ | PROT_WRITE);
    must(given != MAP_FAILED && real != MAP_FAILED, "no memory for a device");
    close(file);
    // Halves and singles that are no numbers; pages beyond are left alone, they cost memory.
    std::memset(real, 0xff, bytes < (64u << 10) ? bytes : (64u << 10));
    blocks[given] = std::make_shared<Block>(Block{given, real, bytes, current, false});
    used[current] += bytes;
    fake::log("malloc %d %zu\n", current, bytes);
    *pointer = given;
    return cudaSuccess;
}

cudaError_t cudaMallocManaged(void **, size_t, unsigned) {
    must(false, "managed memory");
    return cudaErrorInvalidValue;
}

static cudaError_t give_back(void *pointer, bool pinned) {
    if (!pointer) {
        return cudaSuccess;
    }
    // It waits for the device, as CUDA does.
    drain_all();
    auto at = blocks.find(static_cast<char *>(pointer));
    must(at != blocks.end() && at->second->pinned == pinned, "memory is given back that was not taken");
    auto block = at->second;
    blocks.erase(at);
    block->freed = true;
    if (pinned) {
        std::free(block->real);
    } else {
        munmap(block->given, block->bytes);
        munmap(block->real, block->bytes);
        used[block->device] -= block->bytes;
        fake::log("free %d %zu\n", block->device, block->bytes);
    }
    return cudaSuccess;
}

cudaError_t cudaFree(void *pointer) { return give_back(pointer, false); }
cudaError_t cudaFreeHost(void *pointer) { return give_back(pointer, true); }

cudaError_t cudaMallocHost(void **pointer, size_t bytes) {
    if (fake::fails("cudaMallocHost")) {
        return said(cudaErrorMemoryAllocation);
    }
    auto *memory = static_cast<char *>(std::malloc(bytes));
    must(memory, "no memory for the host");
    std::memset(memory, 0xff, bytes);
    blocks[memory] = std::make_shared<Block>(Block{memory, memory, bytes, current, true});
    *pointer = memory;
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned) { return cudaMallocHost(pointer, bytes); }

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
    auto block = block_of(pointer);
    attributes->type = !block ? cudaMemoryTypeUnregistered : block->pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    attributes->device = block ? block->device : -1;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    if (fake::fails("cudaMemcpyAsync")) {
        return said(cudaErrorIllegalAddress);
    }
    bool down = kind == cudaMemcpyHostToDevice;
    auto source = block_of(from), target = block_of(to);
    must(source && target, "a copy from or to memory that is neither a device's nor pinned");
    must(source->pinned == down && target->pinned != down, "a copy in the wrong direction");
    fake::log("%s %d %zu\n", down ? "down" : "up", current, bytes);
    auto copy = [=] { std::memcpy(real_of(*target, to, bytes), real_of(*source, from, bytes), bytes); };
    add(stream, {copy, nullptr, nullptr});
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    must(flags == cudaStreamNonBlocking, "a stream that waits for the default stream");
    static unsigned made = 0;
    bool eager = std::atoi(setting("EAGER", "0")) >> made++ & 1;
    *stream = new CUstream_st{current, eager, {}};
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    must(is_stream(stream), "there is no such stream");
    drain(stream);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    must(is_stream(stream), "there is no such stream");
    fake::log("wait %d\n", current);
    drain(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    if (event->mark) {
        add(stream, {nullptr, event->mark, nullptr});
    }
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    *event = new CUevent_st{current, nullptr};
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    must(event->device == current, "an event of another device");
    event->mark = std::make_shared<Mark>(Mark{stream});
    add(stream, {nullptr, nullptr, event->mark});
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (event->mark) {
        bring(event->mark);
    }
    return cudaSuccess;
}

cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }

} // extern "C"
