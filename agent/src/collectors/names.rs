//! Metric names that the kernel dictates, made once.
//!
//! `/proc/meminfo` and its like name their fields themselves. A family's name wants to be `'static`, so that a pass
//! allocates none; so the first sighting of a field is kept for the life of the process. That is bounded: beyond
//! [`MAX_KEPT`] names, which no kernel reaches, they are allocated at each pass instead.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Kernels have a few hundred.
const MAX_KEPT: usize = 4096;
/// Longer ones are garbage, not names.
const MAX_LENGTH: usize = 256;

static KEPT: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);

/// The same text, kept for good where it is reasonable.
pub(crate) fn keep(text: String) -> Cow<'static, str> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_with(HashSet::new);
    if let Some(known) = kept.get(text.as_str()) {
        return Cow::Borrowed(known);
    }
    if kept.len() >= MAX_KEPT || text.len() > MAX_LENGTH {
        return Cow::Owned(text);
    }
    let text: &'static str = Box::leak(text.into_boxed_str());
    kept.insert(text);
    Cow::Borrowed(text)
}

/// Whether `name` may stand in a metric name.
pub(crate) fn is_metric_part(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_kept_once() {
        let (Cow::Borrowed(a), Cow::Borrowed(b)) = (keep("node_x".into()), keep("node_x".into())) else {
            panic!("not kept")
        };
        assert!(std::ptr::eq(a, b));
        assert!(matches!(keep("x".repeat(MAX_LENGTH + 1)), Cow::Owned(_)));
    }
}
