//! SIGHUP, and files that hold targets.

use super::pages::Pages;
use super::{ALL, Files, becomes, query, tables_of};

#[test]
fn a_reload_keeps_the_series_of_targets_that_stay() {
    let (stays, goes, comes) = (Pages::text("app_x 1\n"), Pages::text("app_x 2\n"), Pages::text("app_x 3\n"));
    let files = Files::new(ALL);
    let table = |targets: [&Pages; 2], keys: &str| {
        let [a, b] = targets.map(Pages::place);
        format!("[[scrape]]\njob = 'app'\ntargets = ['{a}', '{b}']\ninterval = '200ms'\n{keys}")
    };
    let setup = files.setup(&table([&stays, &goes], ""));
    let agent = setup.start();
    becomes(&agent, "app_x", &[1.0, 2.0]);
    let counted = format!("count_over_time(app_x{{instance=\"{}\"}}[5m])", stays.place());
    let count = || query(&agent, &counted).into_values().next().unwrap_or_default();
    test_servers::wait_for("some scrapes", || (count() >= 5.0).then_some(()));

    agent.reload(&setup.clone().set("scrape", tables_of(&table([&stays, &comes], "sample_limit = 10"))));
    becomes(&agent, "app_x", &[1.0, 3.0]);
    assert!(count() >= 5.0, "its samples are there");
    becomes(&agent, &format!("up{{instance=\"{}\"}}", goes.place()), &[]);
    let before = count();
    test_servers::wait_for("it goes on", || (count() > before).then_some(()));
    agent.metric_becomes("utilizer_agent_scrape_targets{health=\"up\",job=\"app\"}", |count| count == 2.0);

    // A faulty file changes nothing.
    agent.reload(&setup.clone().set("scrape", tables_of("[[scrape]]\njob = 'app'\n")));
    agent.says("scrape[0].targets: is empty");
    becomes(&agent, "app_x", &[1.0, 3.0]);
    // Without targets nothing is left.
    agent.reload(&setup.set("scrape", toml::Value::Array(Vec::new())));
    becomes(&agent, "{job=\"app\"}", &[]);
}

#[test]
fn target_files_are_taken_up_as_they_change() {
    let (one, two) = (Pages::text("app_x 1\n"), Pages::text("app_x 2\n"));
    let files = Files::new(ALL);
    let write = |text: String| {
        std::fs::write(files.path("new"), text).unwrap();
        std::fs::rename(files.path("new"), files.path("targets.json")).unwrap();
    };
    let group = |pages: &Pages| format!("{{\"targets\": [\"{}\"], \"labels\": {{\"zone\": \"z\"}}}}", pages.place());
    write(format!("[{}]", group(&one)));
    let table = format!("[[scrape]]\njob = 'app'\ntarget_files = ['{}']\ninterval = '200ms'", files.path("*.json"));
    let agent = files.setup(&table).start();
    becomes(&agent, "app_x{zone=\"z\"}", &[1.0]);
    write(format!("[{}, {}]", group(&one), group(&two)));
    becomes(&agent, "app_x", &[1.0, 2.0]);
    write("[{\"targets\": [\"a/b\"]}]".to_owned());
    becomes(&agent, "app_x", &[]);
    agent.says("\"a/b\" is no HOST:PORT");
    agent.metric_becomes("utilizer_agent_scrape_file_faults", |count| count == 1.0);
}
