//! Takes secrets out of command lines.
//!
//! A command line leaves the host, and people put passwords into it. What is hidden rather errs on the side of too much:
//! where a secret begins in an argument, the rest of that argument goes, since nobody knows where it ends. The rules work
//! on arguments and not on a text, because an argument may hold blanks; an argument that holds a whole command
//! (`sh -c '…'`, or a title that a program gave itself) is looked at word by word.

use std::borrow::Cow;
use std::sync::Arc;

use crate::pattern::Pattern;

/// What stands for a secret.
pub(super) const HIDDEN: &str = "***";

/// A name with one of these in it is that of a secret.
const SECRET_PARTS: &[&str] = &[
    "passw",
    "pswd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "credential",
    "apikey",
    "api-key",
    "api_key",
    "api.key",
    "accesskey",
    "access-key",
    "access_key",
    "access.key",
    "privatekey",
    "private-key",
    "private_key",
    "authorization",
    "cookie",
    "bearer",
    "signature",
    "sessionid",
    "session-id",
    "session_id",
    "userpwd",
    "from-literal",
    "sonar.login",
];

/// A name with one of these as a word of its own (`db-key`, `DB_PW`, `dbKey`) is that of a secret.
const SECRET_WORDS: &[&str] = &[
    "pass", "pwd", "pw", "passin", "passout", "key", "keys", "auth", "otp", "sig", "psk", "cred", "creds", "sid",
    "jwt", "pin", "pat", "hmac", "webhook",
];

/// A name that ends with one of these is that of a secret, however it begins: `requirepass`, `dbpwd`, `sshkey`.
const SECRET_ENDS: &[&str] = &["pass", "pwd", "pw", "key", "auth"];

/// What stands before the secret in addresses that are secrets themselves.
const SECRET_ADDRESSES: &[&str] =
    &["api.telegram.org/bot", "hooks.slack.com/", "discord.com/api/webhooks/", "webhook.office.com/"];

/// Options whose value is a user with a password behind a colon or a percent sign: curl, wget, smbclient and others.
const USER_OPTIONS: &[&str] = &["-u", "-U", "--user", "--username", "--proxy-user", "--login"];

/// The word before a secret in an authorization header.
const SCHEMES: &[&str] = &["bearer", "basic", "digest", "negotiate", "token", "apikey"];

/// What tokens of well-known services begin with.
const TOKEN_STARTS: &[&str] = &[
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxs-",
    "xapp-",
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "AKIA",
    "ASIA",
    "AIza",
    "eyJ",
    "hf_",
    "npm_",
    "pypi-",
    "dop_v1_",
    "SG.",
    "shpat_",
    "ya29.",
    "hvs.",
    "AGE-SECRET-KEY-",
];

/// Shorter words with such a beginning are words.
const LEAST_TOKEN: usize = 16;

/// Who has another `-u`: none of a user that a `-p` with a password comes with.
const NO_PASSWORDS: &[&str] = &["sudo", "su", "runuser", "journalctl", "systemctl", "ps", "pgrep", "pkill"];

/// Options with a secret that are too short to be known without the program.
struct Program {
    names: &'static [&'static str],
    /// `-p` here means `-p SECRET` and `-pSECRET`.
    options: &'static [&'static str],
    /// `-p` here means only `-pSECRET`: alone, the program asks.
    attached: &'static [&'static str],
    /// `-u` here means `-u USER:SECRET`, also at the end of others, as in `-su`.
    users: &'static [&'static str],
}

const NONE: Program = Program { names: &[], options: &[], attached: &[], users: &[] };

