//! Messages of PostgreSQL's protocol, version 3, as far as a probe needs them.

/// The longest message that is taken.
const MOST: usize = 64 << 10;

/// A message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

/// What the server wants before it lets somebody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Authentication {
    /// Nothing more.
    Well,
    Clear,
    Md5([u8; 4]),
    Scram,
    ScramGoesOn(Vec<u8>),
    ScramEnds(Vec<u8>),
}

const NO: &str = "what answers is no PostgreSQL";

/// The message at the beginning of these bytes, and its length.
pub(super) fn message(bytes: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let Some((head, rest)) = bytes.split_at_checked(5) else { return Ok(None) };
    let (kind, length) = match *head {
        [kind, a, b, c, d] => (kind, u32::from_be_bytes([a, b, c, d])),
        _ => return Err(NO.to_owned()),
    };
    // The length counts itself.
    let length = usize::try_from(length).ok().and_then(|length| length.checked_sub(4)).filter(|length| *length <= MOST);
    let length = length.filter(|_| kind.is_ascii_alphabetic()).ok_or(NO)?;
    let body = rest.get(..length).map(|body| Message { kind, body: body.to_vec() });
    Ok(body.map(|message| (message, 5 + length)))
}

pub(super) fn ssl_request() -> [u8; 8] {
    [0, 0, 0, 8, 4, 210, 22, 47]
}

/// A message with its length. The first one has no letter before it.
fn framed(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.extend(kind);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Who wants in, and where.
pub(super) fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    let pairs =
        [("user", user), ("database", database), ("application_name", "utilizer probe"), ("client_encoding", "UTF8")];
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    framed(None, &body)
}

pub(super) fn query(sql: &str) -> Vec<u8> {
    framed(Some(b'Q'), &[sql.as_bytes(), &[0]].concat())
}

pub(super) fn terminate() -> Vec<u8> {
    framed(Some(b'X'), &[])
}

/// A password, which ends with a zero, or an answer of SCRAM, which does not.
pub(super) fn password(text: &[u8], ends: bool) -> Vec<u8> {
    framed(Some(b'p'), &[text, &[0][..usize::from(ends)]].concat())
}

pub(super) fn scram_first(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    framed(Some(b'p'), &[b"SCRAM-SHA-256\0", &length.to_be_bytes()[..], text.as_bytes()].concat())
}

/// What an `R` says.
pub(super) fn authentication(body: &[u8]) -> Result<Authentication, String> {
    let (code, rest) = body.split_first_chunk::<4>().ok_or(NO)?;
    Ok(match u32::from_be_bytes(*code) {
        0 => Authentication::Well,
        3 => Authentication::Clear,
        5 => Authentication::Md5(*rest.first_chunk().ok_or(NO)?),
        10 if rest.split(|byte| *byte == 0).any(|name| name == b"SCRAM-SHA-256") => Authentication::Scram,
        11 => Authentication::ScramGoesOn(rest.to_vec()),
        12 => Authentication::ScramEnds(rest.to_vec()),
        _ => {
            let how = "it wants a way of authentication that a probe does not know (GSSAPI, SSPI, …); let pg_hba.conf \
                give this user scram-sha-256";
            return Err(how.to_owned());
        }
    })
}

/// The columns of a row as texts; NULL is empty.
pub(super) fn row(body: &[u8]) -> Result<Vec<String>, String> {
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(NO)?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(NO)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let (text, after) = after.split_at_checked(length).ok_or(NO)?;
        columns.push(String::from_utf8_lossy(text).into_owned());
        rest = after;
    }
    Ok(columns)
}

/// What an `E` means: by its code. The server's own sentence may repeat what it was asked.
pub(super) fn refusal(body: &[u8]) -> String {
    let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C")).unwrap_or_default();
    let meaning = match code {
        b"28P01" => "it refuses the password",
        b"28000" => "it lets this user not in from here; see pg_hba.conf, and whether it wants TLS (`tls_mode`)",
        b"3D000" => "there is no such database",
        b"53300" => "it has as many connections as it may",
        b"57P01" | b"57P02" => "it is being stopped",
        b"57P03" => "it is starting, or does not take connections",
        b"42501" => "the user may not look; grant it pg_monitor",
        _ => "it answers with an error",
    };
    let code: String = code.iter().take(5).map(|byte| char::from(*byte)).filter(char::is_ascii_alphanumeric).collect();
    format!("{meaning} (SQLSTATE {code})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_when_they_are_whole() {
        let ready = [b'Z', 0, 0, 0, 5, b'I', b'x'];
        assert_eq!(message(&ready), Ok(Some((Message { kind: b'Z', body: b"I".to_vec() }, 6))));
        assert_eq!(message(&ready[..5]), Ok(None));
        assert_eq!(message(&ready[..4]), Ok(None));
        for wrong in [&b"HTTP/1.1 400 Bad Request"[..], &[b'Z', 0, 0, 0, 3], &[b'Z', 0xff, 0, 0, 0], &[1, 0, 0, 0, 5, 0]] {
            assert!(message(wrong).is_err());
        }
    }

    #[test]
    fn rows_and_refusals_are_read() {
        let body = [&[0, 3][..], &[0, 0, 0, 2], b"ab", &[0xff; 4], &[0, 0, 0, 0]].concat();
        assert_eq!(row(&body), Ok(vec!["ab".to_owned(), String::new(), String::new()]));
        assert!(row(&body[..7]).is_err() && row(&[0xff, 0xff]).is_err());
        let body = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"hush\"\0\0";
        assert_eq!(refusal(body), "it refuses the password (SQLSTATE 28P01)");
    }

    #[test]
    fn what_is_sent_has_its_length() {
        assert_eq!(query("x"), [b'Q', 0, 0, 0, 6, b'x', 0]);
        assert_eq!(startup("u", "d").first_chunk(), Some(&[0, 0, 0, 80, 0, 3, 0, 0]));
        assert_eq!(password(b"x", false).len() + 1, password(b"x", true).len());
    }
}
