use wire::LabelSet;

use super::*;

const SETTINGS: Settings = Settings { digest_above: 3, give_up_after: Duration::from_secs(86_400), max_alerts: 5 };

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000).plus(Duration::from_secs(seconds))
}

fn alert(name: &str, over: bool) -> Alert {
    let labels: LabelSet = [("alertname".to_owned(), name.to_owned())].into_iter().collect();
    let resolved_at = over.then(|| at(1));
    let (value, annotations) = (1.0.into(), LabelSet::default());
    Alert { fingerprint: name.to_owned(), labels, annotations, value, active_at: at(0), fired_at: at(0), resolved_at }
}

/// Of a group of the first alert's name; `-` before a name is an alert that is over.
fn notification(id: &str, names: &str) -> Notification {
    let alerts: Vec<_> =
        names.split(' ').map(|name| alert(name.trim_start_matches('-'), name.starts_with('-'))).collect();
    let group = alerts[0].labels.clone();
    Notification {
        id: id.to_owned(),
        receiver: "r".to_owned(),
        reason: Reason::Alerts,
        group_key: alerts[0].fingerprint.clone(),
        group_labels: group,
        alerts,
        left_out: 0,
        external_url: String::new(),
        host: String::new(),
        time: at(0),
    }
}

fn queue(for_people: bool) -> Queue {
    let mut queue = Queue::new(SETTINGS, Saved::default(), Progress::default());
    let manner = Manner { for_people, pause: Duration::ZERO };
    assert!(queue.configure(SETTINGS, &[("t".to_owned(), manner)].into()).is_empty());
    queue
}

fn names(notification: &Notification) -> String {
    let names = notification.alerts.iter().map(|alert| {
        let over = if alert.resolved_at.is_some() { "-" } else { "" };
        format!("{over}{}", alert.fingerprint)
    });
    names.collect::<Vec<_>>().join(" ")
}

fn retry() -> Outcome {
    Outcome::Retry(None, "no".to_owned())
}

#[test]
fn it_tries_again_later_and_later_and_keeps_the_order() {
    let mut queue = queue(false);
    queue.push("t", notification("1", "A"), at(0));
    queue.push("t", notification("2", "B"), at(0));
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (target, sent) = queue.next(now).unwrap();
        assert_eq!((target.as_str(), sent.id.as_str()), ("t", "1"));
        assert!(queue.next(now).is_none(), "one at a time");
        let Fate::Later(then, _) = queue.done("t", "1", retry(), now, 0.5) else { panic!() };
        assert!(queue.next(now).is_none());
        assert_eq!(queue.due(), Some(then));
        waits.push((then.as_millis() - now.as_millis()) / 1000);
        now = then;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    queue.next(now).unwrap();
    let asked = Outcome::Retry(Some(Duration::from_secs(1000)), String::new());
    let Fate::Later(then, _) = queue.done("t", "1", asked, now, 0.5) else { panic!() };
    assert_eq!(then, now.plus(Duration::from_secs(1000)));
    queue.next(then).unwrap();
    assert_eq!(queue.done("t", "1", Outcome::Sent, then, 0.5), Fate::Sent);
    assert_eq!(queue.next(then).unwrap().1.id, "2");
    assert_eq!(queue.done("t", "2", Outcome::Sent, then, 0.5), Fate::Sent);
    assert_eq!((queue.due(), queue.next(then)), (None, None));
    let counts = queue.counts().next().unwrap().1;
    assert_eq!((counts.sent, counts.retried, counts.failed), (2, 13, 0));
}

