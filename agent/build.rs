//! Has the linker put the functions that run all the time beside each other.
//!
//! The kernel maps code in pieces of 64 KiB around each page that is used. What a pass needs is a fifth of the code:
//! scattered, it would bring nearly all of it into memory. `often.ld` names these functions; `tools/order-code.py` finds
//! them anew. A name that is there no longer is left out, a function that is not named costs at most its piece.

use std::env;

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
}
