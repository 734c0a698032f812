//! A target for each decoder of batchmine's `fuzzing`: the name of the binary is that of the decoder.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// Where the decoder's file lies: in memory.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(format!("/dev/shm/batchmine-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder in memory can be made");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    batchmine::fuzzing::decode(env!("CARGO_BIN_NAME"), bytes, &FOLDER);
});
