// FAISS requests products of halves from cuBLAS in "pedantic" mode, because the fast mode refused some small shapes on
// old devices. Pedantic products may not use tensor cores. The linker redirects FAISS's calls to this file (--wrap),
// which requests the fast mode, whose sums are in single precision too, and the pedantic mode where that is refused.

#include <cublas_v2.h>

extern "C" {

cublasStatus_t __real_cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
                                   int n, int k, const void *alpha, const void *a, cudaDataType a_type, int lda,
                                   const void *b, cudaDataType b_type, int ldb, const void *beta, void *c,
                                   cudaDataType c_type, int ldc, cublasComputeType_t compute, cublasGemmAlgo_t algo);

cublasStatus_t __wrap_cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
                                   int n, int k, const void *alpha, const void *a, cudaDataType a_type, int lda,
                                   const void *b, cudaDataType b_type, int ldb, const void *beta, void *c,
                                   cudaDataType c_type, int ldc, cublasComputeType_t compute, cublasGemmAlgo_t algo) {
    auto product = [&](cublasComputeType_t mode) {
        return __real_cublasGemmEx(handle, transa, transb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c,
                                   c_type, ldc, mode, algo);
    };
    if (compute == CUBLAS_COMPUTE_32F_PEDANTIC) {
        auto status = product(CUBLAS_COMPUTE_32F);
        if (status != CUBLAS_STATUS_NOT_SUPPORTED && status != CUBLAS_STATUS_INVALID_VALUE) {
            return status;
        }
    }
    return product(compute);
}

} // extern "C"
