//! Paths with `*`, which stands for any text of a name, and `?`, which stands for any character.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ::rules::order;

/// Whether a path is a pattern.
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?'])
}

/// What a pattern stands for, sorted.
pub(crate) fn found(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from(if pattern.starts_with('/') { "/" } else { "" })];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        if !is_pattern(part) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for path in found {
            let here = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
            // What can't be listed holds nothing that matches.
            for entry in std::fs::read_dir(here).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let hidden = name.as_bytes().starts_with(b".") && !part.starts_with('.');
                if !hidden && matches(part.as_bytes(), name.as_bytes()) {
                    next.push(path.join(name));
                }
            }
        }
        found = next;
    }
    order::sort_by(&mut found, &Ord::cmp);
    found
}

/// Whether a path is one that a pattern stands for.
pub(crate) fn is_found(pattern: &str, path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let mut parts = pattern.split('/').filter(|part| !part.is_empty());
    // A pattern without a folder is one for names.
    if !pattern.contains('/') {
        return names.next_back().is_some_and(|name| matches(pattern.as_bytes(), name));
    }
    loop {
        match (parts.next(), names.next()) {
            (None, None) => return true,
            (Some(part), Some(name)) if matches(part.as_bytes(), name) => {}
            _ => return false,
        }
    }
}

/// Whether a name is what a pattern with `*` and `?` stands for.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the last star is, and what it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, whether) in [
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), whether, "{pattern} {name}");
        }
    }

    #[test]
    fn a_path_is_compared_part_by_part() {
        for (pattern, path, whether) in [
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/*.log", "/var/log/b/a.log", false),
            ("/var/*/a.log", "/var/log/a.log", true),
            ("/var/log", "/var/log/a.log", false),
            ("debug*", "/var/log/debug.log", true),
            ("debug*", "/var/debug/a.log", false),
        ] {
            assert_eq!(is_found(pattern, Path::new(path)), whether, "{pattern} {path}");
        }
    }
}
