//! Text messages through gateways.

use serde_json::{Value, json};
use utilizer_notify::Reason;

use crate::support::*;

const SMS: &str =
    "[[sms]]\nurl = \"https://sms.example/send\"\nto = [\"+4912345\", \"+4967890\"]\nfrom = \"utilizer\"\n";

/// What a text message takes: a sign outside of GSM's alphabet makes all of them cost two bytes.
fn fits(text: &str, parts: usize) {
    const BESIDE_ASCII: &str = "£¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà€";
    let gsm = text.chars().all(|c| (c.is_ascii_graphic() && c != '`') || c == ' ' || BESIDE_ASCII.contains(c));
    let twice = text.matches(['^', '{', '}', '\\', '[', '~', ']', '|', '€']).count();
    let (length, one, several) = if gsm { (text.chars().count() + twice, 160, 153) } else { (length(text), 70, 67) };
    assert!(length <= if parts > 1 { several * parts } else { one }, "{length} {text}");
    assert!(!text.is_empty() && !text.contains(['\n', '\r']));
}

#[test]
fn messages_fit() {
    for parts in [1, 3] {
        let receiver = one(&format!("{SMS}parts = {parts}\n"));
        assert!(!receiver.send_resolved());
        for notification in all() {
            let body = json(&*receiver, notification);
            only(&body, &["to", "from", "text"]);
            assert_eq!(body["to"], json!(["+4912345", "+4967890"]));
            fits(text(&body["text"], "text"), parts);
        }
    }
    let body = json(&*one(SMS), &plain(Reason::Escalation(3), false));
    let said = text(&body["text"], "text");
    assert!(said.starts_with("[FIRING:2, step 3] HighCPU (web-01) Nobody has acknowledged"), "{said}");
}

#[test]
fn requests_are_templates() {
    let form = "[[sms]]\nurl = \"https://sms.example/{{ .Secret }}?to={{ join \\\",\\\" .To | urlquery }}\"\nmethod = \"PUT\"\n\
        content_type = \"application/x-www-form-urlencoded\"\nbody = \"key={{ .Secret }}&text={{ urlquery .Text }}\"\n\
        headers = { X-Key = \"{{ .Secret }}\", X-Id = \"{{ .Id }}\" }\nsecret_file = \"key\"\nto = [\"+49 1\", \"2\"]\n\
        text = \"{{ .CommonLabels.alertname }} {{ .CommonAnnotations.summary }}\"\n";
    let receiver = one(form);
    for notification in all() {
        let call = http(&*receiver, notification);
        assert_eq!(call.url.expose(), format!("https://sms.example/{HUSH}?to=%2B49+1%2C2"));
        let body = String::from_utf8(call.body.clone()).unwrap();
        let rest = body.strip_prefix(&format!("key={HUSH}&text=")).unwrap();
        assert!(rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~+%".contains(&b)), "{rest:.200}");
        assert_eq!(header(&call, "X-Key"), Some(HUSH));
        assert_eq!(header(&call, "Idempotency-Key"), Some(notification.id.as_str()));
    }
    let body = "[[sms]]\nurl = \"https://sms.example\"\nto = [\"1\"]\n\
        body = \"{\\\"m\\\": {{ .Text | toJson }}, \\\"labels\\\": {{ .CommonLabels | toJson }}, \\\"to\\\": {{ .To | toJson }}}\"\n";
    for notification in all().iter().filter(|notification| notification.common_labels().iter().len() < 10) {
        let call = http(&*one(body), notification);
        let value: Value = serde_json::from_slice(&call.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&call.body)));
        assert_eq!(value["to"], json!(["1"]));
        fits(text(&value["m"], "m"), 1);
    }
    let get = http(&*one("[[sms]]\nurl_file = \"url\"\nmethod = \"GET\"\n"), &plain(Reason::Alerts, false));
    assert!(get.body.is_empty() && get.method == "GET" && header(&get, "Content-Type").is_none());
}

#[test]
fn what_fails_says_no_secret() {
    let broken = "[[sms]]\nurl = \"https://sms.example\"\nto = [\"1\"]\nsecret_file = \"key\"\n\
        body = \"{{ reReplaceAll (print \\\"(\\\" .Secret) \\\"\\\" \\\"\\\" }}\"\n";
    let error = one(broken).call(&plain(Reason::Alerts, false), time(), &secrets).unwrap_err();
    assert!(!error.contains(HUSH) && error.contains("body"), "{error}");
    let spaces = "[[sms]]\nurl = \"https://sms.example/{{ .Text }}\"\nto = [\"1\"]\n";
    let error = one(spaces).call(&plain(Reason::Alerts, false), time(), &secrets).unwrap_err();
    assert!(error.contains("urlquery"), "{error}");
}
