use super::*;

#[test]
fn smoke() {
    let text = r#"sum by (a) (rate(x_total{b=~"c.*"}[5m] offset -1h)) / on (a) group_left (z) y > bool 0.5e1"#;
    assert_eq!(
        parse(text).unwrap().to_string(),
        r#"sum by (a) (rate(x_total{b=~"c.*"}[5m] offset -1h)) / on (a) group_left (z) y > bool 5"#
    );
}
