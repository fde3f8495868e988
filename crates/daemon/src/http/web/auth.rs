//! Who a request is from: user and password (bcrypt), or a token.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use ring::rand::SystemRandom;
use ring::{digest, hmac};
use tokio::sync::Semaphore;

/// A longer header is nobody's password.
const LONGEST: usize = 4096;

/// What was found of a password is kept: bcrypt costs tens of milliseconds by design, and a scraper sends its own each time.
/// Right and wrong ones apart, so that no flood of wrong ones makes the right ones dear.
const KEPT_RIGHT: usize = 64;
const KEPT_WRONG: usize = 128;

/// How long a password may wait for those before it.
const TURN_TIME: Duration = Duration::from_secs(10);

/// Who may ask. Passwords as bcrypt made them, tokens as SHA-256.
#[derive(Clone, Default)]
pub(super) struct Users {
    pub(super) basic: Vec<(String, String)>,
    pub(super) bearer: Vec<(String, [u8; 32])>,
}

/// What came of looking at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody has to say who they are.
    Open,
    /// One of those who may.
    Known,
    /// None of them, or they did not say.
    Unknown,
    /// Too many passwords are being looked at.
    Busy,
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users with passwords, {} with tokens", self.basic.len(), self.bearer.len())
    }
}

impl Users {
    fn is_empty(&self) -> bool {
        self.basic.is_empty() && self.bearer.is_empty()
    }

    pub(super) fn challenges(&self) -> impl Iterator<Item = &'static str> + use<> {
        let basic = (!self.basic.is_empty()).then_some("Basic realm=\"utilizer\", charset=\"UTF-8\"");
        basic.into_iter().chain((!self.bearer.is_empty()).then_some("Bearer realm=\"utilizer\""))
    }
}

/// The SHA-256 of a token.
pub(super) fn token_hash(token: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
    hash
}

/// Looks at requests, one password at a time, and remembers what it found.
pub(super) struct Checker {
    /// What is kept is no password and no hash that could be tried against a list: the key is of this process alone.
    key: hmac::Key,
    found: Mutex<Found>,
    /// One at a time: strangers may take one core at most.
    turn: Arc<Semaphore>,
}

#[derive(Default)]
struct Found {
    right: VecDeque<hmac::Tag>,
    wrong: VecDeque<hmac::Tag>,
}

impl Checker {
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .unwrap_or_else(|_| unreachable!("BUG: the system gives no random bytes"));
        Self { key, found: Mutex::default(), turn: Arc::new(Semaphore::new(1)) }
    }

    pub(super) async fn verdict(&self, users: &Users, headers: &HeaderMap) -> Verdict {
        if users.is_empty() {
            return Verdict::Open;
        }
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let (Some(header), None) = (all.next(), all.next()) else { return Verdict::Unknown };
        let header = header.as_bytes();
        let Some(space) = header.iter().position(|byte| *byte == b' ').filter(|_| header.len() <= LONGEST) else {
            return Verdict::Unknown;
        };
        let (scheme, rest) = (&header[..space], header[space..].trim_ascii());
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return known(is_token(users, rest));
        }
        let Some((user, password)) = scheme.eq_ignore_ascii_case(b"basic").then(|| credentials(rest)).flatten() else {
            return Verdict::Unknown;
        };
        self.password(users, user, password).await
    }

    async fn password(&self, users: &Users, user: String, password: Vec<u8>) -> Verdict {
        // For a user who is not there, any hash is tried and what comes of it forgotten: nobody can tell by the time which
        // users there are.
        let there = users.basic.iter().find(|(name, _)| *name == user);
        let Some((_, hash)) = there.or(users.basic.first()) else { return Verdict::Unknown };
        let tag = self.tag(&user, &password, hash);
        if let Some(right) = self.remembered(&tag) {
            return known(right);
        }
        let turn = match tokio::time::timeout(TURN_TIME, self.turn.clone().acquire_owned()).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => return Verdict::Busy,
        };
        // The same password may have been looked at meanwhile: a scraper that comes back sooner than bcrypt does.
        if let Some(right) = self.remembered(&tag) {
            return known(right);
        }
        let hash = hash.clone();
        let looked = tokio::task::spawn_blocking(move || {
            // Held until it is done, even if the peer hangs up.
            let _turn = turn;
            bcrypt::verify(&password, &hash).unwrap_or(false)
        });
        let right = looked.await.unwrap_or(false) && there.is_some();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, most) = if right { (&mut found.right, KEPT_RIGHT) } else { (&mut found.wrong, KEPT_WRONG) };
        if list.len() >= most {
            list.pop_front();
        }
        list.push_back(tag);
        known(right)
    }

    /// Of user, password and the hash that they were held against: with another hash it is another question.
    fn tag(&self, user: &str, password: &[u8], hash: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user.as_bytes(), hash.as_bytes(), password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.sign()
    }

    fn remembered(&self, tag: &hmac::Tag) -> Option<bool> {
        // Nobody without the key can choose a tag, so the time that comparing takes tells nothing.
        let is_in = |list: &VecDeque<hmac::Tag>| list.iter().any(|known| known.as_ref() == tag.as_ref());
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if is_in(&found.right) { Some(true) } else { is_in(&found.wrong).then_some(false) }
    }
}