const PROGRAMS: &[Program] = &[
    Program {
        names: &[
            "mysql*",
            "mariadb*",
            "xtrabackup",
            "innobackupex",
            "mytop",
            "mycli",
            "7z",
            "7za",
            "7zr",
            "7zz",
            "rar",
            "unrar",
        ],
        attached: &["-p", "-hp"],
        ..NONE
    },
    Program {
        names: &[
            "sshpass",
            "mongo*",
            "rdesktop",
            "useradd",
            "usermod",
            "groupadd",
            "groupmod",
            "login",
            "mydumper",
            "myloader",
            "innotop",
            "cypher-shell",
            "cqlsh",
            "beeline",
            "fence_*",
            "racadm",
            "twine",
            "ncftp*",
            "veracrypt",
            "truecrypt",
            "steghide",
            "pt-*",
        ],
        options: &["-p"],
        ..NONE
    },
    Program { names: &["xfreerdp*", "wlfreerdp*", "sdl-freerdp*", "freerdp*"], attached: &["/p:"], ..NONE },
    Program { names: &["redis-*", "valkey-*", "keydb-*"], options: &["-a", "auth", "AUTH"], ..NONE },
    Program { names: &["ldap*"], options: &["-w", "-W"], ..NONE },
    Program { names: &["kadmin*", "ipa-*", "dsconf", "dsctl"], options: &["-w", "-pw"], ..NONE },
    Program { names: &["slappasswd"], options: &["-s"], ..NONE },
    Program { names: &["wpa_passphrase", "htpasswd", "chpasswd", "mkpasswd", "mosquitto_passwd"], ..NONE },
    Program { names: &["rabbitmqctl"], ..NONE },
    Program {
        names: &[
            "sqlcmd",
            "bcp",
            "isql",
            "osql",
            "tsql",
            "zip",
            "unzip",
            "ipmitool",
            "ipmi*",
            "curlftpfs",
            "mosquitto_*",
            "mqttx",
            "mqtt",
        ],
        options: &["-P"],
        ..NONE
    },
    Program { names: &["openssl", "gpg", "gpg2", "ccrypt"], options: &["-k", "-K"], ..NONE },
    Program { names: &["snmp*"], options: &["-A", "-X", "-c", "-Z"], ..NONE },
    Program { names: &["sqlplus*", "rman", "expdp", "impdp", "exp", "imp", "sqlldr", "tnsping"], ..NONE },
    Program { names: &["curl"], options: &["-b"], users: &["-u", "-U", "-E", "--cert", "--proxy-cert"], ..NONE },
    Program { names: &["http", "https", "xh", "hey", "oha"], users: &["-a"], ..NONE },
    Program { names: &["ab"], users: &["-A", "-P"], ..NONE },
    Program { names: &["lftp"], users: &["-u"], ..NONE },
    Program { names: &["etcdctl"], users: &["add"], ..NONE },
    Program { names: &["vault", "bao"], options: &["login", "unseal"], ..NONE },
    Program { names: &["influx"], options: &["-t"], ..NONE },
    Program { names: &["iscsiadm"], options: &["-v"], ..NONE },
    Program { names: &["iw", "iwconfig"], options: &["key", "keys", "enc"], ..NONE },
    Program { names: &["swaks"], options: &["-ap"], ..NONE },
    Program { names: &["sendemail", "sendEmail"], options: &["-xp"], ..NONE },
    Program { names: &["pdftk"], options: &["user_pw", "owner_pw", "input_pw"], ..NONE },
    Program { names: &["db2"], options: &["using"], ..NONE },
];

/// Whose arguments that are no options are secrets: the name of a user and a password.
const TAKES_SECRETS_BARE: &[&str] = &["wpa_passphrase", "htpasswd", "mkpasswd", "mosquitto_passwd", "rabbitmqctl"];
/// Who takes `user/password@database`.
const TAKES_SLASHES: &[&str] = &["sqlplus*", "rman", "expdp", "impdp", "exp", "imp", "sqlldr"];

/// The rules, and those of the configuration on top.
#[derive(Debug, Clone, Default)]
pub(super) struct Redactor {
    more: Vec<Pattern>,
    /// What is hidden in every text that leaves the host.
    general: Arc<logs::Redactor>,
}

impl Redactor {
    /// With more patterns: what one matches is hidden, or, where it has groups, what the groups match.
    pub(super) fn new(more: &[Pattern], general: &Arc<logs::Redactor>) -> Self {
        Self { more: more.to_vec(), general: general.clone() }
    }

    /// A command line as text, from `/proc/PID/cmdline`: arguments with a NUL after each. `cut` says that there was
    /// more than what was read. Empty for kernel threads and processes that hide theirs.
    pub(super) fn command_line(&self, raw: &[u8], cut: bool) -> String {
        let raw = if cut { without_half(raw) } else { raw };
        let end = raw.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let Some(raw) = raw.get(..end).filter(|raw| !raw.is_empty()) else { return String::new() };
        let mut out = String::with_capacity(raw.len());
        let mut state = Scan::default();
        for (index, argument) in raw.split(|byte| *byte == 0).enumerate() {
            let argument: String =
                String::from_utf8_lossy(argument).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            if index > 0 {
                out.push(' ');
            }
            state.argument(&argument, index == 0, &mut out);
        }
        self.by_patterns(out)
    }

    /// A text that is no command line, such as the name of a group that was made of one.
    fn by_patterns(&self, mut text: String) -> String {
        for regex in self.more.iter().filter_map(Pattern::regex) {
            let replaced = regex.replace_all(&text, |found: &regex_lite::Captures<'_>| {
                let Some(whole) = found.get(0) else { return String::new() };
                let mut out = String::new();
                let mut from = whole.start();
                for group in found.iter().skip(1).flatten().filter(|group| !group.as_str().is_empty()) {
                    // A group inside of another was hidden with it.
                    if group.start() >= from {
                        out.push_str(&text[from..group.start()]);
                        out.push_str(HIDDEN);
                        from = group.end();
                    }
                }
                if from == whole.start() {
                    return HIDDEN.to_owned();
                }
                out.push_str(&text[from..whole.end()]);
                out
            });
            text = replaced.into_owned();
        }
        match self.general.text(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(hidden) => hidden,
        }
    }
}

