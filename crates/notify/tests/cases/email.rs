//! Mails, parsed back.

use base64::Engine;
use utilizer_notify::Reason;
use utilizer_notify::receivers::{Mail, MailTls};

use crate::support::*;

const EMAIL: &str = "[[email]]\nto = [\"ops@example.org\", \"On Call <oncall@example.org>\"]\nfrom = \"utilizer <a@example.com>\"\n\
    smarthost = \"mail.example.org:587\"\nusername = \"u\"\npassword_file = \"key\"\n";

/// Header lines, unfolded, and what stands behind them.
fn split(message: &str) -> (Vec<(String, String)>, &str) {
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in head.split("\r\n") {
        assert!(line.len() <= 998 && !line.contains(['\r', '\n']), "{line:.200}");
        assert!(line.is_ascii(), "{line:.200}");
        match (line.strip_prefix([' ', '\t']), headers.last_mut()) {
            (Some(more), Some((_, value))) => {
                value.push(' ');
                value.push_str(more);
            }
            _ => {
                let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:.200}"));
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    (headers, body)
}

fn get<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    let mut found = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    let value = &found.next().unwrap_or_else(|| panic!("no {name}")).1;
    assert!(found.next().is_none(), "{name} twice");
    value
}

/// Undoes a transfer encoding.
fn decoded(headers: &[(String, String)], body: &str) -> String {
    match get(headers, "Content-Transfer-Encoding") {
        "7bit" => body.to_owned(),
        "base64" => {
            let plain: String = body.split_whitespace().collect();
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(plain).unwrap()).unwrap()
        }
        "quoted-printable" => {
            let mut bytes = Vec::new();
            let joined = body.replace("=\r\n", "");
            let mut rest = joined.as_bytes();
            while let Some((first, after)) = rest.split_first() {
                rest = after;
                if *first == b'=' {
                    let hex = std::str::from_utf8(&rest[..2]).unwrap();
                    bytes.push(u8::from_str_radix(hex, 16).unwrap());
                    rest = &rest[2..];
                } else {
                    bytes.push(*first);
                }
            }
            String::from_utf8(bytes).unwrap()
        }
        other => panic!("encoding {other}"),
    }
}

