"""The search on a GPU: checked against the CPU's, and timed beside torch. For a machine with an NVIDIA GPU, nvcc and
Python with numpy; without cargo: the built executable and plugin are carried there. See README.md."""

import argparse
import ctypes
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

from process import ROOT, mine, positive, version_line

OK, RANKS_MAX, TEXT = 0, 2048, 1024
WIDTHS = {"f16": (2, np.float16), "f32": (4, np.float32)}
QUERIES = 2048  # of a tile, as batchmine takes them
SANITIZED_ROWS = 6_000


# ---- the plugin, through its C face


class Tile(ctypes.Structure):
    _fields_ = [("values", ctypes.c_void_p), ("rows", ctypes.c_uint64), ("tag", ctypes.c_uint64)]


class Plugin:
    def __init__(self, path):
        try:
            self.face = ctypes.CDLL(str(path))
        except OSError as error:
            raise SystemExit(
                f"the plugin does not load: {error}\nremedy: put cuBLAS's folder into LD_LIBRARY_PATH, or remove "
                f"{path},"
                " so that it is built here (--faiss-source)"
            ) from None
        self.face.batchmine_gpu_about.restype = ctypes.c_char_p
        self.text = ctypes.create_string_buffer(TEXT)

    def call(self, name, *arguments):
        code = getattr(self.face, f"batchmine_gpu_{name}")(*arguments, self.text, ctypes.c_size_t(TEXT))
        if code != OK:
            raise SystemExit(f"the plugin's {name} failed with {code}: {self.text.value.decode()}")

    def devices(self):
        count = ctypes.c_uint32()
        self.call("count", ctypes.byref(count))
        devices = []
        for number in range(count.value):
            name, free, total = ctypes.create_string_buffer(TEXT), ctypes.c_uint64(), ctypes.c_uint64()
            self.call(
                "describe", ctypes.c_uint32(number), name, ctypes.c_size_t(TEXT), ctypes.byref(free),
                ctypes.byref(total),
            )  # fmt: skip
            devices.append(f"{name.value.decode()}, {free.value / 2**30:.1f} of {total.value / 2**30:.1f} GiB free")
        return devices

    def search(self, base, queries, k, width):
        """Ids and scores of all queries, the seconds it took, and those of the first tile, which copies the base."""
        session = ctypes.c_void_p()
        self.call("open", *map(ctypes.c_uint32, (0, width, base.shape[1])), ctypes.byref(session))
        scores = np.zeros((len(queries), k), np.float32)
        places = np.zeros((len(queries), k), np.uint32)
        held = Tile(base.ctypes.data, len(base), 1)
        begin, first = time.perf_counter(), None
        for start in range(0, len(queries), QUERIES):
            some = queries[start : start + QUERIES]
            tile = Tile(some.ctypes.data, len(some), start + 2)
            out = scores[start : start + QUERIES], places[start : start + QUERIES]
            self.call(
                "search", session, ctypes.byref(held), ctypes.byref(tile), ctypes.c_uint32(k),
                *(ctypes.c_void_p(array.ctypes.data) for array in out),
            )  # fmt: skip
            first = first or time.perf_counter() - begin
        seconds = time.perf_counter() - begin
        self.face.batchmine_gpu_close(session)
        return places, scores, seconds, first


# ---- torch


def torch_search(torch, base, queries, k, block):
    """The same by a matrix product and topk, in blocks of base rows; from host memory to host memory."""
    device = torch.device("cuda:0")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    scores = torch.empty((len(queries), k), dtype=torch.float32, pin_memory=True)
    places = torch.empty((len(queries), k), dtype=torch.int64, pin_memory=True)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    held = torch.from_numpy(base).to(device).T
    for start in range(0, len(queries), QUERIES):
        some = torch.from_numpy(queries[start : start + QUERIES]).to(device)
        parts = []
        for low in range(0, len(base), block):
            part = held[:, low : low + block]
            found = torch.topk(some @ part, min(k, part.shape[1]))
            parts.append((found.values.float(), found.indices + low))
        values, ids = (torch.cat(side, 1) for side in zip(*parts))
        best = torch.topk(values, k)
        scores[start : start + QUERIES].copy_(best.values, non_blocking=True)
        places[start : start + QUERIES].copy_(ids.gather(1, best.indices), non_blocking=True)
    torch.cuda.synchronize()
    return places.numpy(), scores.numpy(), time.perf_counter() - begin


def best_block(torch, base, queries, k):
    """The block of base rows that suits torch best on the first tiles."""
    blocks = [block for block in (65_536, 262_144, 1_048_576) if block < len(base)] + [len(base)]
    some = queries[: 2 * QUERIES]

    def seconds(block):
        try:
            return min(torch_search(torch, base, some, k, block)[2] for _ in range(2))
        except torch.cuda.OutOfMemoryError:
            return float("inf")

    return min(blocks, key=seconds)


