//! Files that are no input: what they are, and the line of Python that makes input of them.

use std::path::Path;

use super::content::Ends;

/// A format that is no input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ForeignFormat {
    /// What the file is, in an error.
    pub(super) what: &'static str,
    /// What to do; `IN` stands for the file's path, `OUT` for the path without its ending.
    remedy: &'static str,
}

const fn format(what: &'static str, remedy: &'static str) -> ForeignFormat {
    ForeignFormat { what, remedy }
}

const EMPTY: ForeignFormat = format("an empty file", "write or download it again, or leave it out");
const LFS: ForeignFormat = format(
    "a Git LFS pointer, which stands for a file that was not downloaded",
    "run `git lfs pull` in its repository, or download the file itself",
);
const HTML: ForeignFormat = format(
    "an HTML page, such as a page of an error or a login",
    "download the file itself: of a dataset's page the link has /resolve/ where the page has /blob/",
);
const XML: ForeignFormat = format("an XML document, such as a store's error", "download the file again");
const ENCRYPTED: ForeignFormat = format(
    "an encrypted Parquet file (PARE)",
    "decrypt it with its keys: pq.write_table(pq.read_table('IN', decryption_properties=...), 'OUT.plain.parquet')",
);
const NPZ: ForeignFormat = format(
    "a .npz archive of NumPy arrays",
    "save each array by itself, under the names that z.files lists: \
     z = np.load('IN'); np.save('queries.npy', z['queries']); np.save('positives.npy', z['positives'])",
);
const TORCH: ForeignFormat = format(
    "a file of torch.save",
    "save its tensors as arrays: \
     t = torch.load('IN', map_location='cpu'); np.save('OUT.npy', t.float().numpy())",
);
const PICKLE: ForeignFormat = format(
    "a Python pickle",
    "save the array in it: np.save('OUT.npy', np.asarray(pickle.load(open('IN', 'rb')), np.float32)); \
     a data frame: pd.read_pickle('IN').to_parquet('OUT.parquet')",
);
const SAFETENSORS: ForeignFormat = format(
    "a safetensors file",
    "save its tensors as arrays, under the names that t lists: \
     t = safetensors.numpy.load_file('IN'); np.save('queries.npy', t['queries']); \
     np.save('positives.npy', t['positives'])",
);
const CSV: ForeignFormat = format(
    "a CSV file",
    "convert it, with your columns of JSON lists: \
     df = pd.read_csv('IN'); df['query_embedding'] = df['query_embedding'].map(json.loads); \
     df['positive_embedding'] = df['positive_embedding'].map(json.loads); df.to_parquet('OUT.parquet')",
);
const TSV: ForeignFormat = format(
    "a TSV file",
    "convert it, with your columns of JSON lists: \
     df = pd.read_csv('IN', sep='\\t'); df['query_embedding'] = df['query_embedding'].map(json.loads); \
     df['positive_embedding'] = df['positive_embedding'].map(json.loads); df.to_parquet('OUT.parquet')",
);
const JSON: ForeignFormat = format("a JSON file", "convert it: pd.read_json('IN').to_parquet('OUT.parquet')");
const JSON_LINES: ForeignFormat =
    format("a file of JSON lines", "convert it: pd.read_json('IN', lines=True).to_parquet('OUT.parquet')");
const HDF5: ForeignFormat = format(
    "an HDF5 file",
    "save each data set by itself: f = h5py.File('IN'); np.save('queries.npy', f['queries'][:]); \
     np.save('positives.npy', f['positives'][:])",
);
const ORC: ForeignFormat =
    format("an ORC file", "convert it: pq.write_table(pyarrow.orc.read_table('IN'), 'OUT.parquet')");
const AVRO: ForeignFormat = format("an Avro file", "convert it: polars.read_avro('IN').write_parquet('OUT.parquet')");
const SQLITE: ForeignFormat = format(
    "an SQLite database",
    "write a table as Parquet: pd.read_sql('select * from NAME', sqlite3.connect('IN')).to_parquet('OUT.parquet')",
);
const DUCKDB: ForeignFormat = format(
    "a DuckDB database",
    "write a table as Parquet: duckdb.connect('IN').sql('select * from NAME').write_parquet('OUT.parquet')",
);
const LANCE: ForeignFormat = format(
    "a file of a Lance data set",
    "convert the data set's folder: pq.write_table(lance.dataset('FOLDER.lance').to_table(), 'OUT.parquet')",
);
const FEATHER_1: ForeignFormat =
    format("a Feather file of version 1", "convert it: pq.write_table(feather.read_table('IN'), 'OUT.parquet')");
