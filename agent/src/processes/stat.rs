//! The fields of `/proc/PID/stat` that a pass needs.

use crate::host::{TextError, fields};

/// One process, as its `stat` has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    /// Without its parentheses.
    pub(super) name: &'a [u8],
    pub(super) state: u8,
    pub(super) parent: u32,
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
    pub(super) threads: u64,
    pub(super) start_ticks: u64,
    /// In user mode, all threads, not the children.
    pub(super) user_ticks: u64,
    /// In kernel mode.
    pub(super) system_ticks: u64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_pages: u64,
}

/// The state alone, for which the rest may be anything.
pub(super) fn state(text: &[u8]) -> Option<u8> {
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let state = fields(text.get(close + 1..)?).next()?;
    state.first().copied().filter(|_| state.len() == 1)
}

/// `pid (name) state ppid …`: 52 fields, of which the name may hold blanks and parentheses itself.
pub(super) fn parse(text: &[u8]) -> Result<Stat<'_>, TextError> {
    let open = text.iter().position(|byte| *byte == b'(');
    let close = text.iter().rposition(|byte| *byte == b')');
    let (Some(open), Some(close)) = (open, close) else {
        return Err(TextError::expected("a name in parentheses", text));
    };
    let Some(name) = text.get(open + 1..close) else {
        return Err(TextError::expected("a name in parentheses", text));
    };
    // Fields count from 1; the state is the third.
    let mut fields = fields(&text[close + 1..]);
    let state = *fields.text("a state")?.first().ok_or_else(|| TextError::expected("a state", text))?;
    let parent = fields.number("the parent, field 4")?;
    let parent = u32::try_from(parent).map_err(|_| TextError::new("the parent's number does not fit 32 bits"))?;
    // The terminal's process group and a few others are signed: they are passed over unread.
    fields.by_ref().take(5).for_each(drop);
    let minor_faults = fields.number("minor faults, field 10")?;
    let _of_children = fields.next();
    let major_faults = fields.number("major faults, field 12")?;
    let _of_children = fields.next();
    let user_ticks = fields.number("user time, field 14")?;
    let system_ticks = fields.number("system time, field 15")?;
    fields.by_ref().take(4).for_each(drop);
    let threads = fields.number("the number of threads, field 20")?;
    if threads > u64::from(u32::MAX) {
        return Err(TextError::new(format!("{threads} threads, field 20, are more than there can be")));
    }
    let _interval_timer = fields.next();
    let start_ticks = fields.number("the start time, field 22")?;
    let virtual_bytes = fields.number("virtual memory, field 23")?;
    // rss is printed signed; its counters may be short of the truth for a moment.
    let field = fields.text("resident pages, field 24")?;
    let resident_pages = if field.starts_with(b"-") {
        0
    } else {
        crate::host::number(field).ok_or_else(|| TextError::expected("resident pages, field 24", field))?
    };
    // What follows shows that the number was not cut.
    fields.text("the limit of resident memory, field 25")?;
    if user_ticks.checked_add(system_ticks).is_none() {
        return Err(TextError::new("user and system time do not fit 64 bits together"));
    }
    Ok(Stat {
        name,
        state,
        parent,
        minor_faults,
        major_faults,
        threads,
        start_ticks,
        user_ticks,
        system_ticks,
        virtual_bytes,
        resident_pages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str) -> String {
        format!(
            "42 ({name}) R 1 42 42 0 -1 4194560 5 6 7 8 140 15 16 17 20 0 4 0 2200 23000 24 18446744073709551615 26\n"
        )
    }

    #[test]
    fn reads_the_fields() {
        for name in ["cat", "a b", "a) R 1 (b", "", "((", ")"] {
            let text = line(name);
            let expected = Stat {
                name: name.as_bytes(),
                state: b'R',
                parent: 1,
                minor_faults: 5,
                major_faults: 7,
                threads: 4,
                start_ticks: 2200,
                user_ticks: 140,
                system_ticks: 15,
                virtual_bytes: 23000,
                resident_pages: 24,
            };
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn a_negative_resident_size_is_none() {
        let text = line("x").replace(" 24 ", " -3 ");
        assert_eq!(parse(text.as_bytes()).unwrap().resident_pages, 0);
    }

    #[test]
    fn refuses_what_is_cut_or_garbage() {
        let whole = line("x");
        let needed = whole.find(" 18446744073709551615").unwrap() + 2;
        for end in 0..needed - 1 {
            assert!(parse(&whole.as_bytes()[..end]).is_err(), "{end}");
        }
        for bad in [
            ")(",
            "1 (x) R 1 1 1 1 1 1 1 1 1 1 18446744073709551615 1 1 1 1 1 1 1 1 1 1 1",
            "1 (x) R 1 1 1 1 1 1 1 1 1 1 99999999999999999999 1 1 1 1 1 1 1 1 1 1 1",
            "1 (x) R a b c d e f g h i j k l m n o p q r s t u v",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        // Found by fuzzing: the sum over all processes did not fit.
        let threads = line("x").replace(" 0 4 0 2200", " 0 18446744073709551615 0 2200");
        assert!(parse(threads.as_bytes()).unwrap_err().to_string().contains("threads"));
        assert!(parse(b"\xff\x00(\xfe) \x80").is_err());
    }
}