# ---- what is run


def unit_rows(rows, dim, seed):
    """Rows near random centres, of unit length."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((max(rows // 400, 1), dim), np.float32)
    out = np.empty((rows, dim), np.float32)
    for start in range(0, rows, 65_536):
        part = out[start : start + 65_536]
        part[:] = centres[random.integers(0, len(centres), len(part))]
        part += 0.7 * random.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return out


def run(command, **options):
    """Runs a command; what it said is shown where it fails."""
    print("$", " ".join(map(str, command)), flush=True)
    done = subprocess.run([str(word) for word in command], **options)
    if done.returncode:
        said = "".join(part for part in (done.stdout, done.stderr) if part)
        raise SystemExit(f"{said}\nended with {done.returncode}: {command[0]}")
    return done


def generate(args, folder, rows, dim):
    run([args.batchmine, "gen", "--rows", rows, "--dim", dim, "--clusters", rows // 400, "--out", folder, "--quiet"])
    return folder


def files(folder):
    stages = ("neighbors", "edges", "clusters", "batches")
    paths = [path for stage in stages for path in sorted((folder / stage).iterdir())]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def gpu_flags(args):
    return ["--backend", "faiss-gpu", "--gpu-plugin", args.plugin]


def left_to_cpu(log, rows):
    """The share of queries that the CPU had to search; fails where it is not a search on a GPU that went well."""
    failed = [word for word in ("takes over", "given up", "the CPU takes", "the CPU searches") if word in log]
    told = re.search(r"the GPUs left (\d+) queries to the CPU", log)
    if failed or not told:
        raise SystemExit(f"the device failed on the way, or did nothing: {failed}\n{log}")
    share = int(told[1]) / rows
    if share > 0.1:
        raise SystemExit(f"the CPU searched {share:.1%} of the queries\n{log}")
    return share


def check(args, folder):
    """The GPU's files are the CPU's, byte for byte, in both precisions."""
    data = generate(args, folder / "check", args.check_rows, 384)
    runs = {"cpu": ["--backend", "cpu"], "f16": gpu_flags(args), "f32": [*gpu_flags(args), "--precision", "f32"]}
    for name, flags in runs.items():
        command = [args.batchmine, "mine", data, "--out", folder / f"check-{name}", *flags]
        log = run(command, stderr=subprocess.PIPE, text=True)
        print("\n".join(line for line in log.stderr.splitlines() if "GPU" in line or "CPU" in line))
        if name != "cpu":
            left_to_cpu(log.stderr, args.check_rows)
        if files(folder / f"check-{name}") != files(folder / "check-cpu"):
            raise SystemExit(f"{name}: the files are not those of the CPU")
    print(f"{args.check_rows:,} rows: the files of f16 and f32 are the CPU's, byte for byte\n")


def sanitize(args, folder):
    """No error of memory in the plugin's kernels, by NVIDIA's compute-sanitizer."""
    tool = shutil.which("compute-sanitizer")
    if not tool:
        print("SKIPPED: there is no compute-sanitizer on PATH\n")
        return
    data = generate(args, folder / "small", SANITIZED_ROWS, 96)
    sanitizer = [tool, "--target-processes", "all", "--error-exitcode", "9"]
    command = [args.batchmine, "mine", data, "--out", folder / "small-run", *gpu_flags(args), "--gpu-timeout", 3600]
    said = run([*sanitizer, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    # One summary a process that used CUDA.
    lines = [line for line in said.splitlines() if "ERROR SUMMARY" in line]
    print("\n".join(lines), "\n")
    if not lines or not all("ERROR SUMMARY: 0 errors" in line for line in lines):
        raise SystemExit(f"compute-sanitizer found errors, or saw no process:\n{said}")
    left_to_cpu(said, SANITIZED_ROWS)


def torch_or_none():
    try:
        import torch
    except ImportError:
        print("SKIPPED: there is no torch: nothing to compare with\n")
        return None
    if not torch.cuda.is_available():
        print("SKIPPED: torch finds no device: nothing to compare with\n")
        return None
    return torch


def compare(args, plugin, save):
    """Tiles through the plugin's face and through torch, turn by turn, all sizes in each round."""
    torch, table, blocks, made, singles = torch_or_none(), {}, {}, None, None
    end = time.monotonic() + 60 * args.minutes
    print("     rows   dim        plugin s  (base s)    torch s  torch/plugin   TFLOP/s   block   same ids")
    cases = [(rows, dim, name) for rows in args.rows for dim in args.dims for name in args.types]
    for round in range(args.runs):
        for rows, dim, name in cases:
            if time.monotonic() > end:
                print(f"SKIPPED: --minutes {args.minutes} are over, in round {round + 1}")
                return
            width, dtype = WIDTHS[name]
            if made != (rows, dim):
                made, singles = (rows, dim), [unit_rows(rows, dim, seed) for seed in (2, 3)]
            base, queries = (side.astype(dtype) for side in singles)
            empty = {"rows": rows, "dim": dim, "type": name, "k": args.k, "rounds": []}
            case = table.setdefault((rows, dim, name), empty)
            if not round:
                plugin.search(base, queries[:QUERIES], args.k, width)  # warm
                blocks[rows, dim, name] = best_block(torch, base, queries, args.k) if torch else None
            places, _, seconds, first = plugin.search(base, queries, args.k, width)
            figures = {"plugin_s": seconds, "first_tile_s": first}
            text = f"{rows:9,} {dim:5} {name} {seconds:11.3f} {first:9.3f}"
            flops = 2 * rows * rows * dim / seconds / 1e12
            if torch:
                block = blocks[rows, dim, name]
                ids, _, torch_s = torch_search(torch, base, queries, args.k, block)
                same = float(np.mean([len(np.intersect1d(*pair)) for pair in zip(places[::97], ids[::97])])) / args.k
                figures |= {"torch_s": torch_s, "torch_block": block, "same_ids": same}
                text += f" {torch_s:10.3f} {torch_s / seconds:13.2f} {flops:9.1f} {block:7} {same:10.4f}"
            else:
                text += f" {'':24} {flops:9.1f}"
            print(text, flush=True)
            case["rounds"].append(figures)
            save(tiles=list(table.values()))


