//! Short fault drills; `make drill` and `make drill-logs` run long ones.

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

#[test]
fn each_line_of_rotated_files_arrives_once_while_the_agent_is_killed() {
    let arguments = ["--seconds", "6", "--rate", "4000", "--seed", "1"];
    let output = Command::new(built("utilizer-drill-logs")).args(arguments).output().unwrap();
    let (report, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{report}\n{errors}", output.status);
}