#[test]
fn what_is_refused_or_too_old_is_given_up() {
    let mut queue = queue(false);
    queue.push("t", notification("1", "A"), at(0));
    queue.push("t", notification("2", "B"), at(0));
    queue.next(at(0)).unwrap();
    let Fate::GivenUp(gone, why) = queue.done("t", "1", Outcome::Refused("bad".to_owned()), at(0), 0.0) else {
        panic!()
    };
    assert_eq!((gone.id.as_str(), why.as_str()), ("1", "bad"));
    queue.next(at(0)).unwrap();
    assert!(matches!(queue.done("t", "2", retry(), at(1), 0.0), Fate::Later(..)));
    queue.next(at(86_400)).unwrap();
    assert!(matches!(queue.done("t", "2", retry(), at(86_400), 0.0), Fate::GivenUp(..)));
    assert_eq!(queue.done("t", "2", retry(), at(86_400), 0.0), Fate::Unknown);
    assert_eq!(queue.done("x", "2", retry(), at(86_400), 0.0), Fate::Unknown);
}

#[test]
fn news_of_one_group_become_one_and_what_was_tried_stays() {
    let mut queue = queue(false);
    queue.push("t", notification("1", "A B"), at(0));
    queue.next(at(0)).unwrap();
    queue.done("t", "1", retry(), at(0), 0.0);
    queue.push("t", notification("2", "A -B C"), at(0));
    queue.push("t", notification("3", "A -C"), at(0));
    queue.push("t", notification("9", "X"), at(0));
    assert_eq!(names(&queue.next(at(10)).unwrap().1), "A B");
    queue.done("t", "1", Outcome::Sent, at(10), 0.0);
    let (_, joined) = queue.next(at(10)).unwrap();
    assert_eq!((names(&joined).as_str(), joined.reason), ("A -B -C", Reason::Alerts));
    queue.done("t", &joined.id, Outcome::Sent, at(10), 0.0);
    assert_eq!(queue.next(at(10)).unwrap().1.id, "9");
}

#[test]
fn after_an_outage_people_get_a_summary() {
    let mut queue = queue(true);
    queue.push("t", notification("0", "A"), at(0));
    queue.next(at(0)).unwrap();
    queue.done("t", "0", retry(), at(0), 0.5);
    for number in 1..=20 {
        let name = format!("N{number}");
        queue.push("t", notification(&name, &name), at(number * 120));
    }
    queue.push("t", notification("end", "-N1"), at(3000));
    assert_eq!(queue.next(at(3000)).unwrap().1.id, "0");
    queue.done("t", "0", Outcome::Sent, at(3000), 0.5);
    let (_, summary) = queue.next(at(3000)).unwrap();
    assert_eq!((summary.reason, summary.alerts.len()), (Reason::Summary, 5));
    assert!(summary.group_labels.is_empty() && summary.left_out > 0);
    queue.done("t", &summary.id, Outcome::Sent, at(3000), 0.5);
    assert_eq!(queue.due(), None);
}

#[test]
fn more_than_some_a_minute_are_told_together() {
    let mut queue = queue(true);
    for number in 0..10 {
        let name = format!("N{number}");
        queue.push("t", notification(&name, &name), at(number));
    }
    let mut told = Vec::new();
    for second in [10, 10, 10, 10, 62, 63, 200] {
        if let Some((_, sent)) = queue.next(at(second)) {
            told.push(format!("{second} {:?} {}", sent.reason, names(&sent)));
            queue.done("t", &sent.id, Outcome::Sent, at(second), 0.5);
        }
    }
    assert_eq!(told, ["10 Alerts N0", "10 Alerts N1", "10 Alerts N2", "63 Digest N3 N4 N5 N6 N7"]);
    assert_eq!(queue.due(), None);
    // Machines get each.
    let mut queue = self::queue(false);
    (0..10).for_each(|n| assert!(queue.push("t", notification(&n.to_string(), &format!("N{n}")), at(n)).is_none()));
    assert_eq!(queue.depths().next(), Some(("t", 10, 0)));
}

