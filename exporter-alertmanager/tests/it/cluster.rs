//! Two exporters and two Alertmanagers notify once.

use std::time::Duration;

use test_servers::{Alertmanager, Mosquitto, wait_for};

use super::support::{Webhook, active, ago, exporter, names, status, topic};

#[test]
fn two_exporters_and_two_alertmanagers_give_one_notification() {
    let (broker, webhook) = (Mosquitto::start("max_queued_messages 0\n"), Webhook::start());
    let first = Alertmanager::start(&webhook.config(), &[]);
    let second = Alertmanager::start(&webhook.config(), &[&first]);
    let joined = |it: &Alertmanager| it.get("/api/v2/status").body.matches("\"address\"").count() == 2;
    wait_for("the cluster is one", || (joined(&first) && joined(&second)).then_some(()));
    let urls = [&*first.url(), &*second.url()];
    let mut killed = exporter(&broker, &urls, "one", "");
    let other = exporter(&broker, &urls, "two", "");

    // 500 hosts lose their disk at once.
    let fired_at = ago(0);
    let hosts: Vec<String> = (0..500).map(|n| format!("web-{n}")).collect();
    std::thread::scope(|scope| {
        for hosts in hosts.chunks(125) {
            let (broker, fired_at) = (&broker, &fired_at);
            scope.spawn(move || {
                for host in hosts {
                    broker.publish(&topic(host, "alerts/active"), &active(host, &["DiskGone"], fired_at), &["-r"]);
                }
            });
        }
    });
    wait_for("both know all", || (names(&first).len() == 500 && names(&second).len() == 500).then_some(()));

    // One of them is killed, and for a while the other is alone.
    killed.program.kill();
    std::thread::sleep(Duration::from_secs(6));
    let again = exporter(&broker, &urls, "one", "");
    again.program.wait_for("it knows all from what the broker retains", |it| {
        (it.metric("utilizer_exporter_alertmanager_alerts{state=\"firing\"}") == Some(500.0)).then_some(())
    });
    assert_eq!((names(&first).len(), names(&second).len()), (500, 500));
    drop(other);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((names(&first).len(), names(&second).len()), (500, 500));
    let told = webhook.told();
    assert!(told.iter().all(|line| line.starts_with("firing DiskGone×")), "{told:?}");
    // While they still come in, a second one may tell of those that are new; the two never tell the same.
    assert!(told.len() <= 2 && told.last().unwrap() == "firing DiskGone×500", "{told:?}");

    broker.publish(&topic("web-1", "status"), &status("web-1", "online"), &["-r"]);
    broker.publish(&topic("web-1", "alerts/active"), &active("web-1", &[], &fired_at), &["-r"]);
    wait_for("one is over", || (names(&first).len() == 499 && names(&second).len() == 499).then_some(()));
}
