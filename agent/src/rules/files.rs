//! From paths to rules.

use std::path::PathBuf;

use rules::Rules;

use crate::glob;

/// More than any host has: a pattern that takes in a whole disk shall not.
const MOST_FILES: usize = 1000;

/// Reads all files. A pattern may find nothing, a path may not. Every fault is a sentence with file, line and column.
pub fn load(paths: &[String]) -> Result<Rules, Vec<String>> {
    let mut faults = Vec::new();
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths.iter().filter(|path| !path.is_empty()) {
        let files = if glob::is_pattern(path) { glob::found(path) } else { vec![path.into()] };
        for file in files {
            if !found.contains(&file) {
                found.push(file);
            }
        }
    }
    if found.len() > MOST_FILES {
        return Err(vec![format!("these patterns find {} files; {MOST_FILES} are the most", found.len())]);
    }
    let mut texts = Vec::new();
    for file in found {
        match daemon::config::file::read_text(&file) {
            Ok(text) => texts.push((file.display().to_string(), text)),
            Err(error) => faults.push(format!("can't read {}: {error}", file.display())),
        }
    }
    match Rules::load(&texts) {
        Ok(rules) if faults.is_empty() => Ok(rules),
        Ok(_) => Err(faults),
        Err(wrong) => {
            faults.extend(wrong.iter().map(ToString::to_string));
            Err(faults)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_may_find_nothing_and_paths_may_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        assert_eq!(load(&[path("*.yml")]).unwrap().count(), 0);
        let error = load(&[path("a.yml")]).unwrap_err();
        assert!(error.len() == 1 && error[0].contains("a.yml: No such file"), "{error:?}");
        let group = |expr: &str| format!("groups:\n- name: g\n  rules:\n  - {{record: a, expr: '{expr}'}}\n");
        std::fs::write(path("a.yml"), group("up")).unwrap();
        std::fs::write(path("b.yml"), group("up == 0")).unwrap();
        assert_eq!(load(&[path("*.yml"), path("a.yml")]).unwrap().count(), 2, "none twice");
        std::fs::write(path("b.yml"), group("up ==")).unwrap();
        let error = load(&[path("*.yml")]).unwrap_err();
        assert!(error.len() == 1 && error[0].contains("b.yml:4:"), "{error:?}");
    }
}
