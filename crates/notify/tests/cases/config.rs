//! Tables of receivers.

use std::path::Path;

use utilizer_notify::Reason;
use utilizer_notify::receivers::Receiver;

use crate::support::*;

/// A table of each kind, with no more than it needs.
const LEAST: &[(&str, &str, bool)] = &[
    ("slack", "webhook_url_file = \"url\"", false),
    ("discord", "webhook_url_file = \"url\"", true),
    ("teams", "webhook_url_file = \"url\"", true),
    ("email", "to = [\"a@example.org\"]\nfrom = \"b@example.org\"\nsmarthost = \"localhost:25\"", false),
    ("pagerduty", "routing_key_file = \"key\"", true),
    ("webhook", "url = \"http://localhost/hook\"", true),
    ("sms", "url = \"https://sms.example\"\nto = [\"1\"]", false),
    ("command", "job = \"restart\"", true),
];

#[test]
fn every_kind_has_a_table() {
    let kinds: Vec<&str> = LEAST.iter().map(|(kind, _, _)| *kind).collect();
    assert_eq!(kinds, Receiver::KINDS);
    for (kind, keys, send_resolved) in LEAST {
        let receiver = receiver(&format!("[[{kind}]]\n{keys}\n"));
        let ways = receiver.integrations();
        assert_eq!((ways.len(), ways[0].kind(), ways[0].send_resolved()), (1, *kind, *send_resolved));
        // Written and read again it is the same.
        let again: Receiver = toml::from_str(&toml::to_string(&receiver).unwrap()).unwrap();
        assert_eq!(again, receiver);
        ways[0].call(&plain(Reason::Alerts, true), time(), &secrets).unwrap();
        // An empty table is read, and lacks something.
        let empty: Receiver = toml::from_str(&format!("name = \"r\"\n[[{kind}]]\n")).unwrap();
        assert!(!empty.check().is_empty(), "{kind}");
        let unknown = toml::from_str::<Receiver>(&format!("name = \"r\"\n[[{kind}]]\nnope = 1\n")).unwrap_err();
        assert!(unknown.to_string().contains("unknown field `nope`"), "{unknown}");
    }
}

#[test]
fn ways_keep_the_order_of_the_list() {
    let all: String = LEAST.iter().rev().map(|(kind, keys, _)| format!("[[{kind}]]\n{keys}\n").repeat(2)).collect();
    let kinds: Vec<&str> = receiver(&all).integrations().iter().map(|way| way.kind()).collect();
    let expected: Vec<&str> = Receiver::KINDS.iter().flat_map(|kind| [*kind, *kind]).collect();
    assert_eq!(kinds, expected);
}

