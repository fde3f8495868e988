//! What rules and records get of what is scraped.

use std::path::Path;

use serde_json::{Value, json};
use test_servers::Mosquitto;

use super::pages::{Page, Pages};
use super::{ALL, Files, becomes, query, tables_of};
use crate::binary::rules::transitions;
use crate::binary::support::{Setup, Watch};

const RULES: &str = r#"
- name: app
  rules:
  - {alert: Down, expr: 'up{job="shop"} == 0', labels: {severity: page}}
  - {alert: Errors, expr: 'shop_errors / shop_requests > 0.1'}
  - {record: 'shop:left', expr: 'shop_left'}
"#;

fn published(message: &Value) -> Option<Vec<Value>> {
    let families = message["families"].as_array()?.iter().filter(|family| family["scraped"] == true);
    Some(families.cloned().collect())
}

#[test]
fn scraped_series_feed_rules_and_the_hosts_record() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let files = Files::new(RULES);
    let shop = "# TYPE shop_requests counter\nshop_requests{path=\"/\"} 100\nshop_errors{path=\"/\"} 5\nshop_left 3\n";
    let pages = Pages::text(&format!("{shop}shop_quantile NaN\nshop_unseen 1\n"));
    let place = pages.place();
    let table = format!(
        "[[scrape]]\njob = 'shop'\ntargets = ['{place}']\nlabels = {{ env = 'p' }}\ninterval = '200ms'\n\
         metric_relabel_configs = [{{ source_labels = ['__name__'], regex = 'shop_unseen', action = 'drop' }}]"
    );
    let agent = Setup::with_broker(&broker.url())
        .set("rules.files", vec![files.path("rules.yml")])
        .set("rules.interval", "100ms")
        .set("publish.include", vec!["shop_*", "up"])
        .set("scrape", tables_of(&table))
        .start();

    let families = watch.wait("metrics", "a record with what was scraped", |all| {
        published(all.last()?).filter(|families| families.len() == 4)
    });
    let labels = json!({"env": "p", "instance": place, "job": "shop", "path": "/"});
    let expected = json!({
        "name": "shop_requests", "type": "counter", "scraped": true, "samples": [{"labels": labels, "value": 100.0}],
    });
    assert_eq!(families[2], expected);
    let names: Vec<_> = families.iter().map(|family| family["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop_errors", "shop_left", "shop_requests", "up"]);
    becomes(&agent, "shop_left", &[3.0]);
    agent.metric_becomes(&format!("shop:left{{env=\"p\",instance=\"{place}\",job=\"shop\"}}"), |value| value == 3.0);
    assert!(!agent.get("/metrics").body.contains("shop_requests"), "the agent's own page has its own");
    assert_eq!(query(&agent, "count(up)").into_values().collect::<Vec<_>>(), [2.0], "the host's and the target's");

    pages.becomes("shop_requests{path=\"/\"} 100\nshop_errors{path=\"/\"} 50\n");
    let fired =
        watch.wait("alerts", "Errors fires", |all| all.iter().find(|alert| alert["state"] == "firing").cloned());
    let labels = json!({"alertname": "Errors", "env": "p", "instance": place, "job": "shop", "path": "/"});
    assert_eq!((&fired["alert"]["labels"], &fired["alert"]["value"]), (&labels, &json!(0.5)));
    // It is gone as soon as a page does not have it.
    becomes(&agent, "shop_left", &[]);

    drop(pages);
    let down = |all: &[Value]| all.iter().find(|alert| alert["alert"]["labels"]["alertname"] == "Down").cloned();
    let fired = watch.wait("alerts", "Down fires", down);
    assert_eq!(fired["alert"]["labels"]["instance"], json!(place));
    becomes(&agent, "shop_requests", &[]);
    watch.wait("metrics", "a record without what is down", |all| {
        let families = published(all.last()?)?;
        (families.len() == 1 && families[0]["name"] == "up" && families[0]["samples"][0]["value"] == 0.0).then_some(())
    });
    test_servers::wait_for("Errors is over, with its series", || {
        transitions(&watch, "resolved")
            .iter()
            .any(|alert| alert["alert"]["labels"]["alertname"] == "Errors")
            .then_some(())
    });
}

#[test]
fn more_than_a_record_holds_is_counted() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let many: String = (0..50).map(|at| format!("app_many{{x=\"{at}\"}} 1\n")).collect();
    let pages = Pages::text(&many);
    let table = format!("[[scrape]]\njob = 'app'\ntargets = ['{}']\ninterval = '200ms'", pages.place());
    let agent = Setup::with_broker(&broker.url())
        .set("rules.files", toml::Value::Array(Vec::new()))
        .set("publish.include", vec!["app_*"])
        .set("publish.max_scraped", 20)
        .set("scrape", tables_of(&table))
        .start();
    watch.wait("metrics", "20 samples", |all| {
        let families = published(all.last()?)?;
        (families.first()?["samples"].as_array()?.len() == 20).then_some(())
    });
    agent.metric_becomes("utilizer_agent_scrape_unpublished_total", |count| count >= 30.0);
    agent.says("30 scraped samples are not published: publish.max_scraped is 20");
}

