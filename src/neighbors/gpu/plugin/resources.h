// FAISS's resources on a device: its streams, its cuBLAS handle, and temporary memory that is large enough.
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
// scores, for two streams, of 512 queries (1,024 where dim is at most 32) by as many rows as fill a part of a GiB; and
// beside each the best k of every strip of rows. If this were wrong, searches would be slower, but right.
inline size_t temporary_bytes(size_t device_bytes, uint64_t queries, uint64_t rows, uint32_t type, uint32_t dim,
                              uint32_t k) {
    constexpr uint64_t GIB = 1ull << 30;
    uint64_t aim = device_bytes <= 4 * GIB ? GIB / 2 : device_bytes <= 8 * GIB ? GIB / 4 * 3 : GIB;
    uint64_t tall = dim <= 32 ? 1024 : 512;
    uint64_t wide = std::min(aim / (2 * type) / tall, rows);
    uint64_t strips = (rows + wide - 1) / wide;
    tall = std::min(tall, queries);
    uint64_t streams = 2 * tall * (wide * sizeof(float) + strips * k * (sizeof(float) + sizeof(int64_t)));
    // Norms, and a margin for rounding up.
    return streams + queries * sizeof(float) + (1 << 20);
}

#ifdef BATCHMINE_FAISS_LINKED

// FAISS is a library that was built elsewhere, perhaps with class members that its headers do not show here.
class Resources : public faiss::gpu::StandardGpuResources {
public:
    // The temporary memory is what FAISS reserves by itself; it is kept.
    void reserve(int, size_t) {}
    void release(int) {}
};

#else

// FAISS reserves 1.5 GiB at most. Two matrices of scores of 1 GiB each exceed that; every call would allocate the
// excess with cudaMalloc and free it with cudaFree, which waits for the device.
class LargeResources : public faiss::gpu::StandardGpuResourcesImpl {
public:
    // Enlarges the temporary memory of a device. Nothing may be using the old memory.
    void reserve(int device, size_t bytes) {
        initializeForDevice(device);
        if (bytes > reserved_) {
            // FAISS needs an object here even if the next allocation throws.
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
    Resources() { large_->setTempMemory(0); }
    std::shared_ptr<faiss::gpu::GpuResources> getResources() override { return large_; }
    void setPinnedMemory(size_t bytes) { large_->setPinnedMemory(bytes); }
    cudaStream_t getDefaultStream(int device) { return large_->getDefaultStream(device); }
    void reserve(int device, size_t bytes) { large_->reserve(device, bytes); }
    void release(int device) { large_->release(device); }

private:
    std::shared_ptr<LargeResources> large_ = std::make_shared<LargeResources>();
};

#endif

} // namespace batchmine
