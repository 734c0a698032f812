"""The constants of the cost model: each with its unit, its value, and where the value comes from.

`measured`: by batchmine on two cores of an AMD EPYC (Zen 4, AVX-512 with VNNI), `docs/performance.md` unless said
otherwise. `code`: a constant of batchmine's own source. `published`: taken from the address, not measured here.
`assumed`: nobody measured it for this project; a guess, to be replaced.
"""

import dataclasses
import json
import pathlib
from typing import Literal

Origin = Literal["measured", "code", "published", "assumed"]

GB = 1e9
GIB = float(1 << 30)
MIB = float(1 << 20)


@dataclasses.dataclass(frozen=True)
class Constant:
    """A number that the model takes from elsewhere."""

    value: float
    unit: str
    origin: Origin
    source: str
    bench: str = ""
    """The ceiling of `batchmine bench` that takes its place, where there is a record."""

    def with_value(self, value: float, source: str) -> "Constant":
        """The same constant, measured anew."""
        return dataclasses.replace(self, value=value, origin="measured", source=source)


def measured(value: float, unit: str, source: str, bench: str = "") -> Constant:
    return Constant(value, unit, "measured", source, bench)


def code(value: float, unit: str, source: str) -> Constant:
    return Constant(value, unit, "code", source)


def published(value: float, unit: str, source: str) -> Constant:
    return Constant(value, unit, "published", source)


def assumed(value: float, unit: str, source: str) -> Constant:
    return Constant(value, unit, "assumed", source)


@dataclasses.dataclass(frozen=True)
class Constants:
    """All constants. Seconds of a core are CPU time; GOP are 10^9 multiplications and additions."""

    # ---- kernels, a core
    exact_gops: Constant = measured(
        410,
        "GOP/s a core",
        "search of 60,940 and 300,000 rows x 384 (11.80 and 192.04 CPU s): the part that is square"
        " (`bench`: by search int8)",
    )
    query_us: Constant = measured(30, "us a query", "12,000 rows of 64, 384 and 1,024 dimensions: what is left at none")
    query_value_ns: Constant = measured(
        130, "ns a query and dimension", "the first two searches again: 80 us a query of 384 are not square"
    )
    bf16_gops: Constant = measured(198, "GOP/s a core", "`cargo bench --bench neighbors`, 768", "search bf16")
    f32_gops: Constant = measured(108, "GOP/s a core", "`cargo bench --bench neighbors`, 768", "search f32")
    rotated_ns: Constant = code(0.02, "ns a value and axis", "ROTATED_VALUE, neighbors/head.rs")
    pack_value_ns: Constant = assumed(0.25, "ns a value", "rounding and interleaving base rows for bf16")
    list_scan: Constant = assumed(0.8, "share", "of exact_gops that the scan of single IVF lists reaches")
    survivors: Constant = measured(240, "rows a query", "pairs that get a true score, k 130, 60,940 rows")
    probe_share: Constant = assumed(
        1 / 64, "share of the lists", "for recall .95; measured: 1/2500 (clusters of 500), .28 (60,940 real), .36"
    )
    probe_trials: Constant = code(5, "x the probes", "neighbors/probes.rs: doubled, then halved in")
    near_lists: Constant = assumed(4, "x the probes", "different lists that the queries of a block look into")
    shared_rows: Constant = assumed(8, "queries", "near ones that read one page of true vectors together")

    # ---- other stages, a core
    import_value_ns: Constant = measured(10.9, "ns a value", ".51 CPU s for 60,940 x 384, both sides, f16")
    list_arcs_a_rank: Constant = measured(1.7, "arcs a rank", "1.46 (real) to 1.97 (5 M planted) in five graphs")
    arc_bytes: Constant = measured(1.23, "bytes", "9.8 bits an arc of the 60,940 pairs; .68 to 1.6 in others")
    edge_arc_ns: Constant = measured(50, "ns an arc", "28, 18 and 14 M arcs a CPU second in three graphs")
    edge_scan_ns: Constant = assumed(1, "ns an entry", "each thread of a spill reads all lists, twice")
    run_row_ns: Constant = assumed(2, "ns a row and run", "encoding a run goes over all rows")
    visit_ns: Constant = measured(62, "ns an arc and pass", "5 M rows x 32: 16 M visits a CPU second")
    visit_cached_ns: Constant = measured(20, "ns an arc and pass", "13 at 1 M rows, 24 at 60,940: state in the cache")
    cache_bytes: Constant = assumed(32 * MIB, "bytes", "the last cache that threads share")
    cluster_serial: Constant = assumed(0.05, "share", "of a pass that one thread does: proposals applied in order")
    cluster_threads: Constant = code(32, "threads", "tasks of a step, clusters/chunks.rs: 64 blocks, two a task")
    pack_row_us: Constant = measured(0.65, "us a row, one thread", "packing 10 M rows: 2.2 to 13.1 s")
    write_row_us: Constant = measured(1.0, "us a row", "the batches stage of 60,940 pairs, .06 s")
    hash_gbs: Constant = assumed(10, "GB/s a core", "xxh3 of stores and packed base, when they are first read")

    # ---- the record of parts
    part_bytes: Constant = measured(99, "bytes a part", "manifest.json with 100,000 parts: 9.9 MB")
    record_part_us: Constant = measured(
        1.7, "us a part", "a commit in a run of 0, 10,000, 50,000, 100,000 parts: 4, 27, 84 and 170 ms (busy machine)"
    )
    commit_ms: Constant = measured(4, "ms", "the same, of a run with few parts; a local disk")
    look_ms: Constant = code(100, "ms", "LOOK_EVERY, run/piece_work.rs")
    map_areas: Constant = code(65_530, "maps a process", "vm.max_map_count of Linux; the job maps each part")

    # ---- machines
    all_cores: Constant = assumed(0.85, "share", "of a core's rate, when 64 work; two of two: .92 measured")
    node_cores: Constant = assumed(64, "cores", "a node of such cores, as clouds rent them")
    node_memory: Constant = assumed(512 * GIB, "bytes", "the same")
    node_io: Constant = assumed(3.1 * GB, "bytes/s", "25 Gb/s: what a node reads or writes of the shared folder")
    shared_io: Constant = published(
        20 * GB,
        "bytes/s",
        "20 TiB at 1,000 MB/s a TiB, the fastest SSD class of FSx for Lustre: https://docs.aws.amazon.com/"
        "sagemaker/latest/APIReference/API_FSxLustreConfig.html",
    )
    failures: Constant = published(
        1.6e-4,
        "a node and hour",
        "419 stops in 54 days of 2,048 nodes of 8 GPUs: https://glennklockwood.com/garden/component-reliability",
    )

    # ---- GPUs: never run by this project
    gpu_tflops: Constant = published(
        989,
        "TFLOP/s",
        "H200, dense f16: https://huggingface.co/datasets/devidasmishra/ai-inference-hardware-economics-2026",
    )
    gpu_share: Constant = assumed(0.2, "share", "of that, with the selection of k + 64; .1 to .4 is possible")
    gpu_memory: Constant = published(
        141 * GB,
        "bytes",
        "H200; 8 a node, 112 cores, 2 TB: https://raw.githubusercontent.com/mlcommons/inference_results_v4.1/main/"
        "closed/NVIDIA/systems/H200-SXM-141GBx8_TRT_MaxQ.json",
    )
    gpu_reserved: Constant = code(4.5 * GIB, "bytes", "FAISS's own buffers, docs/gpu.md")
    gpu_copy: Constant = assumed(50 * GB, "bytes/s a GPU", "PCIe Gen5 x16 has 64 GB/s")
    score_value_ns: Constant = assumed(1, "ns a value", "true scores of a GPU's k + 64 answers, on a core")
    gpu_node_io: Constant = assumed(12.5 * GB, "bytes/s", "100 Gb/s to the shared folder, a node of 8 GPUs")

    def items(self) -> list[tuple[str, Constant]]:
        """Name and constant, in the order of the table."""
        return [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]

    def with_values(self, source: str, **values: float) -> "Constants":
        """The same table with some constants measured anew."""
        new = {name: getattr(self, name).with_value(value, source) for name, value in values.items()}
        return dataclasses.replace(self, **new)


