//! Alertmanager's API v2.

use utilizer_notify::receivers::{Alertmanager, Call, Outcome};

use crate::support::*;

#[test]
fn alerts_are_posted_with_the_login() {
    let section: Alertmanager =
        toml::from_str("urls = [\"http://a:9093/\"]\nusername = \"u\"\npassword_file = \"key\"").unwrap();
    assert!(section.check().is_empty());
    let Call::Http(call) = section.post(&section.urls[0], b"[]".to_vec(), &secrets).unwrap() else { panic!() };
    assert_eq!((call.url.expose(), call.method), ("http://a:9093/api/v2/alerts", "POST"));
    assert!(header(&call, "Authorization").unwrap().starts_with("Basic "));
    assert_eq!(header(&call, "Content-Type"), Some("application/json"));
}

#[test]
fn what_is_wrong_has_a_key() {
    for (text, key) in
        [("urls = [\"http://a\", \"b\"]", "urls[1]"), ("resend = \"10ms\"", "resend"), ("username = \"u\"", "username")]
    {
        let section: Alertmanager = toml::from_str(text).unwrap();
        let faults = section.check();
        assert!(faults.iter().any(|(at, _)| at == key), "{text}: {faults:?}");
    }
}

#[test]
fn only_what_it_can_never_take_is_given_up() {
    assert_eq!(Alertmanager::outcome(&answer(200, "")), Outcome::Sent);
    assert!(refused(Alertmanager::outcome(&answer(400, HUSH))).contains("some of the alerts"));
    later(Alertmanager::outcome(&answer(404, "")));
    later(Alertmanager::outcome(&answer(401, "")));
    later(Alertmanager::outcome(&answer(503, "")));
}
