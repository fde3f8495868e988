//! Names of secrets: of keys, options, headers.

/// A name that ends with one of these is that of a secret, however it begins: `db_password`, `accessToken`.
const ENDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pswd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "accountkey",
    "sharedkey",
    "authkey",
    "sessionkey",
    "storagekey",
    "credential",
    "credentials",
    "authorization",
    "cookie",
    "cookies",
    "sessionid",
    "sessid",
    "userpwd",
    "requirepass",
    "masterauth",
    "keypass",
    "storepass",
    "bindpw",
    "dbpass",
    "dbpwd",
];

/// A name with one of these as its last word is that of a secret: `db_pw`, `DB-PASS`, `wifiPsk`.
const LAST_WORDS: &[&str] =
    &["pass", "pwd", "pw", "psk", "jwt", "otp", "totp", "cvv", "cvc", "creds", "cred", "bearer", "hmac"];

/// In the query of a URL these are secrets as well.
const IN_QUERIES: &[&str] = &["key", "sig", "signature", "auth", "sid"];

/// What a name that has to do with passwords ends with if it is none itself.
const NO_PASSWORDS: &[&str] = &[
    "file",
    "policy",
    "reset",
    "length",
    "expires",
    "expiry",
    "expired",
    "changed",
    "age",
    "attempts",
    "strength",
    "required",
    "field",
    "id",
    "count",
    "type",
    "url",
    "path",
    "min",
    "max",
    "manager",
    "less",
    "failures",
    "at",
    "date",
    "time",
    "enabled",
    "protected",
    "auth",
    "prompt",
    "hint",
    "rules",
    "valid",
];

/// Names of headers and other keys of which all that follows is secret.
const WHOLE_LINES: &[&str] = &["cookie", "set-cookie", "cookies"];

/// Whether a name ends as those of secrets do, by its last two letters. Every key of every line is asked.
pub(super) fn may_be(name: &str) -> bool {
    let bytes = name.as_bytes();
    let digits = bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let [.., before, last] = bytes.get(..bytes.len() - digits).unwrap_or_default() else { return false };
    let ends = matches!(
        (before | 0x20, last | 0x20),
        (b'r' | b'w' | b'i' | b'e', b'd')
            | (b's' | b'd' | b'i' | b'r', b'e')
            | (b'e' | b'w', b't')
            | (b'e' | b'o', b'n')
            | (b'e', b'y' | b'r')
            | (b'a', b'l' | b'c')
            | (b'l' | b's' | b'e' | b'd' | b't' | b'y' | b'n', b's')
            | (b't', b'h' | b'p')
            | (b'p', b'w')
            | (b's', b'k')
            | (b'v', b'v' | b'c')
            | (b'i', b'g')
    );
    ends || bytes.windows(3).any(|part| part.eq_ignore_ascii_case(b"ass"))
}

/// Whether what stands under a name is a secret. `queried` says that it stands in the query of a URL.
pub(super) fn is_secret(name: &str, queried: bool) -> bool {
    if name.len() > 80 || !may_be(name) {
        return false;
    }
    // Without what separates words, in small letters; a number at the end tells secrets of one kind apart.
    let bare: String =
        name.chars().filter(|c| !matches!(c, '_' | '-' | '.' | ' ')).map(|c| c.to_ascii_lowercase()).collect();
    let bare = bare.trim_end_matches(|c: char| c.is_ascii_digit());
    // Of tokens there are many that are only counted.
    let one = bare.strip_suffix('s').filter(|one| !one.ends_with("token")).unwrap_or(bare);
    if ENDS.iter().any(|end| bare.ends_with(end) || one.ends_with(end)) {
        return true;
    }
    let last = last_word(name);
    if LAST_WORDS.iter().any(|word| last.eq_ignore_ascii_case(word)) {
        return true;
    }
    if queried && IN_QUERIES.iter().any(|word| last.eq_ignore_ascii_case(word)) {
        return true;
    }
    let about_passwords = ["password", "passwd", "passphrase"].iter().any(|part| bare.contains(part));
    about_passwords && !NO_PASSWORDS.iter().any(|end| bare.ends_with(end))
}

