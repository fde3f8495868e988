//! Slack, Discord and Teams.

use std::time::Duration;

use serde_json::Value;
use utilizer_notify::Reason;
use utilizer_notify::receivers::Outcome;

use crate::support::*;

const SLACK: &str = "[[slack]]\nwebhook_url_file = \"url\"\nmentions = [\"@here\", \"U012AB\", \"S09\"]\n";
const DISCORD: &str =
    "[[discord]]\nwebhook_url_file = \"url\"\nmentions = [\"@everyone\", \"role:123456789012345678\"]\n";
const TEAMS: &str = "[[teams]]\nwebhook_url_file = \"url\"\n";
const TEMPLATES: &str = "title = \"{{ .CommonLabels.alertname }} {{ .CommonAnnotations.summary }}\"\n\
    text = \"{{ range .Alerts }}*{{ .Labels.alertname }}* {{ .Annotations.description }} {{ .Labels }}\\n{{ end }}\"\n";

/// Block Kit's texts: marked up ones hold nothing that calls or links but what we write ourselves.
fn slack_text(value: &Value, most: usize) {
    only(value, &["type", "text", "verbatim", "emoji"]);
    let text = bounded(&value["text"], 1, most, "a text object");
    match value["type"].as_str() {
        Some("plain_text") => assert!(value.get("verbatim").is_none() && !text.contains('<')),
        Some("mrkdwn") => {
            assert!(value.get("emoji").is_none());
            assert_eq!(value["verbatim"], true);
            for (at, _) in text.match_indices('<') {
                let rest = &text[at..];
                let ours = ["<!date^", "<https://runbooks.example/", "<!here>", "<@U012AB>", "<!subteam^S09>"];
                assert!(ours.iter().any(|ours| rest.starts_with(ours)), "{rest:.60}");
                assert!(rest.contains('>'), "{rest:.60}");
            }
            let calls = text.contains("<!here>");
            assert!(!calls || text == "<!here> <@U012AB> <!subteam^S09>", "{text:.100}");
        }
        other => panic!("text of type {other:?}"),
    }
}

fn slack_blocks(blocks: &Value) -> usize {
    let blocks = blocks.as_array().unwrap();
    for block in blocks {
        match block["type"].as_str() {
            Some("header") => {
                only(block, &["type", "text"]);
                assert_eq!(block["text"]["type"], "plain_text");
                slack_text(&block["text"], 150);
            }
            Some("section") => {
                only(block, &["type", "text", "fields"]);
                if let Some(fields) = block.get("fields") {
                    assert!((1..=10).contains(&fields.as_array().unwrap().len()));
                    fields.as_array().unwrap().iter().for_each(|field| slack_text(field, 2000));
                } else {
                    slack_text(&block["text"], 3000);
                }
            }
            Some("context") => {
                only(block, &["type", "elements"]);
                assert!((1..=10).contains(&block["elements"].as_array().unwrap().len()));
                block["elements"].as_array().unwrap().iter().for_each(|text| slack_text(text, 3000));
            }
            other => panic!("block of type {other:?}"),
        }
    }
    blocks.len()
}

fn slack(message: &Value) {
    only(message, &["text", "mrkdwn", "blocks", "attachments", "channel", "username", "icon_emoji"]);
    let fallback = bounded(&message["text"], 1, 3000, "text");
    assert!(!fallback.contains('<') && message["mrkdwn"] == false);
    let mut blocks = slack_blocks(&message["blocks"]);
    for attachment in message["attachments"].as_array().unwrap() {
        only(attachment, &["color", "blocks"]);
        let colour = text(&attachment["color"], "color");
        assert!(colour.len() == 7 && colour.starts_with('#'));
        blocks += slack_blocks(&attachment["blocks"]);
    }
    assert!((1..=50).contains(&blocks), "{blocks} blocks");
    assert!(message.to_string().len() < 100_000, "{} bytes", message.to_string().len());
}

