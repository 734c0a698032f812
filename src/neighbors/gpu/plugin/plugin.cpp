// The plugin over FAISS: faiss::gpu::bfKnn behind the C interface of batchmine_gpu.h.
//
// A base tile is copied when no search is under way, and stays on the device until one with another tag comes. Queries
// are searched in chunks: while FAISS searches one chunk on its own streams, the next chunk's queries and the last
// chunk's answers are copied on another stream, through pinned memory. FAISS aborts the process on most CUDA errors;
// batchmine therefore runs plugins in processes of their own.

#include "batchmine_gpu.h"
#include "resources.h"

#include <cuda_runtime.h>
#include <faiss/Index.h>
#include <faiss/gpu/GpuDistance.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#define TEXT_OF(macro) TEXT(macro)
#define TEXT(word) #word

namespace {

// Queries that FAISS is given at once: two of its own tiles, so that its two streams have work.
constexpr uint64_t CHUNK_QUERIES = 1024;
// Bytes of each of the two pinned buffers through which data is copied to the device.
constexpr size_t STAGE_BYTES = 8u << 20;
// An answer as FAISS writes it: a place and a score. All places of a chunk come first.
constexpr size_t ANSWER_BYTES = sizeof(int64_t) + sizeof(float);

struct OutOfMemory : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void check(cudaError_t code, const char *what) {
    if (code == cudaSuccess) {
        return;
    }
    cudaGetLastError(); // clears the error, which would be reported by the next call too
    std::string text = std::string(what) + ": " + cudaGetErrorString(code);
    if (code == cudaErrorMemoryAllocation) {
        throw OutOfMemory(text);
    }
    throw std::runtime_error(text);
}

// Memory of the device or pinned memory of the host; grows, never shrinks.
class Buffer {
public:
    explicit Buffer(bool pinned) : pinned_(pinned) {}
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { release(); }

    void *at_least(size_t bytes) {
        if (bytes > bytes_) {
            release();
            check(pinned_ ? cudaMallocHost(&pointer_, bytes) : cudaMalloc(&pointer_, bytes),
                  pinned_ ? "pinned memory" : "device memory");
            bytes_ = bytes;
        }
        return pointer_;
    }

    void release() {
        // An error here cannot be reported.
        if (pointer_) {
            pinned_ ? cudaFreeHost(pointer_) : cudaFree(pointer_);
        }
        pointer_ = nullptr;
        bytes_ = 0;
    }

private:
    void *pointer_ = nullptr;
    size_t bytes_ = 0;
    bool pinned_;
};

class Event {
public:
    Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "an event"); }
    Event(const Event &) = delete;
    Event &operator=(const Event &) = delete;
    ~Event() { cudaEventDestroy(event_); }
    void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "recording an event"); }
    void wait() { check(cudaEventSynchronize(event_), "waiting for the device"); }
    void hold(cudaStream_t stream) { check(cudaStreamWaitEvent(stream, event_, 0), "ordering two streams"); }

private:
    cudaEvent_t event_ = nullptr;
};

} // namespace

struct batchmine_gpu_session {
    batchmine_gpu_session(uint32_t device, uint32_t type, uint32_t dim)
        : device_(chosen(device)), type_(type), dim_(dim) {
        // bfKnn copies nothing from or to the host here: FAISS need not pin 256 MiB for that.
        resources_.setPinnedMemory(0);
        check(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "a stream");
        size_t free = 0;
        check(cudaMemGetInfo(&free, &device_bytes_), "asking for the device's memory");
        faiss_stream_ = resources_.getDefaultStream(device_);
    }

    ~batchmine_gpu_session() { cudaStreamDestroy(copies_); }