/// Whether all of the line or text behind this name is secret.
pub(super) fn takes_line(name: &str) -> bool {
    WHOLE_LINES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether the secret under this name may have a word before it that says of what kind it is.
pub(super) fn is_authorization(name: &str) -> bool {
    name.len() >= 13 && name.get(name.len() - 13..).is_some_and(|end| end.eq_ignore_ascii_case("authorization"))
}

/// The `Psk` of `wifi-accessPsk2`.
fn last_word(name: &str) -> &str {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '_' | '-' | '.'));
    let start = name.rfind(['_', '-', '.', ' ']).map_or(0, |at| at + 1);
    let word = name.get(start..).unwrap_or_default();
    // A hump begins where a capital follows a small letter.
    let bytes = word.as_bytes();
    let hump = (1..bytes.len()).rev().find(|at| {
        let pair = (bytes.get(at - 1), bytes.get(*at));
        matches!(pair, (Some(before), Some(here)) if before.is_ascii_lowercase() && here.is_ascii_uppercase())
    });
    word.get(hump.unwrap_or(0)..).unwrap_or_default()
}

/// Words that stand where a secret could and are none.
const NO_SECRETS: &[&str] =
    &["null", "none", "nil", "true", "false", "undefined", "redacted", "hidden", "masked", "n/a"];

/// Words that go on a sentence: `token: expired`, `invalid password: must be longer`.
const SENTENCES: &[&str] = &[
    "expired",
    "invalid",
    "missing",
    "required",
    "incorrect",
    "wrong",
    "not",
    "is",
    "was",
    "are",
    "has",
    "must",
    "should",
    "too",
    "empty",
    "failed",
    "denied",
    "changed",
    "updated",
    "reset",
    "revoked",
    "rejected",
    "accepted",
    "for",
    "from",
    "the",
    "a",
    "an",
    "no",
    "unknown",
    "unexpected",
    "malformed",
    "cannot",
    "can't",
    "could",
    "does",
    "of",
    "in",
    "on",
    "at",
    "with",
    "by",
    "to",
    "and",
    "or",
    "your",
    "ok",
    "yes",
    "error",
    "bad",
    "please",
    "user",
    "authentication",
    "refresh",
    "refreshed",
    "refreshing",
    "rotated",
    "generated",
    "verification",
    "validation",
    "mismatch",
    "unable",
    "unauthorized",
    "forbidden",
    "already",
    "request",
    "found",
    "created",
    "deleted",
    "checking",
    "using",
];

/// Whether a value, as it stands, is no secret. `sentence` says that it follows a colon and a blank, without quotes.
pub(super) fn is_harmless(value: &str, sentence: bool) -> bool {
    let bare = value.trim_matches(|c: char| matches!(c, '<' | '>' | '[' | ']' | '(' | ')' | '.' | ',' | ';' | '!'));
    if bare.is_empty() || bare.bytes().all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.' | b'-' | b'#')) {
        return true;
    }
    let is_one = |words: &[&str]| words.iter().any(|word| bare.eq_ignore_ascii_case(word));
    is_one(NO_SECRETS) || (sentence && is_one(SENTENCES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "password",
            "PASSWORD",
            "db_password",
            "dbPassword",
            "newPassword2",
            "password_confirmation",
            "passwd",
            "user-pass",
            "DB_PW",
            "pwd",
            "api_key",
            "API-KEY",
            "apiKey",
            "x-api-key",
            "X-Auth-Token",
            "accessToken",
            "refresh_token",
            "client_secret",
            "aws_secret_access_key",
            "SecretAccessKey",
            "Authorization",
            "proxy-authorization",
            "Cookie",
            "Set-Cookie",
            "PHPSESSID",
            "JSESSIONID",
            "session_id",
            "wifiPsk",
            "jwt",
            "private_key",
            "password_hash",
            "auth.token",
            "spring.datasource.password",
            "api_keys",
            "secrets",
        ] {
            assert!(is_secret(name, false), "{name}");
        }
        for name in [
            "user",
            "tokens",
            "max_tokens",
            "token_count",
            "total_tokens",
            "token_type",
            "key",
            "cache_key",
            "primary_key",
            "keys",
            "author",
            "passed",
            "pass_rate",
            "compass",
            "password_file",
            "password_reset",
            "passwordLength",
            "bypass",
            "secretary",
            "broken",
            "secret_name",
            "cookie_count",
            "status",
            "sig",
            "monkey",
            "auth",
            "pin",
        ] {
            assert!(!is_secret(name, false), "{name}");
        }
        assert!(is_secret("key", true) && is_secret("sig", true) && is_secret("X-Amz-Signature", true));
    }
}
