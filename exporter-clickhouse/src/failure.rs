//! What ClickHouse's errors ask of the tier.

use std::error::Error as StdError;

use clickhouse::error::Error;
use exporter::sink::SinkError;

/// The server's texts may run to pages (a syntax error lists every token that could have followed).
const TEXT_LIMIT: usize = 600;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    Retry,
    Poison,
    Fatal,
}

/// A failure of the server, or of the way to it, in one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

/// The sink error for a failed insert.
pub(crate) fn sink_error(doing: impl Into<String>, error: &Error) -> SinkError {
    with_remedy(remedy(error), doing.into(), error)
}

/// The same where no row is being written: nothing can be dead-lettered, so that a refusal needs a person.
pub(crate) fn schema_error(doing: impl Into<String>, error: &Error) -> SinkError {
    let remedy = match remedy(error) {
        Remedy::Poison => Remedy::Fatal,
        other => other,
    };
    with_remedy(remedy, doing.into(), error)
}

/// What may pass by itself.
pub(crate) fn retry(doing: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> SinkError {
    SinkError::Retry { doing: doing.into(), source: source.into() }
}

/// QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING
pub(crate) fn is_running(error: &Error) -> bool {
    matches!(error, Error::BadResponse(text) if code(text) == Some(216))
}

/// A refusal of ours.
pub(crate) fn fatal(doing: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> SinkError {
    SinkError::Fatal { doing: doing.into(), source: source.into() }
}

fn with_remedy(remedy: Remedy, doing: String, error: &Error) -> SinkError {
    let source = Box::new(Failure(text(error)));
    match remedy {
        Remedy::Retry => SinkError::Retry { doing, source },
        Remedy::Poison => SinkError::Poison { doing, source },
        Remedy::Fatal => SinkError::Fatal { doing, source },
    }
}

fn remedy(error: &Error) -> Remedy {
    match error {
        Error::BadResponse(text) => code(text).map_or(Remedy::Retry, by_code),
        Error::InvalidParams(_) | Error::Unsupported(_) => Remedy::Fatal,
        // An answer in another shape than asked for: something else than ClickHouse listens there.
        Error::SchemaMismatch(_) | Error::InvalidColumnsHeader(_) | Error::DataFormat(_) => Remedy::Fatal,
        _ => Remedy::Retry,
    }
}

/// The codes of `ErrorCodes.cpp`. What stands in no list is retried: a code that is new to us may be anything, and a
/// retry loses nothing while its text is logged.
fn by_code(code: u32) -> Remedy {
    match code {
        // Values that can't be read or converted: CANNOT_PARSE_*, TYPE_MISMATCH, ARGUMENT_OUT_OF_BOUND,
        // CANNOT_CONVERT_TYPE, INCORRECT_DATA, too large arrays and strings, NULL in an ordinary column, constraints.
        6 | 25..=27 | 38 | 41 | 53 | 69 | 70 | 72 | 117 | 128 | 130 | 131 | 321 | 349 | 407 | 469 => Remedy::Poison,
        // Who we are: UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, IP_ADDRESS_NOT_ALLOWED, DATABASE_ACCESS_DENIED,
        // ACCESS_DENIED, AUTHENTICATION_FAILED, READONLY, SETTING_CONSTRAINT_VIOLATION.
        192..=195 | 291 | 497 | 516 | 164 | 452 => Remedy::Fatal,
        // What is there: missing or foreign columns, tables, databases.
        8 | 10 | 16 | 47 | 60 | 81 => Remedy::Fatal,
        // What the server can do: BAD_ARGUMENTS, UNKNOWN_FUNCTION, NOT_IMPLEMENTED, UNKNOWN_TYPE, UNKNOWN_STORAGE,
        // SYNTAX_ERROR, UNKNOWN_SETTING, SUPPORT_IS_DISABLED: too old for our tables.
        36 | 46 | 48 | 50 | 56 | 62 | 115 | 344 => Remedy::Fatal,
        _ => Remedy::Retry,
    }
}

/// What a person can do about a code, where that is not plain from the server's own words.
fn advice(code: u32) -> Option<&'static str> {
    match code {
        192..=194 | 516 => Some("check [clickhouse] username and password_file"),
        291 | 497 => Some(
            "grant the user INSERT, SELECT, CREATE TABLE, CREATE VIEW and ALTER TABLE on the database, or have \
             `utilizer-exporter-clickhouse migrate` run by one who may do that (config/clickhouse/grants.sql)",
        ),
        8 | 10 | 16 => Some("the table was not made by utilizer: take another [clickhouse] database"),
        60 | 81 => Some("`utilizer-exporter-clickhouse migrate` makes what is missing"),
        62 | 46 | 50 | 115 => Some("the server may be too old"),
        _ => None,
    }
}

/// The number in `Code: 60. DB::Exception: …`.
fn code(text: &str) -> Option<u32> {
    let digits = text.split_once("Code: ")?.1;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The error with its causes, each said once.
fn text(error: &Error) -> String {
    let (mut text, code) = match error {
        Error::BadResponse(answer) => (answer.clone(), code(answer)),
        other => (other.to_string(), None),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    if let Some((end, _)) = text.char_indices().nth(TEXT_LIMIT) {
        text.truncate(end);
        text.push('…');
    }
    match code.and_then(advice) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u32) -> Error {
        Error::BadResponse(format!("Code: {code}. DB::Exception: words. (NAME) (version 26.9.2.1 (official build))"))
    }

    #[test]
    fn codes_ask_for_what_they_mean() {
        for overload in [159, 160, 202, 203, 209, 210, 216, 241, 242, 252, 319, 439, 999, 123_456] {
            assert_eq!(remedy(&answer(overload)), Remedy::Retry, "{overload}");
        }
        for person in [516, 192, 193, 194, 497, 60, 81, 16, 62] {
            assert_eq!(remedy(&answer(person)), Remedy::Fatal, "{person}");
        }
        for row in [6, 27, 53, 70, 117, 131] {
            assert_eq!(remedy(&answer(row)), Remedy::Poison, "{row}");
            assert!(matches!(schema_error("opening", &answer(row)), SinkError::Fatal { .. }), "{row}");
        }
    }

    #[test]
    fn a_proxy_that_answers_for_the_server_is_retried() {
        assert_eq!(remedy(&Error::BadResponse("502 Bad Gateway".into())), Remedy::Retry);
        assert_eq!(remedy(&Error::BadResponse("<html>no Code: here</html>".into())), Remedy::Retry);
        assert_eq!(remedy(&Error::TimedOut), Remedy::Retry);
    }

    #[test]
    fn long_texts_are_cut_and_advice_stays() {
        let error = Error::BadResponse(format!("Code: 516. DB::Exception: {}", "é".repeat(2000)));
        let text = text(&error);
        assert!(text.chars().count() < 700 && text.ends_with("password_file"), "{text}");
    }
}