/// Without what may be half a word: half a secret is not always to be told from anything else.
fn without_half(raw: &[u8]) -> &[u8] {
    let end = raw.iter().rposition(|byte| *byte == 0 || byte.is_ascii_whitespace()).unwrap_or(0);
    &raw[..end]
}

/// What is known of the arguments so far.
#[derive(Default)]
struct Scan {
    /// The next word is a secret.
    next: Next,
    /// The program that the words are for, where it is one with rules of its own.
    program: Option<&'static Program>,
    /// The name by which it was known.
    program_name: &'static str,
    /// A user was named, and so a `-p` is likely to be that user's password.
    has_user: bool,
    /// One of [`NO_PASSWORDS`] came.
    no_passwords: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Next {
    #[default]
    Plain,
    Secret,
    /// A user, and a password behind a colon.
    User,
    /// A secret, if it looks neither like a port nor like a path.
    Perhaps,
}

impl Scan {
    /// Appends what may be shown of an argument.
    fn argument(&mut self, argument: &str, first: bool, out: &mut String) {
        let secret = self.secret_from(argument, first);
        without_userinfo(argument, secret.unwrap_or(argument.len()), out);
        if secret.is_some() {
            out.push_str(HIDDEN);
        }
    }

    /// From which byte on the argument is secret.
    fn secret_from(&mut self, argument: &str, first: bool) -> Option<usize> {
        let mut before: Option<&str> = None;
        for (number, (start, word)) in words(argument).enumerate() {
            let bare = word.trim_matches(is_quote);
            match std::mem::take(&mut self.next) {
                Next::Plain => {}
                Next::Secret => {
                    // A name of a secret, or a scheme, in place of one: what comes after is to be hidden, too.
                    let goes_on = is_secret_name(bare) && !bare.contains(['=', ':'])
                        || is_scheme(bare)
                        || word.chars().all(|c| matches!(c, '=' | ':' | '>'))
                        || self.program.is_some_and(|program| program.options.contains(&bare));
                    if goes_on && start + word.len() == argument.len() {
                        self.next = Next::Secret;
                    }
                    return Some(start);
                }
                Next::User => {
                    if let Some(at) = after_user(word, self.program_name) {
                        return Some(start + at);
                    }
                }
                Next::Perhaps => {
                    let is_port = |c: char| c.is_ascii_digit() || matches!(c, ':' | '.' | '-' | '[' | ']');
                    let port = bare.strip_suffix("/tcp").or_else(|| bare.strip_suffix("/udp")).unwrap_or(bare);
                    if !port.chars().all(is_port) && !bare.starts_with(['-', '/', '.']) {
                        return Some(start);
                    }
                }
            }
            if let Some(at) = self.in_word(word, bare, before, first && number == 0) {
                return Some(start + at);
            }
            before = Some(word);
        }
        None
    }

    /// From which byte of a word on it is secret; or it says that the next one is.
    fn in_word(&mut self, word: &str, bare: &str, before: Option<&str>, is_program: bool) -> Option<usize> {
        if let Some(at) = token(word)
            .or_else(|| word.find("-----BEGIN"))
            .or_else(|| user_and_host(word))
            .or_else(|| address(word))
            .or_else(|| word.find(",p=").map(|at| at + 3))
        {
            return Some(at);
        }
        for (at, _) in word.match_indices(['=', ':']) {
            // The name may stand in the word before: `password = x`, `"password" : "x"`.
            let head = word[..at].trim_end_matches(is_quote);
            let name = if head.is_empty() { before.unwrap_or_default() } else { head };
            if is_secret_name(last_name(name)) {
                if at + 1 < word.len() && !word[at + 1..].trim_matches(is_quote).is_empty() {
                    return Some(at + 1);
                }
                self.next = Next::Secret;
                return None;
            }
            if let Some(user) = USER_OPTIONS.iter().find(|option| **option == head)
                && let Some(colon) = word[user.len() + 1..].find([':', '%'])
            {
                return Some(user.len() + 1 + colon + 1);
            }
            // As mount takes it: `-o user=name%password`.
            if matches!(last_name(head), "user" | "username")
                && let Some(percent) = word[at + 1..].find('%').filter(|percent| *percent > 0)
            {
                return Some(at + 1 + percent + 1);
            }
        }
        if is_scheme(bare) && before.is_some_and(|before| before.to_ascii_lowercase().contains("auth")) {
            self.next = Next::Secret;
            return None;
        }
        if let Some(at) = self.by_program(word, bare) {
            return at;
        }
        if NO_PASSWORDS.contains(&bare) {
            self.no_passwords = true;
        }
        if USER_OPTIONS.contains(&bare) {
            self.next = Next::User;
            self.has_user |= !self.no_passwords;
        } else if self.has_user && matches!(bare, "-p" | "-P") {
            self.next = Next::Perhaps;
        } else if let Some(rest) = word.strip_prefix("-u").or_else(|| word.strip_prefix("-U"))
            && let Some(at) = rest.find([':', '%'])
        {
            return Some(2 + at + 1);
        } else if bare.starts_with('-') && is_secret_name(bare)
            // A bare name, as in `config set requirepass x`. A path is none, nor the program's own name.
            || !is_program && !bare.contains('/') && is_strong_name(last_name(bare))
        {
            self.next = Next::Secret;
        }
        None
    }

