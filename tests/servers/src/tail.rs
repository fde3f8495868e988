//! What a failed test shows of its programs and servers.

/// Lines that are shown of each.
const LINES: usize = 40;

/// Prints the end of a log if the test that holds it is failing.
#[allow(clippy::print_stderr, reason = "a test's output is where its reader looks")]
pub(crate) fn show(name: &str, log: &str) {
    if std::thread::panicking() {
        let lines: Vec<_> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LINES)..];
        eprintln!("-- the end of what {name} wrote:\n{}\n--", shown.join("\n"));
    }
}