#[test]
fn faults_name_their_keys() {
    for (table, key, fault) in [
        ("[[slack]]", "slack[0].webhook_url_file", "is missing"),
        ("[[slack]]\nwebhook_url_file = \"\"", "slack[0].webhook_url_file", "is missing"),
        (
            "[[slack]]\nwebhook_url_file = \"u\"\nmentions = [\"@here\", \"<!here>\"]",
            "slack[0].mentions[1]",
            "is neither",
        ),
        ("[[slack]]\nwebhook_url_file = \"u\"\nmentions = [\"ä\"]", "slack[0].mentions[0]", "is neither"),
        ("[[discord]]\nwebhook_url_file = \"u\"\nmentions = [\"user:me\"]", "discord[0].mentions[0]", "is neither"),
        ("[[discord]]\nwebhook_url_file = \"u\"\nusername = \"My Discord\"", "discord[0].username", "not taken"),
        ("[[teams]]", "teams[0].webhook_url_file", "is missing"),
        ("[[email]]\nto = [\"x\"]\nfrom = \"a@b\"\nsmarthost = \"h:25\"", "email[0].to[0]", "is no address"),
        ("[[email]]\nfrom = \"a@b\"\nsmarthost = \"h:25\"", "email[0].to", "is missing"),
        (
            "[[email]]\nto = [\"a@b\\nBcc: c@d\"]\nfrom = \"a@b\"\nsmarthost = \"h:25\"",
            "email[0].to[0]",
            "is no address",
        ),
        ("[[email]]\nto = [\"a@b\"]\nfrom = \"a@b\"\nsmarthost = \"h\"", "email[0].smarthost", "is no host and port"),
        (
            "[[email]]\nto = [\"a@b\"]\nfrom = \"a@b\"\nsmarthost = \"h:25\"\ntls = \"none\"\nusername = \"u\"\npassword_file = \"p\"",
            "email[0].tls",
            "readable",
        ),
        (
            "[[email]]\nto = [\"a@b\"]\nfrom = \"a@b\"\nsmarthost = \"h:25\"\nheaders = { Bcc = \"x\" }",
            "email[0].headers.Bcc",
            "set by itself",
        ),
        (
            "[[email]]\nto = [\"a@b\"]\nfrom = \"a@b\"\nsmarthost = \"h:25\"\nheaders = { \"X Y\" = \"x\" }",
            "email[0].headers.X Y",
            "is no name",
        ),
        ("[[pagerduty]]", "pagerduty[0].routing_key_file", "is missing"),
        ("[[pagerduty]]\nrouting_key_file = \"k\"\nurl = \"x\"", "pagerduty[0].url", "is no URL"),
        ("[[webhook]]", "webhook[0].url", "is missing"),
        ("[[webhook]]\nurl = \"http://u:p@h/\"", "webhook[0].url", "has a user or password"),
        ("[[webhook]]\nurl = \"http://h/\"\nurl_file = \"f\"", "webhook[0].url_file", "only one"),
        ("[[webhook]]\nurl = \"http://h/\"\nusername = \"u\"", "webhook[0].username", "needs password_file"),
        (
            "[[webhook]]\nurl = \"http://h/\"\nheaders = { Authorization = \"x\" }",
            "webhook[0].headers.Authorization",
            "secret",
        ),
        ("[[webhook]]\nurl = \"http://h/\"\nheaders = { Host = \"x\" }", "webhook[0].headers.Host", "set by itself"),
        ("[[webhook]]\nurl = \"http://h/\"\nheaders = { X = \"a\\nb\" }", "webhook[0].headers.X", "control characters"),
        ("[[sms]]\nto = [\"1\"]", "sms[0].url", "is missing"),
        ("[[sms]]\nurl = \"https://{{ .Host }}/\"\nto = [\"1\"]", "sms[0].url", "template in the server's name"),
        ("[[sms]]\nurl = \"https://h\"\nto = [\"1\"]\nmethod = \"DELETE\"", "sms[0].method", "is none of"),
        ("[[sms]]\nurl = \"https://h\"\nto = [\"1\"]\nparts = 11", "sms[0].parts", "is not between"),
        ("[[sms]]\nurl = \"https://h\"", "sms[0].to", "is missing"),
        ("[[command]]", "command[0].job", "is missing"),
        ("[[command]]\njob = \"../rm -rf\"", "command[0].job", "is no name"),
    ] {
        let receiver: Receiver = toml::from_str(&format!("name = \"r\"\n{table}\n")).unwrap();
        let faults = receiver.check();
        assert_eq!(faults.len(), 1, "{table}: {faults:?}");
        assert!(faults[0].0 == key && faults[0].1.contains(fault), "{table}: {faults:?}");
    }
    let nameless: Receiver = toml::from_str("").unwrap();
    assert_eq!(nameless.check()[0].0, "name");
}

/// The documentation's examples are right, and it has every key.
#[test]
fn the_documentation_has_every_key() {
    #[derive(serde::Deserialize)]
    struct File {
        notify: Notify,
    }
    #[derive(serde::Deserialize)]
    struct Notify {
        #[serde(default)]
        receivers: Vec<Receiver>,
    }
    let text = include_str!("../../../../docs/notifications.md");
    let mut seen = 0;
    for block in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        if !block.contains("[[notify.receivers]]") {
            continue;
        }
        let file: File = toml::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"));
        for receiver in file.notify.receivers {
            assert_eq!(receiver.check(), [], "{block}");
            seen += receiver.integrations().len();
        }
    }
    assert!(seen >= LEAST.len(), "{seen}");
    for kind in Receiver::KINDS {
        let error = toml::from_str::<Receiver>(&format!("name = \"r\"\n[[{kind}]]\nnope = 1\n")).unwrap_err();
        let error = error.to_string();
        let keys = error.split("expected one of ").nth(1).unwrap();
        let sections: String = text
            .split("\n### ")
            .filter(|section| section.contains(&format!("[[notify.receivers.{kind}]]\n")))
            .collect();
        for key in keys.split('`').skip(1).step_by(2) {
            assert!(sections.contains(&format!("`{key}`")), "{kind}: {key}");
        }
    }
}

/// What is said of secrets names their files alone.
#[test]
fn secrets_are_not_told() {
    for (table, fault) in [
        ("[[slack]]\nwebhook_url_file = \"gone\"\n", "can't read gone"),
        ("[[slack]]\nwebhook_url_file = \"empty\"\n", "empty is empty"),
        ("[[discord]]\nwebhook_url_file = \"no-url\"\n", "no-url is no URL"),
        ("[[teams]]\nwebhook_url_file = \"key\"\n", "key is no URL"),
        ("[[pagerduty]]\nrouting_key_file = \"gone\"\n", "can't read gone"),
        ("[[webhook]]\nurl = \"http://h\"\nbearer_token_file = \"gone\"\n", "can't read gone"),
    ] {
        let error = one(table).call(&plain(Reason::Alerts, false), time(), &secrets).unwrap_err();
        assert!(error.contains(fault) && !error.contains(HUSH), "{error}");
    }
    let broken = |_: &Path| Ok(format!("{HUSH}\u{0}"));
    let error = one("[[slack]]\nwebhook_url_file = \"x\"\n").call(&plain(Reason::Alerts, false), time(), &broken);
    assert!(!error.unwrap_err().contains(HUSH));
}
