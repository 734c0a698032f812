//! S3 servers on loopback, and the Python that reads tables back.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::command::skipped;
use super::readers::python;

const KEY: &str = "lakekey123";
const SECRET: &str = "secretsecret";

fn has(module: &str) -> bool {
    python().args(["-c", &format!("import {module}")]).output().is_ok_and(|output| output.status.success())
}

/// Whether packages that tests/lake.py imports are missing; prints that the test is skipped.
pub fn readers_are_missing() -> bool {
    let modules = "deltalake duckdb duckdb_extension_avro duckdb_extension_delta duckdb_extension_httpfs \
                   duckdb_extension_iceberg polars pyarrow pyiceberg";
    let missing = modules.split_whitespace().find(|module| !has(module));
    if let Some(module) = missing {
        skipped(&format!("no {module} for the Python in BATCHMINE_PYTHON (else python3)"));
    }
    missing.is_some()
}

/// Runs tests/lake.py, which must find no error; returns its output.
#[track_caller]
pub fn lake_script(words: &[&str], variables: &[(String, String)]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lake.py");
    let output = python().arg(script).args(words).envs(variables.iter().cloned()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}:\n{said}");
    said
}

/// A server with one bucket, `lake`. Stopped when dropped.
pub struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// A server that refuses to create an object twice; `None`: it is not installed.
    pub fn moto() -> Option<Server> {
        if !has("moto.server") || !has("flask_cors") {
            skipped("no moto server for the Python in BATCHMINE_PYTHON (else python3): no table in an object store");
            return None;
        }
        let server = Server::start(|port, _| {
            let mut command = python();
            command.args(["-m", "moto.server", "-p", &port.to_string()]);
            command
        });
        lake_script(&["bucket", "lake"], &server.variables());
        Some(server)
    }

    /// A server that checks signatures, keeps objects as files, and lets an object be created twice; `None`: it is not
    /// installed.
    pub fn rclone() -> Option<Server> {
        let output = python().args(["-c", "import sys; print(sys.prefix)"]).output().ok()?;
        let prefix = String::from_utf8(output.stdout).unwrap();
        let rclone = Path::new(prefix.trim()).join("bin/rclone");
        if !rclone.exists() {
            skipped("no rclone beside the Python in BATCHMINE_PYTHON (else python3): no store that checks signatures");
            return None;
        }
        let server = Server::start(|port, folder| {
            std::fs::create_dir(folder.join("lake")).unwrap();
            let mut command = Command::new(&rclone);
            command.args(["serve", "s3"]).arg(folder).arg("--addr").arg(format!("127.0.0.1:{port}"));
            command.args(["--auth-key", &format!("{KEY},{SECRET}"), "--config", "/dev/null"]);
            command
        });
        Some(server)
    }

    fn start(command: impl Fn(u16, &Path) -> Command) -> Server {
        let folder = tempfile::tempdir().unwrap();
        // Another process may take the port before the server does: then the next port is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = command(port, folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Server { child, port, folder };
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = child.kill();
            let _ = child.wait();
            let _ = std::fs::remove_dir(folder.path().join("lake"));
        }
        panic!("the server does not start");
    }

    /// Where the server keeps objects, if it keeps them as files.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The environment variables that a client needs.
    pub fn variables(&self) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_ACCESS_KEY_ID", KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_DEFAULT_REGION", "us-east-1".into()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