/// An encoded word of a header (RFC 2047).
fn words(value: &str) -> String {
    let mut bytes = Vec::new();
    for word in value.split(' ') {
        match word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?=")) {
            Some(word) => bytes.extend(base64::engine::general_purpose::STANDARD.decode(word).unwrap()),
            None => {
                bytes.extend((!bytes.is_empty()).then_some(b' '));
                bytes.extend(word.bytes());
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

struct Read {
    headers: Vec<(String, String)>,
    text: String,
    html: Option<String>,
}

fn read(mail: &Mail) -> Read {
    let message = std::str::from_utf8(&mail.message).unwrap();
    let (headers, body) = split(message);
    for line in body.split("\r\n") {
        assert!(line.len() <= 998 && !line.contains(['\r', '\n']), "{line:.200}");
    }
    let names: Vec<String> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    for name in &names {
        let known = [
            "from",
            "to",
            "subject",
            "message-id",
            "references",
            "in-reply-to",
            "date",
            "auto-submitted",
            "mime-version",
            "content-type",
            "content-transfer-encoding",
            "x-team",
        ];
        assert!(known.contains(&name.as_str()), "{name}");
    }
    let kind = get(&headers, "Content-Type");
    let Some(boundary) = kind.strip_prefix("multipart/alternative;") else {
        assert!(kind.starts_with("text/plain"), "{kind}");
        return Read { text: decoded(&headers, body), headers, html: None };
    };
    let boundary = boundary.trim().strip_prefix("boundary=\"").unwrap().strip_suffix('"').unwrap();
    let mut parts: Vec<&str> = body.split(&format!("--{boundary}")).collect();
    assert_eq!(parts.len(), 4, "{body:.300}");
    assert_eq!(parts.pop().unwrap().trim(), "--");
    let part = |text: &str, kind: &str| {
        let (headers, body) = split(text.trim_start_matches("\r\n"));
        assert_eq!(get(&headers, "Content-Type"), kind);
        decoded(&headers, body)
    };
    let (text, html) = (part(parts[1], "text/plain; charset=utf-8"), part(parts[2], "text/html; charset=utf-8"));
    Read { headers, text, html: Some(html) }
}

/// Nothing but our own tags, and no attribute from elsewhere.
fn html(text: &str) {
    const OPEN: &[&str] = &[
        "<!DOCTYPE html>",
        "<html>",
        "<body style=\"font-family:sans-serif\">",
        "<h3>",
        "<p>",
        "<br>",
        "<b>",
        "<tr>",
        "<td>",
        "<table cellpadding=\"2\">",
        "<p style=\"color:#888\">",
    ];
    for (at, _) in text.match_indices('<') {
        let rest = &text[at..];
        let tag = &rest[..=rest.find('>').unwrap()];
        let known = OPEN.contains(&tag)
            || tag.starts_with("</")
            || (tag.starts_with("<h2 style=\"color:#") && tag.len() == 26)
            || ((tag.starts_with("<a href=\"https://runbooks.example/") || tag == "<a href=\"http://web-01:9100\">")
                && tag.matches('"').count() == 2);
        assert!(known, "{tag}");
    }
}

#[test]
fn mails_are_what_they_should_be() {
    let receiver = one(EMAIL);
    for notification in all() {
        let mail = mail(&*receiver, notification);
        assert_eq!(
            (mail.from.as_str(), mail.to.as_slice()),
            ("a@example.com", ["ops@example.org".to_owned(), "oncall@example.org".to_owned()].as_slice())
        );
        assert_eq!((mail.smarthost.as_str(), mail.tls), ("mail.example.org:587", MailTls::Starttls));
        assert!(mail.message.len() < 700_000, "{}", mail.message.len());
        assert!(!format!("{mail:?}").contains(HUSH));
        let read = read(&mail);
        assert!(length(&words(get(&read.headers, "Subject"))) <= 200);
        assert!(!read.text.trim().is_empty());
        html(&read.html.unwrap());
    }
}

#[test]
fn mails_show_what_there_is() {
    let read = read(&mail(&*one(EMAIL), &plain(Reason::Escalation(2), true)));
    assert_eq!(words(get(&read.headers, "Subject")), "[FIRING:1, step 2] HighCPU (web-01)");
    assert_eq!(get(&read.headers, "Message-ID"), "<00112233445566778899aabbccddeeff@example.com>");
    assert_eq!(get(&read.headers, "Date"), "Sun, 22 Nov 2026 11:20:05 +0000");
    assert_eq!(get(&read.headers, "Auto-Submitted"), "auto-generated");
    let html = read.html.unwrap();
    for part in [
        "step 2 of the escalation",
        "HighCPU",
        "critical",
        "CPU above 90 %",
        "web-02",
        "97.33",
        "since 2026-11-22 11:19:05 UTC",
    ] {
        assert!(read.text.contains(part) && html.contains(part), "{part} in {}{html}", read.text);
    }
    assert!(read.text.contains("https://runbooks.example/cpu?a=1&b=2"), "{}", read.text);
    assert!(html.contains("<a href=\"https://runbooks.example/cpu?a=1&amp;b=2\">"), "{html}");
}

#[test]
fn mails_of_a_group_are_a_thread() {
    let receiver = one(EMAIL);
    let thread = |notification: &utilizer_notify::Notification| {
        let read = read(&mail(&*receiver, notification));
        assert_eq!(get(&read.headers, "References"), get(&read.headers, "In-Reply-To"));
        get(&read.headers, "References").to_owned()
    };
    let first = plain(Reason::Alerts, false);
    let mut second = plain(Reason::Alerts, true);
    second.id = "ff".repeat(16);
    let mut other = plain(Reason::Alerts, false);
    other.group_key = "{}:{}".to_owned();
    assert_eq!(thread(&first), thread(&second));
    assert_ne!(thread(&first), thread(&other));
}

#[test]
fn templates_of_mails_hold() {
    let table = format!(
        "{EMAIL}subject = \"{{{{ .CommonLabels.alertname }}}}\\n{{{{ .Status }}}}\"\n\
         text = \"{{{{ range .Alerts }}}}{{{{ .Annotations.summary }}}}\\n{{{{ end }}}}\"\n\
         html = \"<p>{{{{ range .Alerts }}}}{{{{ .Annotations.summary }}}}{{{{ end }}}}</p>\"\n\
         headers = {{ X-Team = \"{{{{ .CommonLabels.note }}}}{{{{ .Receiver }}}}\" }}\n"
    );
    let receiver = one(&table);
    for notification in all() {
        let read = read(&mail(&*receiver, notification));
        html(&read.html.unwrap().replace("</p>…", "</p>"));
    }
    let read_one = read(&mail(&*receiver, &plain(Reason::Alerts, false)));
    assert_eq!(get(&read_one.headers, "Subject"), "HighCPU firing");
    assert_eq!(get(&read_one.headers, "X-Team"), "team");
    let text_alone = read(&mail(&*one(&format!("{EMAIL}text = \"x\"\n")), &plain(Reason::Alerts, false)));
    assert!(text_alone.html.is_none() && text_alone.text.trim_end() == "x");
}
