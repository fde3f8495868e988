//! What PostgreSQL's errors ask of the tier.

use std::error::Error as StdError;
use std::io;

use exporter::sink::SinkError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    Retry,
    Poison,
    Fatal,
}

/// The sink error for a failure of the server or of the way to it.
pub(crate) fn sink_error(doing: impl Into<String>, error: Error) -> SinkError {
    let remedy = remedy(&error);
    with_remedy(remedy, doing, error)
}

/// The same where no row is being written: nothing can be dead-lettered, so that a refusal needs a person.
pub(crate) fn schema_error(doing: impl Into<String>, error: Error) -> SinkError {
    let remedy = match remedy(&error) {
        Remedy::Poison => Remedy::Fatal,
        other => other,
    };
    with_remedy(remedy, doing, error)
}

/// Of the failures of two connections, the one that decides: what needs a person, then what may pass by itself.
pub(crate) fn worst(one: SinkError, other: SinkError) -> SinkError {
    let rank = |error: &SinkError| match error {
        SinkError::Fatal { .. } => 2,
        SinkError::Retry { .. } => 1,
        SinkError::Poison { .. } => 0,
    };
    if rank(&other) > rank(&one) { other } else { one }
}

/// A refusal of ours.
pub(crate) fn fatal(doing: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> SinkError {
    SinkError::Fatal { doing: doing.into(), source: source.into() }
}

fn with_remedy(remedy: Remedy, doing: impl Into<String>, error: Error) -> SinkError {
    let (doing, source) = (doing.into(), Box::new(error));
    match remedy {
        Remedy::Retry => SinkError::Retry { doing, source },
        Remedy::Poison => SinkError::Poison { doing, source },
        Remedy::Fatal => SinkError::Fatal { doing, source },
    }
}

fn remedy(error: &Error) -> Remedy {
    if let Some(code) = error.code() {
        return by_code(code);
    }
    if error.is_closed() || error.source().is_some_and(|source| source.is::<io::Error>()) {
        return Remedy::Retry;
    }
    // The client tells its other failures apart by text alone. A password that the server wants and the
    // configuration lacks, or TLS that only one side speaks, is not mended by waiting.
    let text = error.to_string();
    if ["invalid configuration", "authentication error", "error performing TLS handshake"].contains(&text.as_str()) {
        Remedy::Fatal
    } else if text.starts_with("error serializing") {
        Remedy::Poison
    } else {
        Remedy::Retry
    }
}

/// By SQLSTATE. What is not named here is retried: that loses nothing, and the log names it.
fn by_code(code: &SqlState) -> Remedy {
    match code.code() {
        // Sign-in, missing database or schema, rights; tables or columns that are not as our migrations made them.
        "3D000" | "3F000" => Remedy::Fatal,
        code if code.starts_with("28") || code.starts_with("42") || code.starts_with("0A") => Remedy::Fatal,
        // Values, constraints, a row that is too large.
        code if code.starts_with("22") || code.starts_with("23") || code.starts_with("54") => Remedy::Poison,
        // 08 connection, 25 read-only after a failover, 40 rollbacks, 53 resources, 55 locks, 57 shutdown, 58 I/O, XX.
        _ => Remedy::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_remedy() {
        for (code, remedy) in [
            ("08006", Remedy::Retry),
            ("25006", Remedy::Retry),
            ("40001", Remedy::Retry),
            ("40P01", Remedy::Retry),
            ("53100", Remedy::Retry),
            ("53300", Remedy::Retry),
            ("55P03", Remedy::Retry),
            ("57014", Remedy::Retry),
            ("57P01", Remedy::Retry),
            ("57P03", Remedy::Retry),
            ("58030", Remedy::Retry),
            ("XX000", Remedy::Retry),
            ("28P01", Remedy::Fatal),
            ("28000", Remedy::Fatal),
            ("3D000", Remedy::Fatal),
            ("42501", Remedy::Fatal),
            ("42P01", Remedy::Fatal),
            ("22001", Remedy::Poison),
            ("22P05", Remedy::Poison),
            ("23505", Remedy::Poison),
            ("54000", Remedy::Poison),
        ] {
            assert_eq!(by_code(&SqlState::from_code(code)), remedy, "{code}");
        }
    }
}
