// Kernels without a device, for a plugin that nvcc has built: finds the PTX that is in it, and hands a launch to ptx.cpp.
//
// This is the other side of the code that nvcc puts into every file with kernels (crt/host_runtime.h).

#include "fake.h"
#include "ptx.h"

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

// The PTX of a fat binary for the oldest architecture in it.
struct FatBinary {
    std::string ptx;
    std::map<std::string, std::shared_ptr<const ptx::Kernel>> kernels;
};
struct Symbol {
    FatBinary *from;
    std::string name;
};
// Files with kernels register them before globals of this one are made.
std::map<const void *, Symbol> &symbols() {
    static std::map<const void *, Symbol> all;
    return all;
}
struct Configuration {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
};
std::vector<Configuration> configurations;

const ptx::Kernel &kernel_of(const void *function) {
    auto symbol = symbols().find(function);
    fake::must(symbol != symbols().end(), "a kernel that was never registered");
    auto &[from, name] = symbol->second;
    auto &kernel = from->kernels[name];
    if (!kernel) {
        kernel = std::make_shared<const ptx::Kernel>(ptx::parse(from->ptx, name));
    }
    return *kernel;
}

} // namespace

extern "C" {

// `wrapper`: magic, version, and a pointer to the fat binary: a header of magic, version, its own and all other bytes.
void **__cudaRegisterFatBinary(void *wrapper) {
    const char *data;
    std::memcpy(&data, static_cast<char *>(wrapper) + 8, sizeof data);
    uint64_t bytes;
    std::memcpy(&bytes, data + 8, sizeof bytes);
    std::string all(data, data + 16 + bytes);
    auto *binary = new FatBinary;
    for (size_t at = 0; (at = all.find(".version ", at)) != std::string::npos;) {
        std::string ptx(all.c_str() + at);
        if (binary->ptx.empty()) {
            binary->ptx = ptx;
        }
        at += ptx.size();
    }
    return reinterpret_cast<void **>(binary);
}

void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}
void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}

void __cudaRegisterFunction(void **binary, const char *function, char *, const char *name, int, void *, void *, void *,
                            void *, int *) {
    symbols()[function] = {reinterpret_cast<FatBinary *>(binary), name};
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
    configurations.push_back({grid, block, shared, stream});
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    auto last = configurations.back();
    configurations.pop_back();
    *grid = last.grid;
    *block = last.block;
    *shared = last.shared;
    std::memcpy(stream, &last.stream, sizeof last.stream);
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) {
    std::memcpy(kernel, &function, sizeof function);
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t handle, dim3 grid, dim3 block, void **arguments, size_t,
                               cudaStream_t stream) {
    auto &kernel = kernel_of(handle);
    std::vector<char> parameters(kernel.parameter_bytes);
    for (size_t at = 0; at < kernel.parameters.size(); ++at) {
        std::memcpy(&parameters[kernel.parameters[at].offset], arguments[at], kernel.parameters[at].bytes);
    }
    fake::log("kernel %s %u %u\n", kernel.name.c_str(), grid.x * grid.y * grid.z, block.x * block.y * block.z);
    ptx::Shape shape{{grid.x, grid.y, grid.z}, {block.x, block.y, block.z}};
    fake::launch(stream, [&kernel, shape, parameters] { ptx::run(kernel, shape, parameters); });
    return cudaSuccess;
}

// CUB asks for these to choose how many rows a block takes.
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *) {
    *attributes = {};
    attributes->ptxVersion = attributes->binaryVersion = 80;
    attributes->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *, int, size_t, unsigned) {
    *blocks = 4;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor      ? 8
             : attribute == cudaDevAttrMultiProcessorCount       ? 8
             : attribute == cudaDevAttrMaxSharedMemoryPerBlock   ? 48 << 10
             : attribute == cudaDevAttrMaxThreadsPerMultiProcessor ? 2048
                                                                 : 0;
    return cudaSuccess;
}

cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
const char *cudaGetErrorName(cudaError_t code) { return cudaGetErrorString(code); }

} // extern "C"