fn known(is: bool) -> Verdict {
    if is { Verdict::Known } else { Verdict::Unknown }
}

/// All are compared, and hashes: neither the token nor its place in the list shows in the time.
fn is_token(users: &Users, token: &[u8]) -> bool {
    let hash = token_hash(token);
    users.bearer.iter().fold(false, |found, (_, known)| {
        let differ = known.iter().zip(hash).fold(0, |all, (a, b)| all | (a ^ b));
        found | (std::hint::black_box(differ) == 0)
    })
}

/// RFC 7617: base64 of `user:password`.
fn credentials(encoded: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut user = STANDARD.decode(encoded).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.pop();
    Some((String::from_utf8(user).ok()?, password))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    /// The cheapest cost that bcrypt has.
    fn users() -> Users {
        let hash = |password| bcrypt::hash(password, 4).unwrap();
        Users {
            basic: vec![("anna".into(), hash("horse: staple")), ("ben".into(), hash("b"))],
            bearer: vec![("scraper".into(), token_hash(b"0123456789abcdef"))],
        }
    }

    fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    async fn verdict(checker: &Checker, users: &Users, header: &str) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
        checker.verdict(users, &headers).await
    }

    #[tokio::test]
    async fn those_who_are_known_get_in_and_nobody_else() {
        let (checker, users) = (Checker::new(), users());
        // Twice: the second time from what is remembered.
        for _ in 0..2 {
            for right in [&basic("anna", "horse: staple"), &basic("ben", "b"), "bearer 0123456789abcdef"] {
                assert_eq!(verdict(&checker, &users, right).await, Verdict::Known, "{right}");
            }
            for wrong in [
                &basic("anna", "b"),
                &basic("ben", "horse: staple"),
                &basic("carl", "horse: staple"),
                &basic("", ""),
                &basic("anna", ""),
                "Basic",
                "Basic !!!",
                "Basic YW5uYQ==",
                "Bearer",
                "Bearer 0123456789abcdeF",
                "Digest 0123456789abcdef",
                &format!("Basic {}", "A".repeat(60_000)),
            ] {
                assert_eq!(verdict(&checker, &users, wrong).await, Verdict::Unknown, "{wrong:.60}");
            }
        }
        assert_eq!(checker.verdict(&users, &HeaderMap::new()).await, Verdict::Unknown);
        assert_eq!(checker.verdict(&Users::default(), &HeaderMap::new()).await, Verdict::Open);
        let mut two = HeaderMap::new();
        for _ in 0..2 {
            two.append(AUTHORIZATION, HeaderValue::from_str(&basic("ben", "b")).unwrap());
        }
        assert_eq!(checker.verdict(&users, &two).await, Verdict::Unknown);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded_and_ends_with_the_hash() {
        let (checker, mut users) = (Checker::new(), users());
        assert_eq!(verdict(&checker, &users, &basic("ben", "b")).await, Verdict::Known);
        for number in 0..KEPT_WRONG + 10 {
            verdict(&checker, &users, &basic("ben", &number.to_string())).await;
        }
        {
            let found = checker.found.lock().unwrap();
            assert_eq!((found.right.len(), found.wrong.len()), (1, KEPT_WRONG));
        }
        users.basic[1].1 = bcrypt::hash("other", 4).unwrap();
        assert_eq!(verdict(&checker, &users, &basic("ben", "b")).await, Verdict::Unknown);
        assert_eq!(verdict(&checker, &users, &basic("ben", "other")).await, Verdict::Known);
    }

    #[tokio::test(start_paused = true)]
    async fn a_password_waits_for_its_turn_within_bounds() {
        let (checker, users) = (Checker::new(), users());
        let _turn = checker.turn.clone().acquire_owned().await.unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(verdict(&checker, &users, &basic("ben", "b")).await, Verdict::Busy);
        assert_eq!(begun.elapsed(), TURN_TIME);
    }
}