const FAISS: ForeignFormat = format(
    "a FAISS index",
    "save its vectors, in the order of their rows: \
     i = faiss.read_index('IN'); np.save('OUT.npy', i.reconstruct_n(0, i.ntotal))",
);
const FVECS: ForeignFormat = format(
    "a .fvecs file",
    "convert it: x = np.fromfile('IN', '<i4'); np.save('OUT.npy', x.reshape(-1, x[0] + 1)[:, 1:].view('<f4'))",
);
const GZIP: ForeignFormat = format("a gzip-compressed file", "unpack it: gunzip -k 'IN'");
const ZSTD: ForeignFormat = format("a zstd-compressed file", "unpack it: zstd -d 'IN'");
const BZIP2: ForeignFormat = format("a bzip2-compressed file", "unpack it: bunzip2 -k 'IN'");
const XZ: ForeignFormat = format("an xz-compressed file", "unpack it: xz -dk 'IN'");
const LZ4: ForeignFormat = format("an lz4-compressed file", "unpack it: lz4 -d 'IN'");
const SNAPPY: ForeignFormat = format(
    "a file in Snappy's framing format",
    "unpack it: open('OUT', 'wb').write(pyarrow.input_stream('IN', compression='snappy').read())",
);
const ZIP: ForeignFormat = format("a zip archive", "unpack it: unzip 'IN'");
const TAR: ForeignFormat = format("a tar archive", "unpack it: tar -xf 'IN'");
const TEXT: ForeignFormat = format("a text file", "embed its texts, and write the pairs of embeddings as Parquet");

/// Formats that are known by their first bytes.
const MAGICS: [(&[u8], ForeignFormat); 18] = [
    (b"version https://git-lfs.github.com/spec/", LFS),
    (b"PARE", ENCRYPTED),
    (b"\x1f\x8b", GZIP),
    (b"\x28\xb5\x2f\xfd", ZSTD),
    (b"BZh", BZIP2),
    (b"\xfd7zXZ\0", XZ),
    (b"\x04\x22\x4d\x18", LZ4),
    (b"\xff\x06\0\0sNaPpY", SNAPPY),
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"ORC", ORC),
    (b"Obj\x01", AVRO),
    (b"SQLite format 3\0", SQLITE),
    (b"FEA1", FEATHER_1),
    (b"IxF", FAISS),
    (b"IwF", FAISS),
    (b"IHN", FAISS),
    (b"IxPT", FAISS),
    (b"IxMp", FAISS),
];
/// The format of a file that is no input, if it is known.
pub(super) fn foreign(path: &Path, ends: &Ends) -> Option<ForeignFormat> {
    let head = ends.head.as_slice();
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if head.is_empty() {
        return Some(EMPTY);
    }
    if head.starts_with(b"PK\x03\x04") {
        let of_torch = head.windows(8).any(|window| window == b"data.pkl");
        let holds_arrays = head.windows(4).any(|window| window == b".npy");
        return Some(match of_torch {
            true => TORCH,
            false if ending == "npz" || holds_arrays => NPZ,
            false => ZIP,
        });
    }
    let by_magic = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, format)| *format);
    let by_name = (ending == "fvecs").then_some(FVECS);
    by_magic.or_else(|| by_structure(head, ends, &ending)).or_else(|| by_text(head, &ending)).or(by_name)
}

/// Formats of bytes that have no magic at their front.
fn by_structure(head: &[u8], ends: &Ends, ending: &str) -> Option<ForeignFormat> {
    let is = |endings: &[&str]| endings.contains(&ending);
    if head.get(8..12) == Some(b"DUCK") {
        return Some(DUCKDB);
    }
    if ends.tail.ends_with(b"LANC") {
        return Some(LANCE);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some(TAR);
    }
    if head[0] == 0x80 && head.get(1).is_some_and(|version| (2..=5).contains(version)) {
        return Some(if is(&["pt", "pth", "bin", "ckpt"]) { TORCH } else { PICKLE });
    }
    let (length, rest) = head.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*length) < ends.bytes && rest.starts_with(b"{")).then_some(SAFETENSORS)
}

