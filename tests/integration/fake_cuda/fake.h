// Between the parts of a CUDA without a device: the runtime, cuBLAS and the kernels.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>

namespace fake {

// Work on a stream.
void launch(cudaStream_t stream, std::function<void()> kernel);
// Where memory of the device really lies. For kernels only; ends the process where the bytes are not of one allocation.
char *real(const void *pointer, size_t bytes);
// A line for FAKE_CUDA_LOG.
void log(const char *format, ...);
// Whether this call is the one that FAKE_CUDA_FAULT wants to fail.
bool fails(const char *call);
// Ends the process with a word, unless something holds.
void must(bool holds, const char *what);

} // namespace fake
