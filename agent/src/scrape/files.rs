//! Files that hold targets, in the form of Prometheus' `file_sd_configs`: a list of groups, in JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::config::{Job, StaticSection};
use crate::glob;

/// More files of one job are not looked at.
const MOST_FILES: usize = 100;

/// What the files of all jobs hold: by job, the file and its groups.
pub(super) type Found = BTreeMap<String, Vec<(String, Vec<StaticSection>)>>;

/// Reads all of them. A file that can't be read keeps the targets that it had before; why stands in the second answer. It
/// blocks.
pub(super) fn read(jobs: &[Arc<Job>], before: &Found) -> (Found, Vec<String>) {
    let (mut found, mut faults) = (Found::new(), Vec::new());
    for job in jobs {
        let known = before.get(&job.section.job);
        let mut files = Vec::new();
        for path in job.section.target_files.iter().flat_map(|pattern| glob::found(pattern)).take(MOST_FILES) {
            let name = path.display().to_string();
            match groups(&path) {
                Ok(groups) => files.push((name, groups)),
                Err(why) => {
                    faults.push(format!("{name}: {why}; its targets stay as they were"));
                    files.extend(known.into_iter().flatten().find(|(file, _)| *file == name).cloned());
                }
            }
        }
        found.insert(job.section.job.clone(), files);
    }
    (found, faults)
}

fn groups(path: &Path) -> Result<Vec<StaticSection>, String> {
    let text = daemon::config::file::read_text(path).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::config::{ScrapeSection, checked};
    use super::*;

    #[test]
    fn a_file_that_is_half_written_keeps_its_targets() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("a.json"), r#"[{"targets": ["h:1"], "labels": {"x": "y"}}, {"targets": ["h:2"]}]"#)
            .unwrap();
        std::fs::write(path("b.json"), "[]").unwrap();
        std::fs::write(path("c.txt"), "no").unwrap();
        let section =
            ScrapeSection { job: "j".to_owned(), target_files: vec![path("*.json")], ..ScrapeSection::default() };
        let plan = checked(&[section]).unwrap();
        let (found, faults) = read(&plan.jobs, &Found::new());
        assert_eq!((found["j"].len(), found["j"][0].1.len(), faults.len()), (2, 2, 0));
        assert_eq!(found["j"][0].1[0].labels.get("x"), Some("y"));
        std::fs::write(path("a.json"), "[{").unwrap();
        std::fs::write(path("b.json"), r#"[{"target": []}]"#).unwrap();
        let (again, faults) = read(&plan.jobs, &found);
        assert_eq!((&again, faults.len()), (&found, 2));
        assert!(faults[0].contains("a.json: ") && faults[1].contains("unknown field `target`"), "{faults:?}");
        std::fs::remove_file(path("a.json")).unwrap();
        assert_eq!(read(&plan.jobs, &again).0["j"].len(), 1);
    }
}