/// Formats of text.
fn by_text(head: &[u8], ending: &str) -> Option<ForeignFormat> {
    // The last letter may be cut.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if text.chars().any(|letter| letter.is_control() && !letter.is_whitespace()) {
        return None;
    }
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let lower = text.get(..14).unwrap_or(text).to_lowercase();
    let first_line = text.lines().next().unwrap_or_default();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return Some(HTML);
    }
    if lower.starts_with("<?xml") {
        return Some(XML);
    }
    if text.starts_with(['{', '[']) {
        let lines = text.starts_with('{') && first_line.trim_end().ends_with('}') && ending != "json";
        return Some(if lines || ["jsonl", "ndjson"].contains(&ending) { JSON_LINES } else { JSON });
    }
    Some(match ending {
        "csv" => CSV,
        "tsv" => TSV,
        _ if first_line.contains('\t') => TSV,
        _ if first_line.contains(',') => CSV,
        _ => TEXT,
    })
}

impl ForeignFormat {
    /// What to do with a file of this format.
    pub(super) fn remedy(&self, path: &Path) -> String {
        let out = path.with_extension("");
        self.remedy.replace("IN'", &format!("{}'", path.display())).replace("'OUT", &format!("'{}", out.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, head: &[u8]) -> Option<&'static str> {
        let tail = head[head.len().saturating_sub(8)..].to_vec();
        let ends = Ends { head: head.to_vec(), tail, bytes: head.len() as u64 };
        foreign(Path::new(name), &ends).map(|format| format.what)
    }

    #[test]
    fn files_are_known_by_their_content() {
        let mut duckdb = vec![0u8; 8];
        duckdb.extend(b"DUCK");
        let mut tensors = 2u64.to_le_bytes().to_vec();
        tensors.extend(b"{}and data");
        let mut tar = vec![0u8; 257];
        tar.extend(b"ustar\0");
        let cases: [(&str, &[u8], ForeignFormat); 22] = [
            ("x.parquet", b"", EMPTY),
            ("x.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", LFS),
            ("x.parquet", b"\n<!DOCTYPE html><html>", HTML),
            ("x.parquet", b"PAREabc", ENCRYPTED),
            ("x.npz", b"PK\x03\x04q", NPZ),
            ("x.npy", b"PK\x03\x04....queries.npy", NPZ),
            ("x.pt", b"PK\x03\x04...archive/data.pkl", TORCH),
            ("x.zip", b"PK\x03\x04abc", ZIP),
            ("x.parquet.gz", b"\x1f\x8b\x08", GZIP),
            ("x.parquet.zst", b"\x28\xb5\x2f\xfd", ZSTD),
            ("x.pkl", b"\x80\x04\x95", PICKLE),
            ("x.pt", b"\x80\x02\x8a", TORCH),
            ("x.h5", b"\x89HDF\r\n\x1a\n", HDF5),
            ("x", b"ORC\0", ORC),
            ("x", b"Obj\x01", AVRO),
            ("x.db", b"SQLite format 3\0", SQLITE),
            ("x.db", &duckdb, DUCKDB),
            ("x", &tensors, SAFETENSORS),
            ("x.tar", &tar, TAR),
            ("x.txt", b"{\"a\": 1}\n{\"a\": 2}\n", JSON_LINES),
            ("x.json", b"[{\"a\": 1}]", JSON),
            ("x.txt", b"a,b\n1,2\n", CSV),
        ];
        for (name, head, format) in cases {
            assert_eq!(found(name, head), Some(format.what), "{name}");
        }
        assert_eq!(found("x.tsv", "ä,b\tc\n".as_bytes()), Some(TSV.what));
        assert_eq!(found("x.parquet", b"\x01\x02\x03"), None);
    }

    #[test]
    fn remedies_name_the_file() {
        assert_eq!(ORC.remedy(Path::new("a/b.orc")), {
            "convert it: pq.write_table(pyarrow.orc.read_table('a/b.orc'), 'a/b.parquet')"
        });
        assert_eq!(GZIP.remedy(Path::new("a/b.gz")), "unpack it: gunzip -k 'a/b.gz'");
    }
}
