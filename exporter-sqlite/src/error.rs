//! What SQLite's errors ask of the tier.

use std::path::Path;

use exporter::sink::SinkError;
use rusqlite::{Error, ErrorCode};

/// The sink error for a failure on the file.
pub(crate) fn sink_error(doing: &str, path: &Path, error: Error) -> SinkError {
    let doing = |advice: &str| format!("{doing} the SQLite file {}{advice}", path.display());
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::SchemaChanged
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed,
        ) => SinkError::Retry { doing: doing(""), source: Box::new(error) },
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
            SinkError::Poison { doing: doing(""), source: Box::new(error) }
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => SinkError::Fatal {
            doing: doing(
                " (move it away and start again: a new one is made; `sqlite3 FILE .recover` may save rows of the old one)",
            ),
            source: Box::new(error),
        },
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => SinkError::Fatal {
            doing: doing(" (this program's user must be able to write the file and its folder)"),
            source: Box::new(error),
        },
        _ => SinkError::Fatal { doing: doing(""), source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_full_file_is_retried() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA max_page_count = 2; CREATE TABLE t (x)").unwrap();
        let error = connection.execute("INSERT INTO t VALUES (zeroblob(100000))", []).unwrap_err();
        let error = sink_error("writing to", Path::new("/data/utilizer.db"), error);
        assert!(matches!(error, SinkError::Retry { .. }), "{error:?}");
        assert_eq!(error.to_string(), "writing to the SQLite file /data/utilizer.db");
    }

    #[test]
    fn a_broken_constraint_is_poison_and_a_missing_table_fatal() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (x NOT NULL)").unwrap();
        let poison = connection.execute("INSERT INTO t VALUES (NULL)", []).unwrap_err();
        let fatal = connection.execute("INSERT INTO u VALUES (NULL)", []).unwrap_err();
        assert!(matches!(sink_error("", Path::new(""), poison), SinkError::Poison { .. }));
        assert!(matches!(sink_error("", Path::new(""), fatal), SinkError::Fatal { .. }));
    }
}