#[test]
fn it_is_bounded_and_a_heartbeat_never_waits_behind_another() {
    let mut queue = queue(false);
    let gone: Vec<_> = (0..MOST_WAITING + 3)
        .filter_map(|n| queue.push("t", notification(&n.to_string(), &format!("N{n}")), at(0)))
        .map(|(_, gone)| gone.id)
        .collect();
    assert_eq!(gone, ["0", "1", "2"]);
    let mut queue = self::queue(true);
    for second in [0, 60, 120] {
        queue.push("t", Notification::heartbeat("r", &LabelSet::default(), at(second)), at(second));
        if second == 0 {
            queue.next(at(0)).unwrap();
        }
    }
    assert_eq!(queue.depths().next(), Some(("t", 2, 0)));
    // A newer one is there.
    let first = Notification::heartbeat("r", &LabelSet::default(), at(0)).id;
    assert!(matches!(queue.done("t", &first, retry(), at(130), 0.5), Fate::GivenUp(..)));
    assert_eq!(queue.next(at(131)).unwrap().1.time, at(120));
}

#[test]
fn a_restart_sends_what_was_under_way_again_and_nothing_twice() {
    let mut queue = queue(false);
    queue.push("t", notification("1", "A"), at(0));
    queue.push("t", notification("2", "B"), at(0));
    queue.next(at(0)).unwrap();
    let saved = serde_json::from_slice(&serde_json::to_vec(&queue.saved()).unwrap()).unwrap();
    let mut queue = Queue::new(SETTINGS, saved, Progress::default());
    // Decided again, since the decision was not yet written down.
    queue.push("t", notification("2", "B"), at(1));
    assert_eq!(queue.next(at(1)).unwrap().1.id, "1");
    queue.done("t", "1", Outcome::Sent, at(1), 0.5);
    queue.push("t", notification("1", "A"), at(1));
    assert_eq!(queue.next(at(1)).unwrap().1.id, "2");
    queue.done("t", "2", Outcome::Sent, at(1), 0.5);
    assert_eq!(queue.due(), None);
    // A receiver that is no more gives back what waits for it.
    queue.push("t", notification("3", "A"), at(1));
    let orphans = queue.configure(SETTINGS, &BTreeMap::new());
    assert_eq!(orphans.len(), 1);
}

#[test]
fn a_clock_that_is_put_back_leaves_nothing_waiting_for_years() {
    const YEARS: u64 = 4 * 365 * 86_400;
    let mut queue = queue(true);
    (0..5).for_each(|n| drop(queue.push("t", notification(&n.to_string(), &format!("N{n}")), at(YEARS))));
    let first = queue.next(at(YEARS)).unwrap().1.id;
    queue.done("t", &first, retry(), at(YEARS), 0.5);
    let saved = serde_json::from_slice(&serde_json::to_vec(&queue.saved()).unwrap()).unwrap();
    // While it runs, and while it does not.
    let mut anew = Queue::new(SETTINGS, saved, Progress::default());
    for queue in [&mut queue, &mut anew] {
        assert_eq!(queue.next(at(0)), None);
        assert!(queue.due().unwrap() <= at(3600), "{:?}", queue.due());
        assert_eq!(queue.next(at(3600)).unwrap().1.id, first);
    }
}

fn text(queue: &Queue) -> String {
    serde_json::to_string(&queue.saved()).unwrap()
}