def whole(args, folder, save):
    """The neighbors stage of whole jobs."""
    table = []
    print("\n     rows   dim   neighbors stage s, GPU   recall   left to the CPU")
    for rows in args.rows:
        for dim in args.dims:
            data = generate(args, folder / "data", rows, dim)
            cost, facts = mine(args.batchmine, [data, "--out", folder / "run", *gpu_flags(args)], "neighbors")
            left = facts["left_to_cpu"]
            if left is None:
                raise SystemExit("it was no search on a GPU")
            print(f"{rows:9,} {dim:5} {cost['wall']:24.2f} {facts['recall']:8} {left:17,}", flush=True)
            line = {"rows": rows, "dim": dim, "stage_s": cost["wall"], "recall": facts["recall"], "left_to_cpu": left}
            table.append(line)
            save(stages=table)
            shutil.rmtree(folder / "data")
            shutil.rmtree(folder / "run")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batchmine", type=pathlib.Path, default=ROOT / "target/release/batchmine")
    plugin = ROOT / "target/gpu-plugin/libbatchmine_gpu.so"
    parser.add_argument("--plugin", type=pathlib.Path, default=plugin, help="built by nvcc if it is not there")
    parser.add_argument("--faiss-source", type=pathlib.Path, help="FAISS's sources, to build the plugin without cargo")
    parser.add_argument("--rows", type=positive, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--dims", type=positive, nargs="+", default=[384, 768])
    parser.add_argument("--types", nargs="+", choices=list(WIDTHS), default=list(WIDTHS), help="of the part compare")
    parser.add_argument("--check-rows", type=positive, default=60_000)
    parser.add_argument("--k", type=positive, default=130)
    parser.add_argument("--runs", type=positive, default=3, help="rounds of the part compare, at most")
    parser.add_argument("--minutes", type=positive, default=30, help="no round of compare goes on after them")
    parser.add_argument("--only", nargs="+", choices=["check", "whole", "compare", "sanitize"])
    parser.add_argument("--json", type=pathlib.Path, help="figures as JSON")
    args = parser.parse_args()
    if not args.plugin.exists():
        build = ROOT / "src/neighbors/gpu/plugin/build.sh"
        source = ["--faiss-source", args.faiss_source] if args.faiss_source else []
        run(["bash", build, "--out", args.plugin, *source])
    args.plugin = args.plugin.resolve()
    plugin = Plugin(args.plugin)
    devices = plugin.devices()
    if not devices:
        raise SystemExit("SKIPPED: no device answers: nothing was checked or timed")
    about = f"{version_line(args.batchmine)}; {plugin.face.batchmine_gpu_about().decode()}; {'; '.join(devices)}"
    print(f"{about}; {time.strftime('%Y-%m-%d')}\n")
    wanted = args.only or ["check", "whole", "compare", "sanitize"]
    figures = {"about": about, "date": time.strftime("%Y-%m-%d"), "command": sys.argv}

    def save(**more):
        # After each figure: a lent machine may be taken away.
        figures.update(more)
        if args.json:
            args.json.write_text(json.dumps(figures, indent=1))

    with tempfile.TemporaryDirectory(prefix="batchmine-gpu-", dir=os.environ.get("TMPDIR")) as folder:
        folder = pathlib.Path(folder)
        if "check" in wanted:
            check(args, folder)
        if "whole" in wanted:
            whole(args, folder, save)
        if "compare" in wanted:
            compare(args, plugin, save)
        if "sanitize" in wanted:
            sanitize(args, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
