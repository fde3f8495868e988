//! Patterns of names: `*` is any number of characters, `?` is one.

/// Whether the whole name fits the pattern.
pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    // Where to go on if the last `*` has to take one more character.
    let (mut at, mut in_name, mut retry) = (0, 0, None);
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                retry = Some((at, in_name));
            }
            Some(&c) if c == b'?' || c == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match retry {
                Some((after, taken)) => {
                    at = after;
                    in_name = taken + 1;
                    retry = Some((after, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == b'*')
}

/// Whether a text is a pattern and no plain name.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, wanted) in [
            ("web-*", "web-01", true),
            ("web-*", "db-web-01", false),
            ("*-01", "web-01", true),
            ("w*b*1", "web-01.b1", true),
            ("w*b*2", "web-01.b1", false),
            ("web-??", "web-01", true),
            ("web-??", "web-001", false),
            ("*", "", true),
            ("?", "", false),
            ("web-01", "web-01", true),
            ("web-01", "web-011", false),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