#[test]
fn what_came_of_it_is_kept_beside_what_waited() {
    let mut queue = queue(false);
    for number in 0..40 {
        queue.push("t", notification(&number.to_string(), &format!("A{number}")), at(0));
    }
    let saved = queue.saved();
    queue.written();
    for number in 0..MOST_REMEMBERED / 2 {
        let (target, next) = queue.next(at(1)).unwrap();
        assert_eq!((next.id, queue.outgrown()), (number.to_string(), false));
        assert_eq!(queue.done(&target, &number.to_string(), Outcome::Sent, at(1), 0.5), Fate::Sent);
    }
    let first = queue.next(at(1)).unwrap().1;
    assert!(matches!(queue.done("t", &first.id, retry(), at(1), 0.5), Fate::Later(..)));

    let mut anew = Queue::new(SETTINGS, saved.clone(), queue.progress());
    assert_eq!(text(&anew), text(&queue));
    assert_eq!((anew.next(at(1)), anew.next(at(2)).unwrap().1.id), (None, first.id.clone()), "it waits until then");
    assert!(anew.push("t", notification("3", "A3"), at(2)).is_none());
    assert_eq!(anew.depths().next(), Some(("t", 8, 1)), "what was sent is known");

    // More than are remembered would be sent again: all has to be written before.
    queue.next(at(2)).unwrap();
    queue.done("t", &first.id, Outcome::Sent, at(2), 0.5);
    assert!(queue.outgrown());
    queue.written();
    assert!(!queue.outgrown());
}

#[test]
fn a_digest_that_ended_has_to_be_written() {
    let mut queue = queue(true);
    for number in 0..5 {
        queue.push("t", notification(&number.to_string(), &format!("A{number}")), at(0));
    }
    let digest = queue.saved();
    queue.written();
    for _ in 0..3 {
        let (_, next) = queue.next(at(1)).unwrap();
        queue.done("t", &next.id, Outcome::Sent, at(1), 0.5);
    }
    assert!(queue.next(at(1)).is_none() && !queue.outgrown());
    let anew = Queue::new(SETTINGS, digest, queue.progress());
    assert_eq!(text(&anew), text(&queue));
    assert!(queue.next(at(61)).is_some() && queue.outgrown());
}

#[test]
fn what_waits_is_bounded_by_its_alerts_too() {
    let mut queue = queue(false);
    let names: Vec<_> = (0..200).map(|number| format!("A{number}")).collect();
    let of = |number: usize| {
        let mut one = notification(&number.to_string(), &names.join(" "));
        one.group_key = number.to_string();
        one
    };
    for number in 0..MOST_ALERTS / 200 {
        assert_eq!(queue.push("t", of(number), at(0)), None);
    }
    for (number, target) in ["u", "t"].into_iter().enumerate() {
        let gone = queue.push(target, of(1_000 + number), at(0)).map(|(target, gone)| (target, gone.id));
        assert_eq!(gone, Some(("t".to_owned(), number.to_string())), "the oldest of whom most wait for");
    }
}

#[test]
fn what_joined_one_that_waits_has_its_own_time_to_arrive() {
    const DAY: u64 = 86_400;
    for (for_people, group) in [(false, "B"), (true, "B"), (true, "C")] {
        let mut queue = queue(for_people);
        queue.push("t", notification("1", "A"), at(0));
        queue.next(at(0)).unwrap();
        queue.done("t", "1", retry(), at(0), 0.5);
        queue.push("t", notification("2", "B"), at(60));
        queue.push("t", notification("3", group), at(DAY));
        queue.next(at(DAY)).unwrap();
        assert!(matches!(queue.done("t", "1", retry(), at(DAY), 0.5), Fate::GivenUp(..)), "this one had a day");
        let (_, joined) = queue.next(at(DAY + 120)).unwrap();
        assert!(matches!(queue.done("t", &joined.id, retry(), at(DAY + 120), 0.5), Fate::Later(..)), "{joined:?}");
        let (_, joined) = queue.next(at(2 * DAY)).unwrap();
        assert!(matches!(queue.done("t", &joined.id, retry(), at(2 * DAY), 0.5), Fate::GivenUp(..)));
    }
}

#[test]
fn what_was_left_out_of_a_group_is_counted_once() {
    let mut queue = queue(false);
    let mut large = notification("1", "A B C D E");
    large.left_out = 7;
    for id in ["1", "2", "3"] {
        queue.push("t", Notification { id: id.to_owned(), ..large.clone() }, at(0));
    }
    assert_eq!(queue.next(at(0)).unwrap().1.left_out, 7);
}
