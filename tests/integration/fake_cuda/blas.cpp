// cuBLAS without a device: one product after another, summed in singles.
//
// FAKE_CUDA_FAST=no: products of halves are refused unless they are pedantic.

#include "fake.h"

#include <cublas_v2.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

struct cublasContext {
    cudaStream_t stream;
    cublasMath_t mode;
};

namespace {

float single(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    float size = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                 : exponent == 31 ? (fraction ? NAN : INFINITY)
                                  : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return half >> 15 ? -size : size;
}

// `rows` rows of `dim` values, each `stride` values after the last.
std::vector<float> singles(const void *values, cudaDataType type, int rows, int dim, int stride) {
    size_t width = type == CUDA_R_16F ? 2 : 4;
    const char *from = fake::real(values, (static_cast<size_t>(rows - 1) * stride + dim) * width);
    std::vector<float> all(static_cast<size_t>(rows) * dim);
    for (int row = 0; row < rows; ++row) {
        for (int at = 0; at < dim; ++at) {
            const char *value = from + (static_cast<size_t>(row) * stride + at) * width;
            uint16_t half = 0;
            std::memcpy(width == 2 ? static_cast<void *>(&half) : &all[static_cast<size_t>(row) * dim + at], value, width);
            if (width == 2) {
                all[static_cast<size_t>(row) * dim + at] = single(half);
            }
        }
    }
    return all;
}

float dot(const float *left, const float *right, int dim) {
    float sums[16] = {};
    int at = 0;
    for (; at + 16 <= dim; at += 16) {
        for (int lane = 0; lane < 16; ++lane) {
            sums[lane] += left[at + lane] * right[at + lane];
        }
    }
    float sum = 0;
    for (; at < dim; ++at) {
        sum += left[at] * right[at];
    }
    for (float part : sums) {
        sum += part;
    }
    return sum;
}

cublasStatus_t product(cublasHandle_t handle, int m, int n, int k, const void *a, int lda, const void *b, int ldb,
                       cudaDataType type, void *c, int ldc) {
    if (lda < k || ldb < k || ldc < m) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    fake::launch(handle->stream, [=] {
        auto left = singles(a, type, m, k, lda), right = singles(b, type, n, k, ldb);
        auto *to = reinterpret_cast<float *>(fake::real(c, (static_cast<size_t>(n - 1) * ldc + m) * sizeof(float)));
        for (int column = 0; column < n; ++column) {
            for (int row = 0; row < m; ++row) {
                to[static_cast<size_t>(column) * ldc + row] =
                    dot(&left[static_cast<size_t>(row) * k], &right[static_cast<size_t>(column) * k], k);
            }
        }
    });
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace

extern "C" {

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    *handle = new cublasContext{nullptr, CUBLAS_DEFAULT_MATH};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    handle->mode = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                            int k, const void *alpha, const void *a, cudaDataType a_type, int lda, const void *b,
                            cudaDataType b_type, int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
    bool known = transa == CUBLAS_OP_T && transb == CUBLAS_OP_N && a_type == b_type && c_type == CUDA_R_32F &&
                 *static_cast<const float *>(alpha) == 1 && *static_cast<const float *>(beta) == 0;
    // Sums must not be of halves.
    if (!known || handle->mode != CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (fake::fails("cublasGemmEx")) {
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    bool fast = compute == CUBLAS_COMPUTE_32F;
    const char *setting = std::getenv("FAKE_CUDA_FAST");
    if (fast && setting && !std::strcmp(setting, "no")) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    fake::log("product %s %s %d %d\n", a_type == CUDA_R_16F ? "f16" : "f32", fast ? "fast" : "pedantic", n, m);
    return product(handle, m, n, k, a, lda, b, ldb, a_type, c, ldc);
}

cublasStatus_t cublasSgemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                             int k, const float *alpha, const void *a, cudaDataType a_type, int lda, const void *b,
                             cudaDataType b_type, int ldb, const float *beta, void *c, cudaDataType c_type, int ldc) {
    return cublasGemmEx(handle, transa, transb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

} // extern "C"