    void search(const batchmine_gpu_tile &base, const batchmine_gpu_tile &queries, uint32_t k, float *scores,
                uint32_t *places) {
        try {
            search_chunks(base, queries, k, scores, places);
        } catch (...) {
            // The next tile may be smaller and succeed: this one must leave no work under way and no memory taken. The
            // error is known already.
            cudaDeviceSynchronize();
            cudaGetLastError();
            for (auto *buffer : {&base_, &queries_, &answers_[0], &answers_[1]}) {
                buffer->release();
            }
            base_tag_ = query_tag_ = 0;
            resources_.release(device_);
            throw;
        }
    }

private:
    void search_chunks(const batchmine_gpu_tile &base, const batchmine_gpu_tile &queries, uint32_t k, float *scores,
                       uint32_t *places) {
        hold_base(base);
        uint64_t most = std::min(CHUNK_QUERIES, queries.rows);
        resources_.reserve(device_, batchmine::temporary_bytes(device_bytes_, most, base.rows, type_, dim_, k));
        bool there = queries.tag != 0 && queries.tag == query_tag_ && queries.rows == query_rows_;
        query_tag_ = 0;
        auto *device_queries = static_cast<char *>(queries_.at_least(queries.rows * row_bytes()));
        uint64_t chunks = (queries.rows + CHUNK_QUERIES - 1) / CHUNK_QUERIES;
        auto rows_of = [&](uint64_t chunk) {
            return std::min(CHUNK_QUERIES, queries.rows - chunk * CHUNK_QUERIES);
        };
        auto send = [&](uint64_t chunk) {
            size_t offset = chunk * CHUNK_QUERIES * row_bytes();
            if (!there) {
                upload(device_queries + offset, static_cast<const char *>(queries.values) + offset,
                       rows_of(chunk) * row_bytes());
            }
            sent_[chunk % 2].record(copies_);
        };
        auto fetch = [&](uint64_t chunk) {
            uint64_t count = rows_of(chunk) * k, offset = chunk * CHUNK_QUERIES * k;
            fetched_[chunk % 2].wait();
            auto *answers = static_cast<char *>(pinned_answers_[chunk % 2].at_least(count * ANSWER_BYTES));
            std::transform(reinterpret_cast<int64_t *>(answers), reinterpret_cast<int64_t *>(answers) + count,
                           places + offset, [](int64_t place) { return static_cast<uint32_t>(place); });
            std::memcpy(scores + offset, answers + count * sizeof(int64_t), count * sizeof(float));
        };
        send(0);
        for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
            uint64_t rows = rows_of(chunk), count = rows * k;
            // This buffer held the answers of the chunk before last, which are on the host by now.
            auto *answers = static_cast<char *>(answers_[chunk % 2].at_least(CHUNK_QUERIES * k * ANSWER_BYTES));
            sent_[chunk % 2].hold(faiss_stream_);
            knn(base, device_queries + chunk * CHUNK_QUERIES * row_bytes(), rows, k, answers + count * sizeof(int64_t),
                answers);
            searched_[chunk % 2].record(faiss_stream_);
            if (chunk + 1 < chunks) {
                send(chunk + 1);
            }
            if (chunk > 0) {
                fetch(chunk - 1);
            }
            searched_[chunk % 2].hold(copies_);
            void *pinned = pinned_answers_[chunk % 2].at_least(CHUNK_QUERIES * k * ANSWER_BYTES);
            check(cudaMemcpyAsync(pinned, answers, count * ANSWER_BYTES, cudaMemcpyDeviceToHost, copies_),
                  "fetching answers");
            fetched_[chunk % 2].record(copies_);
        }
        fetch(chunks - 1);
        query_tag_ = queries.tag;
        query_rows_ = queries.rows;
    }

    // Runs first: streams and events belong to the device that is current when they are created.
    static int chosen(uint32_t device) {
        check(cudaSetDevice(static_cast<int>(device)), "choosing the device");
        return static_cast<int>(device);
    }

    size_t row_bytes() const { return static_cast<size_t>(dim_) * type_; }

    void hold_base(const batchmine_gpu_tile &base) {
        if (base.tag != 0 && base.tag == base_tag_ && base.rows == base_rows_) {
            return;
        }
        base_tag_ = 0;
        // Queries follow on the same stream, and FAISS waits for these.
        upload(base_.at_least(base.rows * row_bytes()), base.values, base.rows * row_bytes());
        base_tag_ = base.tag;
        base_rows_ = base.rows;
    }

    // Copies to the device on the stream of copies; the source may be reused when it returns.
    void upload(void *to, const void *from, size_t bytes) {
        for (size_t done = 0; done < bytes;) {
            size_t some = std::min(STAGE_BYTES, bytes - done);
            void *stage = stages_[turn_].at_least(STAGE_BYTES);
            staged_[turn_].wait();
            std::memcpy(stage, static_cast<const char *>(from) + done, some);
            check(cudaMemcpyAsync(static_cast<char *>(to) + done, stage, some, cudaMemcpyHostToDevice, copies_),
                  "copying to the device");
            staged_[turn_].record(copies_);
            turn_ = 1 - turn_;
            done += some;
        }
    }

    void knn(const batchmine_gpu_tile &base, const void *queries, uint64_t rows, uint32_t k, void *scores,
             void *places) {
        faiss::gpu::GpuDistanceParams params;
        auto type = type_ == BATCHMINE_GPU_F16 ? faiss::gpu::DistanceDataType::F16 : faiss::gpu::DistanceDataType::F32;
        params.metric = faiss::METRIC_INNER_PRODUCT;
        params.k = static_cast<int>(k);
        params.dims = static_cast<int>(dim_);
        params.vectors = base_.at_least(0);
        params.vectorType = type;
        params.numVectors = static_cast<faiss::idx_t>(base.rows);
        params.queries = queries;
        params.queryType = type;
        params.numQueries = static_cast<faiss::idx_t>(rows);
        params.outDistances = static_cast<float *>(scores);
        // For narrower indices FAISS converts these, and waits for the device.
        params.outIndicesType = faiss::gpu::IndicesDataType::I64;
        params.outIndices = places;
        params.device = device_;
        params.use_cuvs = false;
        faiss::gpu::bfKnn(&resources_, params);
    }

    int device_;
    uint32_t type_, dim_;
    size_t device_bytes_ = 0;
    batchmine::Resources resources_;
    cudaStream_t faiss_stream_ = nullptr, copies_ = nullptr;
    Buffer base_{false}, queries_{false};
    std::array<Buffer, 2> answers_{Buffer(false), Buffer(false)}, pinned_answers_{Buffer(true), Buffer(true)};
    std::array<Buffer, 2> stages_{Buffer(true), Buffer(true)};
    std::array<Event, 2> staged_, sent_, searched_, fetched_;
    uint64_t base_tag_ = 0, base_rows_ = 0, query_tag_ = 0, query_rows_ = 0;
    int turn_ = 0;
};

