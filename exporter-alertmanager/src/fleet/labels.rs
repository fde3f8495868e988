//! Labels and annotations such that Alertmanager takes them.

use wire::{HostName, LabelSet};

use super::Settings;

const MOST_LABELS: usize = 100;
const MOST_ANNOTATIONS: usize = 50;
/// In bytes.
const LONGEST_NAME: usize = 256;
const LONGEST_VALUE: usize = 4096;
const LONGEST_ANNOTATION: usize = 8192;
/// Of one alert together, so that no host fills the memory with its thousand.
const MOST_LABEL_BYTES: usize = 16 << 10;
const MOST_ANNOTATION_BYTES: usize = 32 << 10;

/// An alert's labels, with what is added to all.
pub(super) fn of_alert(labels: &LabelSet, host: &HostName, settings: &Settings) -> Result<LabelSet, String> {
    let mut made = LabelSet::default();
    if labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MOST_LABEL_BYTES {
        return Err(format!("its labels have more than {MOST_LABEL_BYTES} bytes"));
    }
    if labels.iter().len() > MOST_LABELS {
        return Err(format!("it has more than {MOST_LABELS} labels"));
    }
    for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
        if !is_name(name) {
            return Err(format!("{:?} is no label's name", cut(name, LONGEST_NAME)));
        }
        if value.len() > LONGEST_VALUE {
            return Err(format!("its label {name} is longer than {LONGEST_VALUE} bytes"));
        }
        made.insert(name.to_owned(), value.to_owned());
    }
    if made.get("alertname").is_none() {
        return Err("it has no alertname".to_owned());
    }
    add(&mut made, host, settings);
    Ok(made)
}

/// Whose alert it is, and what every alert has.
pub(super) fn add(labels: &mut LabelSet, host: &HostName, settings: &Settings) {
    if let Some(name) = &settings.host_label {
        // The topic says it, for which the broker vouches.
        labels.insert(name.clone(), host.to_string());
    }
    let host = ("instance", host.as_str());
    for (name, value) in [host].into_iter().chain(settings.labels.iter()) {
        if labels.get(name).is_none() {
            labels.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// Annotations: those whose names can't be are left out, long texts are cut.
pub(super) fn annotations(annotations: &LabelSet) -> LabelSet {
    let good = annotations.iter().filter(|(name, value)| is_name(name) && !value.is_empty());
    let cut = good.take(MOST_ANNOTATIONS).map(|(name, value)| (name.to_owned(), cut(value, LONGEST_ANNOTATION)));
    let mut room = MOST_ANNOTATION_BYTES;
    cut.take_while(|(name, value)| {
        let size = name.len() + value.len();
        let fits = size <= room;
        room = room.saturating_sub(size);
        fits
    })
    .collect()
}

pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}