/// The users' own rules and metrics, where they are at hand.
#[test]
fn the_documents_rules_hold_over_scraped_metrics() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    let read = |name: &str| std::fs::read_to_string(fixtures.join(name));
    let (Ok(rules), Ok(daytrade), Ok(aisemble)) =
        (read("autoforge-rules.yml"), read("daytrade-metrics.tsv"), read("aisemble-metrics.txt"))
    else {
        return;
    };
    // As they are, but for the minutes that each has to hold.
    let rules: String = rules
        .lines()
        .map(|line| if line.trim_start().starts_with("for:") { String::new() } else { format!("{line}\n") })
        .collect();
    let rules = rules.split_once("groups:").unwrap().1.to_owned()
        + "  - {name: up, rules: [{alert: ServiceDown, expr: 'up == 0'}]}\n";
    let histogram = |name: &str, slow: u32| {
        let buckets = [("0.1", 0), ("0.5", 10), ("1.0", 10), ("2.5", 10 + slow), ("+Inf", 10 + slow)];
        let buckets = buckets.map(|(le, count)| format!("{name}_bucket{{le=\"{le}\"}} {count}\n")).concat();
        format!("# TYPE {name} histogram\n{buckets}{name}_sum 1\n{name}_count {}\n", 10 + slow)
    };
    let busy = format!(
        "sqlalchemy_pool_checked_out 9\nsqlalchemy_pool_size 10\n{}{}",
        histogram("turso_query_duration_seconds", 10),
        histogram("http_request_duration_seconds", 10)
    );
    let names = |text: &str, skip: usize| -> Vec<String> {
        text.lines().skip(skip).filter_map(|line| line.split('\t').next()).map(str::to_owned).collect()
    };
    let mut names = [names(&daytrade, 1), names(&aisemble, 0)].concat();
    names.retain(|name| !name.is_empty() && !name.starts_with("node_"));
    names.sort();
    let metrics: String = names.iter().map(|name| format!("{name} 0.5\n")).collect();
    let (backend, apps) = (Pages::text(&busy), Pages::text(&metrics));
    let tables = format!(
        "[[scrape]]\njob = 'autoforge-backend'\ntargets = ['{}']\ninterval = '200ms'\n\
         [[scrape]]\njob = 'apps'\ntargets = ['{}']\ninterval = '200ms'\n\
         [[scrape]]\njob = 'gone'\ntargets = ['127.0.0.1:{}']\ninterval = '200ms'",
        backend.place(),
        apps.place(),
        test_servers::free_port()
    );
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let files = Files::new(&rules);
    let agent = Setup::with_broker(&broker.url())
        .set("rules.files", vec![files.path("rules.yml")])
        .set("rules.interval", "100ms")
        .set("publish.include", names.clone())
        .set("scrape", tables_of(&tables))
        .start();
    watch.wait("metrics", "every metric of the documents", |all| {
        let families = published(all.last()?)?;
        let found: Vec<&str> = families.iter().filter_map(|family| family["name"].as_str()).collect();
        (found == names).then_some(())
    });
    for (alert, job, value) in [
        ("DatabaseConnectionHigh", "autoforge-backend", 0.9),
        ("DatabaseQuerySlow", "autoforge-backend", 2.35),
        ("APIResponseSlow", "autoforge-backend", 2.35),
        ("ServiceDown", "gone", 0.0),
    ] {
        let found = watch.wait("alerts", alert, |all| {
            all.iter().map(|record| &record["alert"]).find(|found| found["labels"]["alertname"] == alert).cloned()
        });
        assert_eq!(found["labels"]["job"], job, "{found}");
        assert!((found["value"].as_f64().unwrap() - value).abs() < 1e-9, "{found}");
    }
    let text = &watch
        .payloads("alerts")
        .into_iter()
        .find(|record| record["alert"]["labels"]["alertname"] == "DatabaseConnectionHigh");
    assert_eq!(text.as_ref().unwrap()["alert"]["annotations"]["description"], "Connection pool is 90% full");
    agent.metric_becomes("utilizer_agent_scrape_targets{health=\"down\",job=\"gone\"}", |count| count == 1.0);
}

#[test]
fn credentials_stay_with_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (password, key) = (file("password", "hush-pw\n"), file("key", "hush-key\n"));
    let has = |lines: &[String], part: &str| lines.iter().any(|line| line.to_ascii_lowercase().contains(part));
    // Tells what it heard, for whoever was sent on to it.
    let other = Pages::with(move |lines| {
        let secrets = ["authorization", "hush", "x-scope"].iter().filter(|part| has(lines, part)).count();
        Page::Classic(format!("app_secrets_told {secrets}\n"))
    });
    let to =
        format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{}/x\r\ncontent-length: 0\r\n\r\n", other.place());
    let target = Pages::with(move |lines| match lines[0].as_str() {
        "GET /metrics?a=1 HTTP/1.1" => {
            Page::Raw(b"HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n".to_vec())
        }
        // user:hush-pw
        "GET /there HTTP/1.1"
            if has(lines, "authorization: basic dxnlcjpodxnolxb3")
                && has(lines, "x-api-key: hush-key")
                && has(lines, "x-scope: shop") =>
        {
            Page::Raw(to.clone().into_bytes())
        }
        line => Page::Classic(format!("app_wrong{{line={line:?}}} 1\n")),
    });
    let table = format!(
        "[[scrape]]\njob = 'app'\ntargets = ['{}']\ninterval = '200ms'\nusername = 'user'\npassword_file = '{password}'\n\
         headers = {{ 'X-Scope' = 'shop' }}\nheader_files = {{ 'X-Api-Key' = '{key}' }}\nparams = {{ a = ['1'] }}",
        target.place()
    );
    let files = Files::new(ALL);
    let agent = files.setup(&table).start();
    becomes(&agent, "{__name__=~\"app_.*\"}", &[0.0]);
    assert!(!agent.log().contains("hush") && !agent.get("/").body.contains("hush"));
}