#[test]
fn slack_takes_whatever_comes() {
    for table in [SLACK.to_owned(), format!("{SLACK}{TEMPLATES}channel = \"#ops\"\nusername = \"u\"\n")] {
        let slack_receiver = one(&table);
        for notification in all() {
            slack(&json(&*slack_receiver, notification));
        }
    }
}

#[test]
fn slack_shows_an_alert_of_which_there_is_much_to_say() {
    let wide = "w".repeat(900);
    let runbook = format!("https://runbooks.example/{wide}");
    let mut long = high_cpu("web-01", false);
    for name in ["summary", "description", "runbook_url"] {
        let text = if name == "runbook_url" { runbook.clone() } else { format!("{name} {wide}") };
        long.annotations.insert(name.to_owned(), text);
    }
    for label in ["a", "b", "c", "d", "severity", "alertname"] {
        long.labels.insert(label.to_owned(), wide.clone());
    }
    let message = json(&*one(SLACK), &notification(Reason::Alerts, vec![long, high_cpu("web-02", false)]));
    slack(&message);
    let said = message.to_string();
    assert!(said.contains("summary www") && said.contains("web-02") && !said.contains("more alert"), "{said}");
}

#[test]
fn slack_shows_what_there_is() {
    let message = json(&*one(SLACK), &plain(Reason::Escalation(2), true));
    let said = message.to_string();
    for part in [
        "[FIRING:1, step 2] HighCPU (web-01)",
        "step 2 of the escalation",
        "*Environment*\\nproduction",
        "*Severity*\\ncritical",
        "*HighCPU* · critical · firing",
        "*HighCPU* · critical · resolved",
        "CPU above 90 %",
        "The CPU is at 97 %.",
        "since 2026-11-22 11:19:05 UTC · value 97.33",
        "instance=web-02",
        "<https://runbooks.example/cpu?a=1&amp;b=2|Runbook>",
        "<!here> <@U012AB> <!subteam^S09>",
        "00112233445566778899aabbccddeeff",
        "#d32f2f",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // Nobody is called for what is over.
    let over = json(&*one(SLACK), &notification(Reason::Alerts, vec![high_cpu("web-01", true)]));
    assert!(!over.to_string().contains("<!here>") && over.to_string().contains("[RESOLVED] HighCPU (web-01)"));
    let many = (0..1000).map(|at| high_cpu(&format!("web-{at}"), false)).collect();
    let said = json(&*one(SLACK), &notification(Reason::Digest, many)).to_string();
    assert!(said.contains("[DIGEST:1000] HighCPU") && said.contains(" more alerts"), "{said}");
}

#[test]
fn slacks_answers_are_understood() {
    let slack = one(SLACK);
    assert_eq!(slack.outcome(&answer(200, "ok")), Outcome::Sent);
    for (status, body) in [
        (400, "invalid_payload"),
        (403, "action_prohibited"),
        (404, "no_service"),
        (404, "channel_not_found"),
        (410, "channel_is_archived"),
        (400, "user_not_found"),
        (200, "no_text"),
    ] {
        let why = refused(slack.outcome(&answer(status, body)));
        assert!(why.contains(body), "{why}");
    }
    let why = refused(slack.outcome(&answer(400, HUSH)));
    assert!(!why.contains(HUSH));
    let mut limited = answer(429, "rate_limited");
    limited.retry_after = Some(Duration::from_secs(30));
    assert_eq!(later(slack.outcome(&limited)), Some(Duration::from_secs(30)));
    assert_eq!(later(slack.outcome(&answer(500, "rollup_error"))), None);
}

fn discord(message: &Value) {
    only(message, &["content", "username", "avatar_url", "embeds", "allowed_mentions"]);
    if let Some(content) = message.get("content") {
        bounded(content, 1, 2000, "content");
        assert_eq!(content, "@everyone <@&123456789012345678>");
        assert_eq!(message["allowed_mentions"]["parse"], serde_json::json!(["everyone"]));
    } else {
        assert_eq!(message["allowed_mentions"]["parse"], serde_json::json!([]));
    }
    let embeds = message["embeds"].as_array().unwrap();
    assert!((1..=10).contains(&embeds.len()));
    let mut all = 0;
    let mut count = |value: &Value, least, most, what| {
        let text = bounded(value, least, most, what);
        all += length(text);
        // Neither calls nor links but ours.
        for (at, _) in text.match_indices('@') {
            assert!(text[at..].starts_with("@\u{200b}"), "{what}: {:.60}", &text[at..]);
        }
        for (at, _) in text.match_indices("](") {
            assert!(
                text[..at].ends_with('\\') || text[at..].starts_with("](https://runbooks.example/"),
                "{what}: {:.60}",
                &text[at..]
            );
        }
    };
    for embed in embeds {
        only(embed, &["title", "description", "color", "fields", "timestamp", "footer"]);
        count(&embed["title"], 1, 256, "title");
        count(&embed["description"], 0, 4096, "description");
        assert!(embed["color"].as_u64().unwrap() <= 0x00ff_ffff);
        let fields = embed["fields"].as_array().unwrap();
        assert!(fields.len() <= 25);
        for field in fields {
            only(field, &["name", "value", "inline"]);
            count(&field["name"], 1, 256, "name");
            count(&field["value"], 1, 1024, "value");
        }
        if let Some(footer) = embed.get("footer") {
            count(&footer["text"], 1, 2048, "footer");
        }
    }
    assert!(all <= 6000, "{all} characters");
}

#[test]
fn discord_takes_whatever_comes() {
    for table in [DISCORD.to_owned(), format!("{DISCORD}{TEMPLATES}")] {
        let receiver = one(&table);
        for notification in all() {
            discord(&json(&*receiver, notification));
        }
    }
}

#[test]
fn discord_shows_what_there_is() {
    let message = json(&*one(DISCORD), &notification(Reason::Alerts, vec![high_cpu("web-01", false)]));
    let embed = &message["embeds"][0];
    let fields: Vec<(&str, &str)> = embed["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["name"].as_str().unwrap(), field["value"].as_str().unwrap()))
        .collect();
    assert_eq!(fields, [("Environment", "production"), ("Severity", "critical"), ("Instance", "web-01")]);
    assert_eq!(embed["title"], "\\[FIRING:1\\] HighCPU (web-01)");
    assert!(embed["description"].as_str().unwrap().contains("[Runbook](https://runbooks.example/cpu?a=1&b=2)"));
    assert!(embed["footer"]["text"].as_str().unwrap().contains("00112233445566778899aabbccddeeff"));
    assert_eq!(message["content"], "@everyone <@&123456789012345678>");
    assert_eq!(message["allowed_mentions"]["roles"][0], "123456789012345678");
    let two = json(&*one(DISCORD), &plain(Reason::Alerts, true));
    assert_eq!(two["embeds"].as_array().unwrap().len(), 3);
    assert_eq!(two["embeds"][2]["title"], "resolved: HighCPU");
    let many = (0..1000).map(|at| high_cpu(&format!("web-{at}"), false)).collect();
    let said = json(&*one(DISCORD), &notification(Reason::Alerts, many)).to_string();
    assert!(said.contains(" more alerts"), "{said}");
}

#[test]
fn discords_answers_are_understood() {
    let discord = one(DISCORD);
    assert_eq!(discord.outcome(&answer(204, "")), Outcome::Sent);
    let limited = r#"{"message": "You are being rate limited.", "retry_after": 1.337, "global": false}"#;
    assert_eq!(later(discord.outcome(&answer(429, limited))), Some(Duration::from_millis(1337)));
    for broken in ["", "{}", "{\"retry_after\": -1}", "{\"retry_after\": 1e300}", "{\"retry_after\": null}"] {
        assert_eq!(later(discord.outcome(&answer(429, broken))), None, "{broken}");
    }
    assert!(refused(discord.outcome(&answer(404, "{\"code\": 10015}"))).contains("webhook does not exist"));
    refused(discord.outcome(&answer(400, "{}")));
    later(discord.outcome(&answer(502, "")));
}

/// Adaptive Cards 1.4, as far as we use them.
fn element(element: &Value) {
    match element["type"].as_str() {
        Some("RichTextBlock") => {
            only(element, &["type", "inlines"]);
            for inline in element["inlines"].as_array().unwrap() {
                only(inline, &["type", "text", "weight", "size", "color", "isSubtle"]);
                assert_eq!(inline["type"], "TextRun");
                bounded(&inline["text"], 1, 5000, "a run");
                let among = |key: &str, known: &[&str]| {
                    inline.get(key).is_none_or(|value| known.contains(&value.as_str().unwrap()))
                };
                assert!(among("weight", &["Default", "Lighter", "Bolder"]));
                assert!(among("size", &["Default", "Small", "Medium", "Large", "ExtraLarge"]));
                assert!(among("color", &["Default", "Dark", "Light", "Accent", "Good", "Warning", "Attention"]));
            }
        }
        Some("TextBlock") => {
            only(element, &["type", "text", "wrap"]);
            let text = text(&element["text"], "text");
            assert!(!text.contains("](") && !text.contains("<at>"), "{text:.100}");
        }
        Some("Container") => {
            only(element, &["type", "separator", "spacing", "items"]);
            assert!(!element["items"].as_array().unwrap().is_empty());
            element["items"].as_array().unwrap().iter().for_each(self::element);
        }
        other => panic!("element of type {other:?}"),
    }
}

fn teams(message: &Value) {
    assert!(message.to_string().len() <= 28 * 1000, "{} bytes", message.to_string().len());
    only(message, &["type", "attachments"]);
    assert_eq!(message["type"], "message");
    let attachments = message["attachments"].as_array().unwrap();
    assert_eq!(attachments.len(), 1);
    let attachment = &attachments[0];
    only(attachment, &["contentType", "contentUrl", "content"]);
    assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(attachment["contentUrl"], Value::Null);
    let card = &attachment["content"];
    only(card, &["$schema", "type", "version", "speak", "fallbackText", "msteams", "body", "actions"]);
    assert_eq!((card["type"].as_str(), card["version"].as_str()), (Some("AdaptiveCard"), Some("1.4")));
    card["body"].as_array().unwrap().iter().for_each(element);
    let actions = card["actions"].as_array().unwrap();
    assert!(actions.len() <= 6);
    for action in actions {
        only(action, &["type", "title", "url"]);
        assert_eq!(action["type"], "Action.OpenUrl");
        let url = text(&action["url"], "url");
        assert!(url.starts_with("https://runbooks.example/") || url == "http://web-01:9100", "{url}");
    }
}

#[test]
fn teams_takes_whatever_comes() {
    for table in [TEAMS.to_owned(), format!("{TEAMS}{TEMPLATES}")] {
        let receiver = one(&table);
        for notification in all() {
            teams(&json(&*receiver, notification));
        }
    }
}

#[test]
fn teams_shows_what_there_is() {
    let said = json(&*one(TEAMS), &plain(Reason::Summary, true)).to_string();
    for part in [
        "[SUMMARY:2] HighCPU",
        "could not be reached for a while",
        "HighCPU · critical · firing",
        "HighCPU · critical · resolved",
        "Environment: production",
        "instance=web-02",
        "Runbook: HighCPU",
        "00112233445566778899aabbccddeeff",
        "Attention",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn teams_answers_are_understood() {
    let teams = one(TEAMS);
    assert_eq!(teams.outcome(&answer(202, "")), Outcome::Sent);
    assert_eq!(teams.outcome(&answer(200, "1")), Outcome::Sent);
    let failed = |code| {
        format!(
            "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {code} with ContextId x"
        )
    };
    later(teams.outcome(&answer(200, &failed(429))));
    refused(teams.outcome(&answer(200, &failed(413))));
    assert!(refused(teams.outcome(&answer(404, ""))).contains("workflow"));
    later(teams.outcome(&answer(502, "")));
}