namespace {

void write_text(char *error, size_t error_bytes, const char *text) {
    if (error && error_bytes > 0) {
        std::strncpy(error, text, error_bytes - 1);
        error[error_bytes - 1] = 0;
    }
}

// FAISS reports a failed allocation as an exception that only its text distinguishes.
bool is_memory(const std::string &text) {
    return text.find("alloc fail") != std::string::npos || text.find("out of memory") != std::string::npos ||
           text.find("memory allocation") != std::string::npos;
}

// Runs `work`, and turns whatever it throws into a code and a message.
template <typename Work> int32_t guarded(char *error, size_t error_bytes, Work work) noexcept {
    try {
        work();
        return BATCHMINE_GPU_OK;
    } catch (const OutOfMemory &e) {
        write_text(error, error_bytes, e.what());
        return BATCHMINE_GPU_OUT_OF_MEMORY;
    } catch (const std::bad_alloc &) {
        write_text(error, error_bytes, "out of host memory");
        return BATCHMINE_GPU_OUT_OF_MEMORY;
    } catch (const std::exception &e) {
        write_text(error, error_bytes, e.what());
        return is_memory(e.what()) ? BATCHMINE_GPU_OUT_OF_MEMORY : BATCHMINE_GPU_FAILED;
    } catch (...) {
        write_text(error, error_bytes, "an exception without a text");
        return BATCHMINE_GPU_FAILED;
    }
}

} // namespace

uint32_t batchmine_gpu_version(void) { return BATCHMINE_GPU_VERSION; }

#ifdef BATCHMINE_FAISS_LINKED
// Its version cannot be read: it is a std::string, whose layout differs between compilers.
#define FAISS_IS "a linked FAISS, taken to be "
#else
#define FAISS_IS "FAISS "
#endif

const char *batchmine_gpu_about(void) {
    return FAISS_IS TEXT_OF(FAISS_VERSION_MAJOR) "." TEXT_OF(FAISS_VERSION_MINOR) "." TEXT_OF(
        FAISS_VERSION_PATCH) ", CUDA runtime " TEXT_OF(CUDART_VERSION);
}

int32_t batchmine_gpu_count(uint32_t *count, char *error, size_t error_bytes) {
    return guarded(error, error_bytes, [&] {
        int found = 0;
        check(cudaGetDeviceCount(&found), "no device");
        *count = static_cast<uint32_t>(found);
    });
}

int32_t batchmine_gpu_describe(uint32_t device, char *name, size_t name_bytes, uint64_t *free_bytes,
                               uint64_t *total_bytes, char *error, size_t error_bytes) {
    return guarded(error, error_bytes, [&] {
        cudaDeviceProp properties;
        check(cudaGetDeviceProperties(&properties, static_cast<int>(device)), "asking for a device's properties");
        write_text(name, name_bytes, properties.name);
        check(cudaSetDevice(static_cast<int>(device)), "choosing a device");
        size_t free = 0, total = 0;
        check(cudaMemGetInfo(&free, &total), "asking for a device's memory");
        *free_bytes = free;
        *total_bytes = total;
    });
}

int32_t batchmine_gpu_open(uint32_t device, uint32_t type, uint32_t dim, batchmine_gpu_session **session, char *error,
                           size_t error_bytes) {
    return guarded(error, error_bytes, [&] {
        if ((type != BATCHMINE_GPU_F16 && type != BATCHMINE_GPU_F32) || dim == 0) {
            throw std::runtime_error("unknown number type, or rows without values");
        }
        *session = new batchmine_gpu_session(device, type, dim);
    });
}

int32_t batchmine_gpu_search(batchmine_gpu_session *session, const batchmine_gpu_tile *base,
                             const batchmine_gpu_tile *queries, uint32_t k, float *scores, uint32_t *places,
                             char *error, size_t error_bytes) {
    return guarded(error, error_bytes, [&] {
        if (k == 0 || k > BATCHMINE_GPU_RANKS_MAX || k > base->rows || queries->rows == 0) {
            throw std::runtime_error("k is out of range, or there are no queries");
        }
        session->search(*base, *queries, k, scores, places);
    });
}

void batchmine_gpu_close(batchmine_gpu_session *session) { delete session; }
