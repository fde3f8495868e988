//! Has the linker make the agent smaller, on disk and in memory.
//!
//! The kernel maps code in pieces of 64 KiB around each page that is used. What a pass needs is a fifth of the code:
//! scattered, it would bring nearly all of it into memory. `often.ld` names these functions; `tools/order-code.py` finds
//! them anew. A name that is there no longer is left out, a function that is not named costs at most its piece.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=often.ld");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    // The names are those of optimised code for this architecture. Other linkers than GNU's and LLVM's do not know what
    // the file says; UTILIZER_ORDER_CODE=0 does without.
    println!("cargo::rerun-if-env-changed=UTILIZER_ORDER_CODE");
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && !is("UTILIZER_ORDER_CODE", "0") {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/often.ld");
    }
    // A list of what the loader relocates in 2 KB instead of 170. What is built so does not start with an older C library than
    // 2.36; UTILIZER_PACK_RELOCATIONS=0 builds for those on a newer system.
    println!("cargo::rerun-if-env-changed=UTILIZER_PACK_RELOCATIONS");
    let here = env::var("HOST").is_ok_and(|host| is("TARGET", &host));
    if is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && here
        && !is("UTILIZER_PACK_RELOCATIONS", "0")
        && glibc().is_some_and(|version| version >= (2, 36))
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of the C library that this machine builds with.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