    /// By the rules of the program that the words are for. `Some(None)`: nothing more is to be looked for.
    fn by_program(&mut self, word: &str, bare: &str) -> Option<Option<usize>> {
        let name = bare.rsplit('/').next().unwrap_or(bare).trim_matches(|c: char| "();|&$`{}".contains(c));
        // What the program takes goes first: `vault login` runs no `login`.
        if self.program.is_some_and(|program| program.options.contains(&bare)) {
            self.next = Next::Secret;
            return Some(None);
        }
        for program in PROGRAMS {
            if let Some(known) = program.names.iter().find(|known| is_called(name, known)) {
                (self.program, self.program_name) = (Some(program), known);
                return Some(None);
            }
        }
        let program = self.program?;
        if program.options.iter().any(|option| ends_cluster(word, option)) {
            self.next = Next::Secret;
            return Some(None);
        }
        for option in program.users {
            if bare == *option || ends_cluster(word, option) {
                self.next = Next::User;
                return Some(None);
            }
            if let Some(rest) = word.strip_prefix(option).filter(|_| option.starts_with('-'))
                && let Some(at) = after_user(rest, self.program_name)
            {
                return Some(Some(option.len() + at));
            }
        }
        for option in program.options.iter().chain(program.attached) {
            // Longer options with two dashes have names.
            if word.starts_with(option) && word.len() > option.len() && option.starts_with(['-', '/']) {
                return Some(Some(option.len()));
            }
        }
        if TAKES_SLASHES.contains(&self.program_name)
            && !word.starts_with(['/', '-'])
            && let Some(slash) = word.find('/')
        {
            return Some(Some(slash + 1));
        }
        if TAKES_SECRETS_BARE.contains(&self.program_name) && !word.starts_with('-') {
            return Some(Some(0));
        }
        None
    }
}

/// Whether a program's name is this one; a star at the end stands for any rest.
fn is_called(name: &str, known: &str) -> bool {
    match known.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == known,
    }
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\' | '`' | '{' | '}' | '[' | ']' | '(' | ')' | ',' | ';')
}

/// Whether a word is several options of one letter, and this one the last: `-xw` for `-w`.
fn ends_cluster(word: &str, option: &str) -> bool {
    let Some(letter) = option.strip_prefix('-').filter(|letter| letter.len() == 1) else { return false };
    let Some(others) = word.strip_prefix('-').and_then(|letters| letters.strip_suffix(letter)) else { return false };
    (1..8).contains(&others.len()) && others.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Where the secret begins in what stands for a user with one.
fn after_user(word: &str, program: &str) -> Option<usize> {
    // What lftp takes for a colon is a comma.
    word.find(|c| matches!(c, ':' | '%') || c == ',' && program == "lftp").map(|at| at + 1)
}

/// Where the secret begins in an address that needs no password: who knows it may send.
fn address(word: &str) -> Option<usize> {
    let known = SECRET_ADDRESSES.iter().find_map(|start| word.find(start).map(|at| at + start.len()));
    // Behind the last slash is the key of the stream.
    let stream = || word.find("rtmp://").or_else(|| word.find("rtmps://")).and(word.rfind('/')).map(|at| at + 1);
    known.or_else(stream).filter(|at| *at < word.len())
}

/// The words of an argument with the place of each.
fn words(argument: &str) -> impl Iterator<Item = (usize, &str)> {
    argument
        .split(char::is_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - argument.as_ptr() as usize, word))
}

/// What stands at the end of a text and may be a name: the `password` of `a?b=c&password`.
fn last_name(text: &str) -> &str {
    let text = text.trim_end_matches(is_quote);
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let start = text.char_indices().rev().find(|(_, c)| !is_part(*c)).map_or(0, |(at, c)| at + c.len_utf8());
    &text[start..]
}

/// Whether a value under this name is a secret.
fn is_secret_name(name: &str) -> bool {
    let name = name.trim_matches(is_quote).trim_start_matches(['-', '/']);
    if is_strong_name(name) {
        return true;
    }
    let lower = name.to_ascii_lowercase();
    if SECRET_ENDS.iter().any(|end| lower.ends_with(end)) {
        return true;
    }
    let is_secret = |word: &str| SECRET_WORDS.iter().any(|secret| word.eq_ignore_ascii_case(secret));
    name.split(|c: char| !c.is_alphanumeric()).any(|word| is_secret(word) || humps(word).any(is_secret))
}

/// Whether a name is a secret's beyond doubt, so that it needs no dashes to be taken for one.
fn is_strong_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| lower.contains(part))
        || ["requirepass", "masterauth"].contains(&&*lower)
        || lower.ends_with("psk")
}

/// The words of `dbKeyFile`.
fn humps(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest[first.len_utf8()..].find(|c: char| c.is_ascii_uppercase()).map(|at| at + first.len_utf8());
        let (hump, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(hump)
    })
}

fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Where a token of a well-known service begins in a word.
fn token(word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut at = 0;
    for run in word.split_inclusive(|c: char| !is_part(c)) {
        let text = run.trim_end_matches(|c: char| !is_part(c));
        let is_token = text.len() >= LEAST_TOKEN && TOKEN_STARTS.iter().any(|start| text.starts_with(start));
        if is_token {
            return Some(at);
        }
        at += run.len();
    }
    None
}

/// Where the password begins in `user:password@host`. With a scheme before it, it is left to [`without_userinfo`].
fn user_and_host(word: &str) -> Option<usize> {
    let (colon, at) = (word.find(':')?, word.rfind('@')?);
    (colon > 0 && colon + 1 < at && !word[colon..].starts_with("://")).then_some(colon + 1)
}

/// Appends the first `end` bytes of a text, with what stands before the host in URLs hidden:
/// `scheme://user:password@host`.
fn without_userinfo(text: &str, end: usize, out: &mut String) {
    let mut from = 0;
    while let Some(at) = text[from..].find("://").map(|at| from + at + 3).filter(|at| *at <= end) {
        // A password may have any sign in it, but for blanks; so the last @ of the word ends it.
        let word = &text[at..];
        let word = &word[..word.find(char::is_whitespace).unwrap_or(word.len())];
        out.push_str(&text[from..at]);
        from = at;
        if let Some(host) = word.rfind('@').map(|sign| at + sign) {
            if host >= end {
                return;
            }
            out.push_str(HIDDEN);
            from = host;
        }
    }
    out.push_str(&text[from..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(arguments: &[&str]) -> Vec<u8> {
        arguments.iter().flat_map(|argument| argument.bytes().chain([0])).collect()
    }

    fn shown(arguments: &[&str]) -> String {
        Redactor::default().command_line(&raw(arguments), false)
    }

    /// Each as arguments, and as one argument of a shell.
    #[test]
    fn what_is_a_secret_to_one_program_only_is_hidden() {
        for line in [
            "curl -su user:hunter2 x",
            "curl -sSfu user:hunter2 x",
            "curl -b session=hunter2 x",
            "curl -E cert.pem:hunter2 x",
            "curl --cert cert.pem:hunter2 x",
            "curl -H X-Auth:hunter2",
            "curl https://api.telegram.org/bot123456:hunter2aaaaaaaa/sendMessage",
            "curl -X POST https://hooks.slack.com/services/T000/B000/hunter2",
            "curl https://discord.com/api/webhooks/1234/hunter2",
            "redis-cli AUTH hunter2",
            "mosquitto_pub -u user -P hunter2 -t x",
            "mosquitto_sub -t x -Phunter2",
            "mosquitto_passwd -b file user hunter2",
            "http -a user:hunter2 example.org",
            "ab -A user:hunter2 http://x/",
            "hey -a user:hunter2 http://x/",
            "lftp -u user,hunter2 host",
            "ncftpput -u user -p hunter2 host . f",
            "twine upload -u x -p hunter2",
            "cqlsh -u u -p hunter2",
            "cypher-shell -p hunter2 -u neo4j",
            "beeline -u jdbc:hive2://h -n u -p hunter2",
            "mydumper -u root -p hunter2",
            "rabbitmqadmin -u u -p hunter2 list",
            "rabbitmqctl add_user u hunter2",
            "rabbitmqctl change_password u hunter2",
            "fence_ipmilan -a h -l admin -p hunter2",
            "pcs cluster auth n1 -u hacluster -p hunter2",
            "kadmin -p admin -w hunter2",
            "ldapsearch -xw hunter2",
            "ipa-client-install -p admin -w hunter2",
            "slappasswd -s hunter2",
            "ROOTPW=hunter2 app",
            "env GH_PAT=hunter2 app",
            "nmcli con modify x wifi-sec.psk hunter2",
            "iwconfig wlan0 key s:hunter2",
            "kubectl create secret generic foo --from-literal=foo=hunter2",
            "kubectl create secret docker-registry r --docker-password=hunter2",
            "iscsiadm -m node -o update -n node.session.auth.password -v hunter2",
            "zip -rP hunter2 a.zip b",
            "swaks -au x -ap hunter2",
            "sendemail -xu x -xp hunter2",
            "sonar-scanner -Dsonar.login=hunter2",
            "racadm -r h -u root -p hunter2 getsysinfo",
            "etcdctl user add root:hunter2",
            "pt-table-sync h=x,u=y,p=hunter2",
            "veracrypt -p hunter2 x",
            "pdftk a.pdf output b.pdf user_pw hunter2",
            "influx -t hunter2",
            "az login -u x -p hunter2",
            "mysqladmin -u root password hunter2",
            "socat - OPENSSL:host:443,cert=a,passphrase=hunter2",
            "openvpn --http-proxy-user-pass hunter2",
            "db2 connect to x user u using hunter2",
            "proxychains curl -U proxyuser:hunter2",
            "ffmpeg -i rtsp://admin:hunter2@cam/stream",
            "ffmpeg -f flv rtmp://live.twitch.tv/app/live_123_hunter2",
            "vault operator unseal hunter2",
            "vault login hunter2",
            "restic -r rest:https://u:hunter2@h/ backup",
            "rclone copy --sftp-pass hunter2 x",
            "gitlab-runner register --registration-token hunter2",
            "tailscale up --authkey tskey-hunter2",
            "ssh -o SendEnv=X PASSWORD=hunter2",
            "wget --user u --password hunter2",
            "freerdp /p:hunter2",
            "wlfreerdp /v:x /u:y /p:hunter2",
            "cmd /pass:hunter2",
            "mount.cifs //h/s /m -o user=u%hunter2",
            "mount.cifs //h/s /m -o username=u,password=hunter2",
            "mount.davfs -o username=u http://u:hunter2@h",
            "snmpwalk -v3 -u u -l authPriv -a SHA -Ahunter2 h",
            "postgres: password=hunter2",
            "nodejs app --jwt=hunter2",
            "app --bindpw=hunter2",
            "app --conn=host=x;password = hunter2",
        ] {
            let arguments: Vec<_> = line.split(' ').collect();
            for shown in [shown(&arguments), shown(&["sh", "-c", line])] {
                assert!(!shown.contains("hunter2"), "{line:?} is shown as {shown:?}");
            }
        }
    }

    #[test]
    fn what_holds_no_secret_is_shown_as_it_is() {
        for line in [
            "/usr/sbin/nginx -g daemon off;",
            "postgres: writer process",
            "/usr/lib/systemd/systemd --switched-root --system --deserialize=31",
            "java -Xmx2g -Dspring.profiles.active=prod -jar /opt/app.jar --server.port=8080",
            "ssh -p 2222 git@github.com",
            "rsync -a host:/srv /backup",
            "python3 train.py --batch-size 64 --lr 1e-4 --layers 12 --seed 7",
            "curl -u admin https://example.org/status?page=2",
            "docker run -p 8080:80 --name web nginx",
            "sleep infinity",
            "tar -xpf archive.tar",
            "/usr/bin/Xorg :0 -keyboard x --author me",
            "mysqld --port=3306 -u mysql",
            "find / -name *.rs",
            "git clone https://github.com/a/b.git",
            "journalctl -u ssh.service",
            "journalctl -u ssh -p err -f",
            "sudo -u app mkdir -p data",
            "docker run -u root -p 8080:80/tcp -p 127.0.0.1:90:90 nginx",
            "app --user www -p 8080 -P /run/app.pid",
            "rsync -avu host:/srv /backup",
            "mosquitto_sub -h broker -p 1883 -t a/b",
            "mosquitto -c /etc/mosquitto/mosquitto.conf",
            "vault server -config=/etc/vault.hcl",
            "curl -sSfo /tmp/x https://example.org:8080/a:b",
            "redis-server *:6379",
            "ffmpeg -i rtsp://cam/stream out.mkv",
            "/usr/bin/dbus-daemon --system --address=systemd: --nofork",
        ] {
            let arguments: Vec<_> = line.split(' ').collect();
            assert_eq!(shown(&arguments), line);
        }
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&["", ""]), "");
        assert_eq!(shown(&["a", "", "b c"]), "a  b c");
    }

    /// Each with the word `hunter2` in place of the secret: it must not be shown, nor any part of it.
    #[test]
    fn no_secret_is_shown() {
        let one_by_one: &[&[&str]] = &[
            &["app", "--password=hunter2"],
            &["app", "--password", "hunter2"],
            &["app", "-password", "hunter2"],
            &["app", "--password", "hunter2 with hunter2"],
            &["app", "--password", "-hunter2"],
            &["app", "--password", "--token", "hunter2"],
            &["app", "--password="],
            &["app", "--password=", "hunter2"],
            &["app", "--db-password=my hunter2"],
            &["app", "--dbPassword", "hunter2"],
            &["app", "--PASSWORD=hunter2"],
            &["app", "--passwd:hunter2"],
            &["app", "/password:hunter2"],
            &["app", "--api-key=hunter2"],
            &["app", "--apiKey", "hunter2"],
            &["app", "--key", "hunter2"],
            &["app", "--auth-token", "hunter2"],
            &["app", "--client-secret=hunter2"],
            &["app", "--aws.secret_access_key=hunter2"],
            &["app", "-Dspring.datasource.password=hunter2"],
            &["app", "-Djavax.net.ssl.keyStorePassword=hunter2", "-jar", "x"],
            &["keytool", "-storepass", "hunter2", "-keypass", "hunter2"],
            &["env", "PASSWORD=hunter2", "PGPASSWORD=hunter2", "DB_PW=hunter2", "SECRET_KEY_BASE=hunter2", "app"],
            &["app", "--set", "db.user=x,db.password=a,hunter2"],
            &["app", "postgres://user:hunter2@db.example/main"],
            &["app", "postgres://user:hun@ter2/hunter2@db.example/main"],
            &["app", "--url=redis://:hunter2@cache:6379/0"],
            &["app", "http://a:hunter2@h1,http://b:hunter2@h2"],
            &["app", "http://u:hunter2=key=hunter2@host"],
            &["app", "https://hunter2@example.org"],
            &["app", "https://example.org/?access_token=hunter2&page=2"],
            &["app", "https://example.org/?page=1&sig=hunter2"],
            &["app", "user:hunter2@host"],
            &["app", "admin:secret=hunter2@host"],
            &["curl", "-H", "Authorization: Bearer hunter2", "https://example.org"],
            &["curl", "-H", "authorization:Basic hunter2"],
            &["curl", "-H", "Authorization:", "Bearer", "hunter2"],
            &["curl", "--header=Authorization: token hunter2"],
            &["curl", "-H", "X-Api-Key: hunter2"],
            &["curl", "-H", "Cookie: a=b; session=hunter2"],
            &["curl", "-u", "user:hunter2", "x"],
            &["curl", "-uuser:hunter2", "x"],
            &["curl", "--user", "user:hunter2"],
            &["curl", "--user=user:hunter2"],
            &["curl", "--proxy-user", "user:hunter2"],
            &["curl", "-d", "{\"user\":\"x\",\"password\":\"hunter2\"}"],
            &["curl", "-d", "{ \"password\" : \"a hunter2\" }"],
            &["curl", "-d", "user=x&password=hunter2"],
            &["wget", "--http-password=hunter2"],
            &["smbclient", "-U", "user%hunter2"],
            &["mysql", "-u", "root", "-phunter2"],
            &["/usr/bin/mysqldump", "-phunter2", "db"],
            &["mariadb-dump", "-phunter2"],
            &["sshpass", "-p", "hunter2", "ssh", "host"],
            &["sshpass", "-phunter2", "ssh", "host"],
            &["mongosh", "-u", "x", "-p", "hunter2"],
            &["redis-cli", "-a", "hunter2"],
            &["redis-cli", "config", "set", "requirepass", "hunter2"],
            &["ldapsearch", "-w", "hunter2"],
            &["7z", "x", "-phunter2", "a.7z"],
            &["zip", "-P", "hunter2", "a.zip"],
            &["unrar", "x", "-hphunter2"],
            &["docker", "login", "-u", "x", "-p", "hunter2"],
            &["sqlcmd", "-U", "sa", "-P", "hunter2"],
            &["openssl", "enc", "-k", "hunter2"],
            &["openssl", "rsa", "-passin", "pass:hunter2"],
            &["sqlplus", "scott/hunter2@db"],
            &["xfreerdp", "/u:x", "/p:hunter2"],
            &["htpasswd", "-b", "file", "user", "hunter2"],
            &["snmpget", "-A", "hunter2", "-X", "hunter2", "host"],
            &["ipmitool", "-P", "hunter2"],
            &["useradd", "-p", "hunter2", "x"],
            &["aws", "configure", "set", "aws_secret_access_key", "hunter2"],
            &["git", "config", "http.extraheader.token", "hunter2"],
            &["sh", "-c", "mysql -u root -phunter2 db"],
            &["sh", "-c", "PASSWORD=hunter2 app --flag"],
            &["sh", "-c", "app --password 'my hunter2' --next"],
            &["sh", "-c", "app --password=\"my hunter2\""],
            &["sh", "-c", "app --token  hunter2"],
            &["bash", "-c", "curl -H 'Authorization: Bearer hunter2' -H 'Cookie: a=b; c=hunter2' x"],
            &["bash", "-c", "curl -u user:hunter2 x"],
            &["bash", "-c", "sshpass -p hunter2 ssh host"],
            &["bash", "-c", "cd /x && redis-cli -a hunter2 ping"],
            &["bash", "-c", "(mysql -phunter2)"],
            &["bash", "-c", "echo password = hunter2 > file"],
            &["bash", "-c", "line\nexport TOKEN=hunter2\nmore"],
            &["app: worker --password=hunter2 (idle)"],
            &["app", "-----BEGIN RSA PRIVATE KEY-----\nhunter2"],
            &["app", "password=x -----BEGIN RSA PRIVATE KEY-----\nhunter2"],
            &["app", "ghp_hunter2hunter2hunter2"],
            &["app", "--x", "AKIAhunter2hunter2hunter2"],
            &["app", "eyJhunter2.hunter2hunter2.hunter2"],
            &["app", "xoxb-123456789012-hunter2"],
            &["app", "x=sk-hunter2hunter2hunter2"],
        ];
        for arguments in one_by_one {
            let shown = shown(arguments);
            for part in ["hunter2", "hunter", "unter2", "hun@", "ter2"] {
                assert!(!shown.contains(part), "{arguments:?} is shown as {shown:?}");
            }
            // Not by hiding everything.
            assert!(shown.starts_with(&arguments[0][..2]), "{shown:?}");
        }
    }

    #[test]
    fn what_stands_around_a_secret_is_shown() {
        assert_eq!(shown(&["app", "--password", "x y", "--port=1"]), "app --password *** --port=1");
        assert_eq!(shown(&["app", "--password=x", "--port=1"]), "app --password=*** --port=1");
        assert_eq!(shown(&["app", "amqp://u:p@mq/v", "-v"]), "app amqp://***@mq/v -v");
        assert_eq!(shown(&["mysql", "-u", "root", "-px", "db"]), "mysql -u root -p*** db");
        assert_eq!(shown(&["curl", "-u", "me:x", "h"]), "curl -u me:*** h");
        assert_eq!(shown(&["sh", "-c", "app --token x --more"]), "sh -c app --token ***");
    }

    #[test]
    fn a_command_line_that_was_cut_ends_before_the_cut() {
        let redactor = Redactor::default();
        let long = raw(&["app", "--verbose", "https://user:hunter2@host"]);
        for end in 0..long.len() {
            let shown = redactor.command_line(&long[..end], true);
            assert!(!shown.contains('h') && !shown.contains("user"), "{shown:?}");
        }
        assert_eq!(redactor.command_line(&long[..20], true), "app --verbose");
        assert_eq!(redactor.command_line(b"title of https://user:hun", true), "title of");
        assert_eq!(redactor.command_line(b"https://user:hun", true), "");
    }

    #[test]
    fn patterns_of_the_configuration_are_added() {
        let patterns = [r"--pan[= ](\S+)", r"\bcustomer-\d+\b", "["].map(Pattern::new);
        let patterns: Vec<_> = patterns.into_iter().filter_map(Result::ok).collect();
        assert_eq!(patterns.len(), 2);
        let line = raw(&["app", "--pan", "4111", "customer-77", "--token=x"]);
        assert_eq!(
            Redactor::new(&patterns, &Arc::default()).command_line(&line, false),
            "app --pan *** *** --token=***"
        );
        assert_eq!(Redactor::new(&[Pattern::default()], &Arc::default()).command_line(&raw(&["app"]), false), "app");
    }

    #[test]
    fn what_leaves_the_host_nowhere_leaves_it_in_a_command_line() {
        let section = toml::from_str("patterns = ['customer-\\d+']\n").unwrap();
        let general = logs::Plans::new(&[], &section, &|_| None).unwrap().redactor;
        let shown = |line: &[&str]| Redactor::new(&[], &general).command_line(&raw(line), false);
        assert_eq!(shown(&["app", "customer-77", "4111111111111111"]), "app *** ***");
        assert_eq!(shown(&["ssh", "-p", "2222", "git@github.com"]), "ssh -p 2222 git@github.com");
    }

    #[test]
    fn any_bytes_are_text_without_control_characters() {
        let all: Vec<u8> = (0..=255).cycle().take(2000).collect();
        let shown = Redactor::default().command_line(&all, false);
        assert!(!shown.chars().any(char::is_control));
        // Every sign that is of importance to the rules, in every order that a small generator finds.
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let pieces =
            ["=", ":", "@", "://", "/", "-", "--", " ", "\0", "\"", "'", "p", "-u", "key", "Bearer", "é", "\u{1f600}"];
        for _ in 0..20_000 {
            let mut line = String::new();
            for _ in 0..8 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                line.push_str(pieces[(seed % pieces.len() as u64) as usize]);
            }
            Redactor::default().command_line(line.as_bytes(), seed.is_multiple_of(2));
        }
    }
}
