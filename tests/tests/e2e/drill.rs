//! A short fault drill; `make drill` runs long ones.

use std::process::Command;

use test_servers::{built, python};

#[test]
fn nothing_is_lost_or_doubled_while_everything_fails() {
    // Says how to install it where it is missing.
    python();
    let output = Command::new(built("utilizer-drill"))
        .args(["--seconds", "12", "--seed", "4", "--every-ms", "600", "--agents", "2", "--simulated", "4"])
        .output()
        .unwrap();
    let (report, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{report}\n{errors}", output.status);
}
