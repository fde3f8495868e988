//! The operator's command, from outside.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test with its line")]

mod it {
    mod broker;
    mod check;
    mod group;
    mod health;
    mod notify;
    mod query;
    mod replay;
    mod spool;
    mod status;
    mod tail;
    mod up;

    /// Holds a text against its golden file; `make golden` writes the file anew after a change that is meant.
    fn golden(name: &str, text: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(text, file, "{} differs; if the change is meant, `make golden` writes it anew", path.display());
    }
}
