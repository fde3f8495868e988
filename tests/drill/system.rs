//! What the drill asks of the system: other programs, files, ports.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::plan::Random;

/// Whether namespaces can be made here.
pub(crate) fn can_unshare() -> bool {
    let tried =
        Command::new("unshare").args(["--mount", "--net", "--", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// Runs a program; its failure is an error with its own words.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Outcome<()> {
    output(Command::new(program).args(arguments)).map(drop)
}

/// The same; gives what it wrote.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("can't run {name}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        Err(format!("{name}: {}", said.join("\n").trim()))
    }
}

/// Writes a file.
pub(crate) fn write(path: &Path, text: &str) -> Outcome<()> {
    fs::write(path, text).map_err(|e| format!("can't write {}: {e}", path.display()))
}

/// One of our programs, beside this one.
pub(crate) fn built(name: &str) -> Outcome<String> {
    let own = std::env::current_exe().map_err(|e| format!("can't tell where this program is: {e}"))?;
    let path = own.with_file_name(name);
    if path.exists() {
        Ok(path.display().to_string())
    } else {
        Err(format!("{} is missing; build it with: cargo build --workspace --all-features --bins", path.display()))
    }
}

/// A free port below those that the system gives to clients: a server that is down finds it free when it comes back.
pub(crate) fn port(random: &mut Random) -> Outcome<u16> {
    // Not by the seed: drills with the same seed may run side by side.
    let offset = u64::from(std::process::id());
    for _ in 0..1000 {
        let port = u16::try_from(10_000 + random.next().wrapping_add(offset) % 20_000).unwrap_or(10_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("there is no free port between 10000 and 30000".to_owned())
}

/// Where the newest PostgreSQL has its programs.
pub(crate) fn newest_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let of = |entry: fs::DirEntry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let bin = entry.path().join("bin");
        bin.join("initdb").exists().then_some((version, bin))
    };
    versions.filter_map(|entry| of(entry.ok()?)).max().map(|(_, bin)| bin)
}

/// A new folder for a drill, which other users may enter: PostgreSQL is one.
pub(crate) fn new_folder(seed: u64) -> Outcome<PathBuf> {
    let made = tempfile::Builder::new().prefix(&format!("utilizer-drill-{seed}-")).tempdir();
    let path = made.map_err(|e| format!("can't make a temporary folder: {e}"))?.keep();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}
