// faiss::gpu::bfKnn without a device: FAISS's own resources (streams, cuBLAS handle, temporary memory), our kernels.
//
// As with FAISS, work begins on the default stream, goes to two others, tile by tile, and ends on the default one;
// nothing waits for it. Among equal scores the later row comes first, since nobody may count on the earlier one.

#include "fake.h"

#include <cublas_v2.h>
#include <faiss/Index.h>
#include <faiss/gpu/GpuDistance.h>
#include <faiss/gpu/GpuResources.h>
#include <faiss/gpu/utils/DeviceUtils.h>

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace faiss {
namespace gpu {

namespace {

// Best k of each of some rows of scores, with their columns.
void select(const char *scores, idx_t rows, idx_t columns, int k, float *best, int64_t *places) {
    std::vector<idx_t> order(columns);
    for (idx_t row = 0; row < rows; ++row) {
        auto *values = reinterpret_cast<const float *>(scores) + row * columns;
        std::iota(order.begin(), order.end(), idx_t(0));
        auto better = [&](idx_t one, idx_t other) {
            return values[one] != values[other] ? values[one] > values[other] : one > other;
        };
        std::partial_sort(order.begin(), order.begin() + k, order.end(), better);
        for (int at = 0; at < k; ++at) {
            best[row * k + at] = values[order[at]];
            places[row * k + at] = order[at];
        }
    }
}

} // namespace

void bfKnn(GpuResourcesProvider *provider, const GpuDistanceParams &args) {
    bool half = args.vectorType == DistanceDataType::F16;
    FAISS_THROW_IF_NOT(args.vectorType == args.queryType && args.metric == METRIC_INNER_PRODUCT);
    FAISS_THROW_IF_NOT(args.vectorsRowMajor && args.queriesRowMajor && args.outIndicesType == IndicesDataType::I64);
    FAISS_THROW_IF_NOT(args.k > 0 && args.k <= args.numVectors && !args.use_cuvs);
    DeviceScope scope(args.device);
    for (const void *pointer : {args.vectors, args.queries, (const void *)args.outDistances, (const void *)args.outIndices}) {
        FAISS_THROW_IF_NOT_MSG(getDeviceForAddress(pointer) == args.device, "an argument is not on the device");
    }
    auto resources = provider->getResources();
    auto stream = resources->getDefaultStreamCurrentDevice();
    auto others = resources->getAlternateStreamsCurrentDevice();
    idx_t tall = std::min<idx_t>(args.dims <= 32 ? 1024 : 512, args.numQueries);
    auto temporary = [&](size_t bytes) {
        return resources->allocMemoryHandle(AllocRequest(makeTempAlloc(AllocType::Other, stream), bytes));
    };
    size_t score_bytes = tall * args.numVectors * sizeof(float);
    GpuMemoryReservation scores[2] = {temporary(score_bytes), temporary(score_bytes)};
    streamWait(others, {stream});
    size_t width = half ? 2 : 4;
    int turn = 0;
    for (idx_t first = 0; first < args.numQueries; first += tall, turn = 1 - turn) {
        idx_t rows = std::min(tall, args.numQueries - first), columns = args.numVectors;
        auto *queries = static_cast<const char *>(args.queries) + first * args.dims * width;
        void *tile = scores[turn].get();
        auto handle = resources->getBlasHandleCurrentDevice();
        cublasSetStream(handle, others[turn]);
        float one = 1, none = 0;
        auto type = half ? CUDA_R_16F : CUDA_R_32F;
        auto status = half ? cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, columns, rows, args.dims, &one,
                                          args.vectors, type, args.dims, queries, type, args.dims, &none, tile,
                                          CUDA_R_32F, columns, CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_GEMM_DEFAULT)
                           : cublasSgemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, columns, rows, args.dims, &one,
                                           args.vectors, type, args.dims, queries, type, args.dims, &none, tile,
                                           CUDA_R_32F, columns);
        FAISS_ASSERT_FMT(status == CUBLAS_STATUS_SUCCESS, "cublas failed (%d)", static_cast<int>(status));
        float *best = args.outDistances + first * args.k;
        auto *places = static_cast<int64_t *>(args.outIndices) + first * args.k;
        int k = args.k;
        fake::launch(others[turn], [=] {
            size_t count = static_cast<size_t>(rows) * k;
            auto *to_best = reinterpret_cast<float *>(fake::real(best, count * sizeof(float)));
            auto *to_places = reinterpret_cast<int64_t *>(fake::real(places, count * sizeof(int64_t)));
            select(fake::real(tile, rows * columns * sizeof(float)), rows, columns, k, to_best, to_places);
        });
    }
    streamWait({stream}, others);
    fake::log("search %d %ld %ld %d\n", args.device, (long)args.numQueries, (long)args.numVectors, args.k);
}

} // namespace gpu
} // namespace faiss
