//! Faults in `[notify]` are told with file, line and key, and what to do about them.

use crate::config::{Config, PathSwitches};

/// Behind this, what is given to `load` begins in line 7.
const GOOD: &str = "[notify.route]\nreceiver = \"me\"\n[[notify.receivers]]\nname = \"me\"\n[[notify.receivers.webhook]]\nurl = \"http://h/\"\n";

fn load(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    let loaded = Config::load(Some(&path), &PathSwitches::default(), &[]);
    loaded.map(drop).map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn they_name_file_line_and_key() {
    let alone = [
        ("[notify.rout]\nreceiver = \"me\"\n", "agent.toml:1:9: unknown key notify.rout; did you mean route?"),
        (
            "[notify.route]\nreciever = \"me\"\n",
            "agent.toml:2:1: unknown key notify.route.reciever; did you mean receiver?",
        ),
        (
            "[notify.route]\nreceiver = \"ops\"\n",
            "agent.toml:2:1: notify.route.receiver: there is no receiver \"ops\"; there are: none",
        ),
        (
            "[notify.route]\ngroup_by = [\"a\"]\n",
            "agent.toml:1:9: notify.route.receiver: names nobody; the first route needs a receiver",
        ),
        ("[notify]\ngive_up_after = \"1s\"\n", "agent.toml:2:1: notify.give_up_after: must be at least 1m"),
        ("[notify]\nmax_alerts = 0\n", "agent.toml:2:1: notify.max_alerts: must lie between 1 and 1000"),
    ];
    let behind = [
        (
            "[[notify.receivers.slack]]\nwebhook_url = \"https://h/\"\n",
            "agent.toml:8:1: unknown key notify.receivers[0].slack[0].webhook_url; did you mean webhook_url_file?",
        ),
        (
            "[[notify.receivers.slack]]\nsend_resolved = true\n",
            "agent.toml:7:1: notify.receivers[0].slack[0].webhook_url_file: is missing: name a file whose first line is the \
             webhook's URL",
        ),
        (
            "[[notify.receivers.slack]]\nwebhook_url_file = \"/x\"\nmentions = [\"@here\", \"all\"]\n",
            "agent.toml:9:1: notify.receivers[0].slack[0].mentions[1]: \"all\" is neither",
        ),
        (
            "[[notify.receivers.slack]]\nwebhook_url_file = \"/x\"\ntitle = \"{{ .Status }\"\n",
            "agent.toml:9:9: notify.receivers[0].slack[0].title: line 1, column 12 of the template:",
        ),
        (
            "[[notify.receivers.email]]\nto = [\"nobody\"]\nfrom = \"a@b.org\"\nsmarthost = \"mail:587\"\n",
            "agent.toml:8:1: notify.receivers[0].email[0].to[0]: \"nobody\" is no address",
        ),
        (
            "[[notify.receivers]]\nname = \"me\"\n",
            "agent.toml:8:1: notify.receivers[1].name: there are two receivers \"me\"",
        ),
        (
            "[[notify.receivers.pager]]\nkey = \"x\"\n",
            "agent.toml:7:20: unknown key notify.receivers[0].pager; did you mean pagerduty?",
        ),
        (
            "[[notify.route.routes]]\ngroup_wait = \"soon\"\n",
            "agent.toml:8:14: notify.route.routes[0].group_wait: \"soon\" is not a duration",
        ),
        (
            "[[notify.route.routes]]\nmatchers = [\"severity\"]\n",
            "agent.toml:8:1: notify.route.routes[0].matchers: \"severity\" is no matcher: one of = != =~ !~ is missing",
        ),
        (
            "[[notify.route.routes]]\nbatch = \"15m\"\ngroup_wait = \"1s\"\n",
            "agent.toml:8:1: notify.route.routes[0].batch: stands instead of group_wait and group_interval",
        ),
        (
            "[[notify.route.routes]]\nescalation = \"none\"\n",
            "agent.toml:8:1: notify.route.routes[0].escalation: there is no escalation \"none\"",
        ),
        (
            "[[notify.escalations]]\nname = \"a\"\nsteps = [{ receiver = \"boss\", after = \"5m\" }]\n",
            "agent.toml:9:12: notify.escalations[0].steps[0].receiver: there is no receiver \"boss\"; there are: me",
        ),
        (
            "[[notify.time_intervals]]\nname = \"n\"\n[[notify.time_intervals.time_intervals]]\nlocation = \"Mars/Base\"\n",
            "agent.toml:10:1: notify.time_intervals[0].time_intervals[0].location: the system knows no time zone",
        ),
        (
            "[[notify.inhibit]]\nsource_matchers = ['a=\"b']\ntarget_matchers = [\"c=d\"]\n",
            "agent.toml:8:1: notify.inhibit[0].source_matchers: \"a=\\\"b\" is no matcher: a quote is not closed",
        ),
        (
            "[[notify.silences]]\nmatchers = [\"a=b\"]\nends_at = \"2999-01-01T00:00:00Z\"\ncreated_by = \"me\"\n",
            "agent.toml:7:1: notify.silences[0].comment: is missing: why is it there?",
        ),
        (
            "[[notify.heartbeats]]\nreceiver = \"me\"\nevery = \"0s\"\n",
            "agent.toml:9:1: notify.heartbeats[0].every: must be at least 1s",
        ),
    ];
    load(GOOD).unwrap();
    let all = alone.into_iter().map(|(text, fault)| (text.to_owned(), fault));
    for (text, fault) in all.chain(behind.into_iter().map(|(text, fault)| (format!("{GOOD}{text}"), fault))) {
        let error = load(&text).unwrap_err();
        assert!(
            error.lines().count() == 1 && error.starts_with(fault),
            "{text}\nis told as: {error}\nand not as: {fault}"
        );
    }
}
