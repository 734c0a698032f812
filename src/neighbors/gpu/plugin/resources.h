// What FAISS works with on a device: its streams, its cuBLAS handle, and temporary memory that is large enough.
#pragma once

#include <faiss/gpu/StandardGpuResources.h>
#include <faiss/gpu/utils/DeviceUtils.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace batchmine {

// Temporary memory that one call of bfKnn takes, in bytes. FAISS (chooseTileSize, runDistance) has two matrices of
// scores, for two streams, of 512 queries (1,024 of up to 32 values) by as many rows as give a part of a GiB; and
// beside each the best k of every strip of rows. Were it wrong, searches would be slower, no more.
inline size_t temporary_bytes(size_t device_bytes, uint64_t queries, uint64_t rows, uint32_t type, uint32_t dim,
                              uint32_t k) {
    constexpr uint64_t GIB = 1ull << 30;
    uint64_t aim = device_bytes <= 4 * GIB ? GIB / 2 : device_bytes <= 8 * GIB ? GIB / 4 * 3 : GIB;
    uint64_t tall = dim <= 32 ? 1024 : 512;
    uint64_t wide = std::min(aim / (2 * type) / tall, rows);
    uint64_t strips = (rows + wide - 1) / wide;
    tall = std::min(tall, queries);
    uint64_t streams = 2 * tall * (wide * sizeof(float) + strips * k * (sizeof(float) + sizeof(int64_t)));
    // Norms, and what rounding up takes.
    return streams + queries * sizeof(float) + (1 << 20);
}

#ifdef BATCHMINE_FAISS_LINKED

// FAISS is a library that was built elsewhere, perhaps with members that its headers do not show here.
class Resources : public faiss::gpu::StandardGpuResources {
public:
    // It has as much as FAISS takes by itself, and keeps it.
    void reserve(int, size_t) {}
    void release(int) {}
};

#else

// FAISS reserves 1.5 GiB at most. Two matrices of scores of 1 GiB each go beyond that, and what goes beyond is taken
// by cudaMalloc and given back by cudaFree, which waits for the device, in every call.
class Roomy : public faiss::gpu::StandardGpuResourcesImpl {
public:
    // Temporary memory of a device: more than it had, or none. Nothing may be using what it had.
    void reserve(int device, size_t bytes) {
        initializeForDevice(device);
        if (bytes > reserved_) {
            // Also when there is not as much, FAISS must find something here.
            release(device);
            tempMemory_[device] = std::make_unique<faiss::gpu::StackDeviceMemory>(this, device, bytes);
            reserved_ = bytes;
        }
    }

    void release(int device) {
        reserved_ = 0;
        tempMemory_[device] = std::make_unique<faiss::gpu::StackDeviceMemory>(this, device, 0);
    }

private:
    size_t reserved_ = 0;
};

class Resources : public faiss::gpu::GpuResourcesProvider {
public:
    Resources() { roomy_->setTempMemory(0); }
    std::shared_ptr<faiss::gpu::GpuResources> getResources() override { return roomy_; }
    void setPinnedMemory(size_t bytes) { roomy_->setPinnedMemory(bytes); }
    cudaStream_t getDefaultStream(int device) { return roomy_->getDefaultStream(device); }
    void reserve(int device, size_t bytes) { roomy_->reserve(device, bytes); }
    void release(int device) { roomy_->release(device); }

private:
    std::shared_ptr<Roomy> roomy_ = std::make_shared<Roomy>();
};

#endif

} // namespace batchmine
