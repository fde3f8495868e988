//! Mails, to a real SMTP server over STARTTLS with a login.

use serde_json::json;
use test_servers::{Smtp, free_port, wait_for};

use super::super::web::Keys;
use super::{QUICK, SECRET, Scene};

const USER: &str = "utilizer";

fn series(what: &str) -> String {
    format!(r#"utilizer_notify_{what}{{receiver="ops",integration="email",number="0"}}"#)
}

/// A route to one mail receiver, its password in a file.
fn notify(scene: &Scene, keys: &Keys, port: u16, password: &str) -> String {
    let file = scene.secret("password", password);
    format!(
        "[route]\nreceiver = 'ops'\n{QUICK}[[receivers]]\nname = 'ops'\n[[receivers.email]]\n\
         to = ['Ops <ops@example.org>', 'chief@example.org']\nfrom = 'utilizer@example.org'\n\
         smarthost = '127.0.0.1:{port}'\nca_file = '{}'\nusername = '{USER}'\npassword_file = '{file}'\n\
         send_resolved = true\nheaders = {{ X-Unit = '{{{{ .CommonLabels.unit }}}}' }}\n",
        keys.text("ca.pem")
    )
}

fn server(keys: &Keys, port: u16, who: &str, password: &str) -> Smtp {
    let files = [keys.text(&format!("{who}.pem")), keys.text(&format!("{who}.key"))];
    Smtp::on(port, Some([&files[0], &files[1]]), USER, password)
}

#[test]
fn a_mail_goes_over_starttls_with_a_login_and_reads_well() {
    let (scene, keys, port) = (Scene::new(), Keys::new(), free_port());
    let password = format!("{SECRET}-pass wörd");
    let server = server(&keys, port, "server", &password);
    let agent = scene.setup(&notify(&scene, &keys, port, &password)).start();
    scene.down(&["a", "<b>ä"]);
    let mails = wait_for("two mails", || Some(server.mails()).filter(|mails| mails.len() == 2));
    let of = |unit: &str| mails.iter().find(|mail| mail["headers"]["x-unit"] == unit).cloned();
    let (mail, other) = (of("a").unwrap_or_else(|| panic!("{mails:?}")), of("<b>ä").unwrap());
    assert_eq!((&mail["user"], &mail["encrypted"]), (&json!(USER), &json!(true)));
    assert_eq!(mail["sender"], "utilizer@example.org");
    assert_eq!(mail["recipients"], json!(["ops@example.org", "chief@example.org"]));
    assert_eq!(mail["defects"], json!([]));
    assert!(mail["longest"].as_u64().unwrap() <= 998, "{mail}");
    let headers = &mail["headers"];
    assert_eq!(
        (&headers["from"], &headers["to"]),
        (&json!("utilizer@example.org"), &json!("Ops <ops@example.org>, chief@example.org"))
    );
    assert_eq!(headers["auto-submitted"], "auto-generated");
    let subject = headers["subject"].as_str().unwrap();
    assert!(subject.contains("FIRING") && subject.contains("Down"), "{subject}");
    assert!(headers["date"].as_str().is_some() && headers["message-id"].as_str().is_some(), "{headers}");
    assert!(mail["parts"]["text/plain"].as_str().unwrap().contains("a is down"), "{mail}");
    assert!(mail["parts"]["text/html"].as_str().unwrap().contains("a is down"), "{mail}");
    assert!(other["parts"]["text/plain"].as_str().unwrap().contains("<b>ä is down"), "{other}");
    assert!(other["parts"]["text/html"].as_str().unwrap().contains("&lt;b&gt;ä is down"), "{other}");

    scene.down::<&str>(&["<b>ä"]);
    let over = wait_for("its end", || server.mails().into_iter().nth(2));
    assert!(over["headers"]["subject"].as_str().unwrap().contains("RESOLVED"), "{over}");
    // Mail programs put both together.
    let thread = |mail: &serde_json::Value| mail["headers"]["references"].clone();
    assert_eq!(thread(&over), thread(&mail));
    assert_ne!(over["headers"]["message-id"], mail["headers"]["message-id"]);
    agent.metric_becomes(&series("sent_total"), |sent| sent == 3.0);
    scene.hides_secrets(&agent);
}

#[test]
fn a_wrong_password_is_tried_again_until_it_is_put_right() {
    let (scene, keys, port) = (Scene::new(), Keys::new(), free_port());
    let right = format!("{SECRET}-right");
    let server = server(&keys, port, "server", &right);
    let agent = scene.setup(&notify(&scene, &keys, port, &format!("{SECRET}-wrong"))).start();
    scene.down(&["a"]);
    agent.says(&format!("a notification did not reach ops/email/0: 127.0.0.1:{port} refuses user and password (535)"));
    assert!(server.mails().is_empty());
    // No restart: the file is read each time.
    scene.secret("password", &right);
    wait_for("the mail", || server.mails().into_iter().next());
    assert!(server.logins().starts_with(&[false]), "{:?}", server.logins());
    agent.metric_becomes(&series("sent_total"), |sent| sent == 1.0);
    scene.hides_secrets(&agent);
}

#[test]
fn without_starttls_or_by_another_server_no_mail_and_no_password_goes_out() {
    let (scene, keys, port) = (Scene::new(), Keys::new(), free_port());
    let password = format!("{SECRET}-pass");
    let agent = scene.setup(&notify(&scene, &keys, port, &password)).start();
    scene.down(&["a"]);
    agent.says(&format!("a notification did not reach ops/email/0: 127.0.0.1:{port}: "));
    let tried = |server: &Smtp| {
        let retries = agent.metric(&series("retries_total")).unwrap_or_default();
        agent.metric_becomes(&series("retries_total"), |now| now >= retries + 1.0);
        assert!(server.mails().is_empty() && server.logins().is_empty(), "{:?}", server.logins());
    };
    let plain = Smtp::on(port, None, USER, &password);
    tried(&plain);
    drop(plain);
    let stranger = server(&keys, port, "stranger", &password);
    tried(&stranger);
    drop(stranger);
    let right = server(&keys, port, "server", &password);
    wait_for("the mail", || right.mails().into_iter().next());
    scene.hides_secrets(&agent);
}
