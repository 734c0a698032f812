"""The files of a run, read from docs/formats.md alone, with nothing of batchmine's."""

import struct

import numpy as np
import xxhash
import zstandard

NONE = 0xFFFFFFFF
BLOCK = 65_536  # bytes that have a hash of their own


def fail(file, reason):
    raise SystemExit(f"{file}: {reason}")


def sealed(file, magic, version=2):
    """(header fields, payload) of a binary file, its frame and all its blocks checked."""
    data = np.memmap(file, np.uint8, "r")
    if len(data) < 96 or data[:8].tobytes() != magic or data[-8:].tobytes() != b"BMBLOCKS":
        fail(file, "frame")
    if struct.unpack("<II", data[8:16]) != (version, 0):
        fail(file, "version")
    blocks = -(-(len(data) - 24) // (BLOCK + 8))
    end = len(data) - 24 - 8 * blocks  # of the payload
    hashes = data[end:-24].view("<u8")
    total, checksum = struct.unpack("<QQ", data[-24:-8])
    if end < 64 or total != len(data) or checksum != xxhash.xxh3_64_intdigest(data[end:-24]):
        fail(file, "length or hash")
    for number, due in enumerate(hashes.tolist()):
        if due != xxhash.xxh3_64_intdigest(data[number * BLOCK : min((number + 1) * BLOCK, end)]):
            fail(file, f"block {number}")
    return struct.unpack("<6Q", data[16:64]), data[64:end]


def vectors(run, side):
    file = run / "vectors" / f"{side}.vec"
    (rows, dim, width, *_), payload = sealed(file, b"BMVECTOR")
    return payload.view({2: "<f2", 4: "<f4"}[width]).reshape(rows, dim)


def rows_columns(run):
    """(query scales, positive scales, codes of the positives) of all rows."""
    file = run / "vectors" / "rows.col"
    (rows, keys, *_), payload = sealed(file, b"BMROWCOL")
    sections, at = [], 0
    for kind in ["<u4", "<f8", "<f8", "<f4"] + ["<u4"] * keys:
        end = at + rows * np.dtype(kind).itemsize
        sections.append(payload[at:end].view(kind))
        at = end + -end % 64
    if at != len(payload):
        fail(file, "length of the payload")
    return sections[1], sections[2], sections[4]


def order(run):
    """The row at each place."""
    (rows, *_), payload = sealed(run / "neighbors" / "partition.ord", b"BMPARTIT")
    return payload[: 4 * rows].view("<u4").astype(np.int64)


def lists(run):
    """(first place, ranked places, their scores) of each block of neighbour lists; NONE beyond a list's end."""
    for file in sorted((run / "neighbors").glob("block-*.nbr")):
        (first, rows, stride, *_), payload = sealed(file, b"BMNEIGHB", 3)
        words = payload.view("<u4")
        if len(words) != rows * (1 + 2 * stride):
            fail(file, "length of the payload")
        lengths, ids, scores = np.split(words, [rows, rows * (1 + stride)])
        ids, scores = ids.reshape(rows, stride), scores.view("<f4").reshape(rows, stride)
        if (lengths > stride).any() or ((ids != NONE) != (np.arange(stride) < lengths[:, None])).any():
            fail(file, "lengths of the lists")
        yield first, ids, scores


def clusters(run):
    """The cluster of each row, -1 where it is in none."""
    _, payload = sealed(run / "clusters" / "labels.lbl", b"BMLABELS")
    labels = payload.view("<u4").astype(np.int64)
    labels[labels == NONE] = -1
    return labels


def block(data, rows, arcs):
    """(degrees, other rows, kinds) of a decompressed block of edges."""
    data = np.frombuffer(data, np.uint8)
    kinds_at = 4 * rows
    lengths_at = kinds_at + (arcs + 1) // 2
    gaps_at = lengths_at + (arcs + 3) // 4
    degrees = data[:kinds_at].view("<u4").astype(np.int64)
    nibbles = data[kinds_at:lengths_at, None] >> np.array([0, 4], np.uint8) & 15
    kinds = nibbles.ravel()[:arcs]
    pairs = data[lengths_at:gaps_at, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
    lengths = pairs.ravel()[:arcs].astype(np.int64) + 1

    ends = gaps_at + np.cumsum(lengths)
    if degrees.sum() != arcs or len(data) != (ends[-1] if arcs else gaps_at) + 3 or data[-3:].any():
        raise ValueError("lengths inside a block")
    at = ends - lengths
    gaps = sum(np.where(lengths > i, data[at + i], 0).astype(np.int64) << 8 * i for i in range(4))
    # The first gap of a row is a row, each later one the difference to the one before, less 1.
    sums = np.concatenate([[0], np.cumsum(gaps + 1)])
    before = np.repeat(sums[np.cumsum(degrees) - degrees], degrees)
    return degrees, sums[1:] - before - 1, kinds


def edges(run):
    """(starts, others, kinds): the whole graph by place, each arc from both ends."""
    parts, next_row, rows_of_all = [], 0, 0
    for file in sorted((run / "edges").glob("range-*.edg")):
        (first, rows, arcs, blocks, rows_of_all, _), payload = sealed(file, b"BMEDGES\0", 3)
        if first != next_row:
            fail(file, "first row")
        seen = end = 0
        for entry in struct.iter_unpack("<QIIIIQQ", payload[len(payload) - 40 * blocks :]):
            offset, size, full, block_row, block_rows, block_arcs, checksum = entry
            frame = payload[offset : offset + size].tobytes()
            if (offset, block_row) != (end, next_row) or checksum != xxhash.xxh3_64_intdigest(frame):
                fail(file, f"entry of the block at row {block_row}")
            data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=full)
            if len(data) != full:
                fail(file, f"bytes of the block at row {block_row}")
            parts.append(block(data, block_rows, block_arcs))
            end, next_row, seen = end + size, next_row + block_rows, seen + block_arcs
        if (next_row - first, seen, end + 40 * blocks) != (rows, arcs, len(payload)):
            fail(file, "rows, arcs or length of the payload")
    if not parts or next_row != rows_of_all:
        fail(run / "edges", "rows of the ranges")
    degrees, others, kinds = (np.concatenate(part) for part in zip(*parts))
    return np.concatenate([[0], np.cumsum(degrees)]), others, kinds


def without_suspects(starts, others, kinds):
    """(starts, others, weights) of the edges alone."""
    weights = (kinds // 3).astype(np.int64)
    keep = weights > 0
    ends = np.concatenate([[0], np.cumsum(keep)])
    return ends[starts], others[keep], weights[keep]


def implied(run, rows, skip, rule):
    """The graph that the lists imply, as codes (row · rows + other) and kinds."""
    codes, kinds = [], []
    for first, ids, _ in lists(run):
        row, rank = np.nonzero(ids != NONE)
        other = ids[row, rank].astype(np.int64)
        row = row + first
        kind = np.where(rank < skip, 1, 3).astype(np.uint8)
        codes += [row * rows + other, other * rows + row]
        kinds += [kind, kind]
    codes, kinds = np.concatenate(codes), np.concatenate(kinds)
    order = np.argsort(codes, kind="stable")
    codes, kinds = codes[order], kinds[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    codes, kinds = codes[starts], np.add.reduceat(kinds, starts)
    if rule == "mutual":
        one = kinds // 3 == 1
        kinds[one] -= 3
        codes, kinds = codes[kinds > 0], kinds[kinds > 0]
    return codes, kinds