@dataclasses.dataclass(frozen=True)
class BenchRecord:
    """What of a record of `batchmine bench --json` the model takes."""

    threads: int
    memory_bytes: float
    disk_bytes_s: float
    rates: dict[str, float]
    """Median of each ceiling by name, in its own unit."""


def read_bench(path: pathlib.Path) -> BenchRecord:
    """Reads a record; a key that is missing is an error of the reader's."""
    record = json.loads(path.read_text())
    rates = {ceiling["name"]: float(ceiling["rate"]["median"]) for ceiling in record["ceilings"]}
    disk = min(rates["disk write"], rates["disk read"]) * GB
    return BenchRecord(record["settings"]["threads"], record["machine"]["memory_bytes"], disk, rates)


SEARCH_SHARE = 0.7
"""Of its kernel's rate, what `bench` gives as the ceiling of a search (neighbors/calibrate.rs)."""
INT8_KERNEL_GOPS = 426
"""The byte kernel's rate at 768 dimensions where `exact_gops` was measured, GOP/s a core."""


def from_bench(table: Constants, bench: BenchRecord) -> Constants:
    """Takes the kernels' rates, a core, from a record.

    `exact_gops` is of a whole search on rows of which parts are ruled out early; it keeps its ratio to the byte kernel.
    """
    kernels = {name: rate / bench.threads / SEARCH_SHARE for name, rate in bench.rates.items()}
    values = {name: kernels[item.bench] for name, item in table.items() if item.bench in kernels}
    if "search int8" in kernels:
        values["exact_gops"] = table.exact_gops.value * kernels["search int8"] / INT8_KERNEL_GOPS
    return table.with_values("`batchmine bench`, this record", **values)
