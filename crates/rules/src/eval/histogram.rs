//! Quantiles and fractions of classic histograms: counters with a label `le`, the upper bound of what they count.

use super::places::Places;
use super::{Element, EvalError, Evaluator, unique};
use crate::sample::NAME;
use crate::{Labels, order};

/// Counts that differ by less than this share are taken for equal: sums of rates are not exact.
const TOLERANCE: f64 = 1e-12;

/// A bucket: how many observations were not above a bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    bound: f64,
    count: f64,
}

impl Evaluator<'_> {
    /// One element of each histogram, of what `f` makes of its buckets.
    pub(super) fn histograms(
        &self,
        vector: Vec<Element>,
        f: &dyn Fn(&mut Vec<Bucket>) -> f64,
    ) -> Result<Vec<Element>, EvalError> {
        let mut known = Places::default();
        let mut found: Vec<(Labels, Vec<Bucket>)> = Vec::new();
        for element in vector {
            // What is no number is no bucket, and NaN is no bound.
            let Some(bound) = element.labels.get("le").parse::<f64>().ok().filter(|bound| !bound.is_nan()) else {
                continue;
            };
            // Histograms of two names are two, even if that gives two results with the same labels.
            let key = element.labels.filtered(|name| name != "le");
            let (place, new) = known.place(key.clone());
            if new {
                found.push((key.filtered(|name| name != NAME), Vec::new()));
            }
            if let Some((_, buckets)) = found.get_mut(place) {
                buckets.push(Bucket { bound, count: element.value });
            }
        }
        let result = found.into_iter().map(|(labels, mut buckets)| {
            let labels = self.named_later(labels);
            Element { labels, value: f(&mut buckets), drop_name: true }
        });
        let result: Vec<Element> = result.collect();
        if !self.options.delayed_name_removal {
            unique(&result)?;
        }
        Ok(result)
    }
}

/// Sorts buckets and joins those with the same bound; false if the last one is not +Inf.
fn prepare(buckets: &mut Vec<Bucket>) -> bool {
    order::sort_by(buckets, &|a, b| a.bound.partial_cmp(&b.bound).unwrap_or(std::cmp::Ordering::Equal));
    buckets.dedup_by(|later, first| {
        let same = later.bound == first.bound;
        if same {
            first.count += later.count;
        }
        same
    });
    buckets.last().is_some_and(|last| last.bound == f64::INFINITY)
}

/// Whether two counts differ by rounding alone.
fn nearly_equal(a: f64, b: f64) -> bool {
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

/// A bucket never holds less than the one before it: raised where scrapes or rounding made it so.
fn make_monotonic(buckets: &mut [Bucket]) {
    let Some(mut before) = buckets.first().map(|first| first.count) else { return };
    for bucket in buckets.iter_mut().skip(1) {
        if bucket.count == before {
            continue;
        }
        if nearly_equal(before, bucket.count) || bucket.count < before {
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
}

/// The value below which a share of `q` of the observations lies, as if they were spread evenly within each bucket.
pub(super) fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if !prepare(buckets) {
        return f64::NAN;
    }
    make_monotonic(buckets);
    let [finite @ .., last] = buckets.as_slice() else { return f64::NAN };
    let Some(highest) = finite.last() else { return f64::NAN };
    if last.count == 0.0 {
        return f64::NAN;
    }
    let rank = q * last.count;
    let index = finite.partition_point(|bucket| bucket.count.partial_cmp(&rank).is_none_or(std::cmp::Ordering::is_lt));
    let Some(bucket) = finite.get(index) else { return highest.bound };
    let Some(before) = index.checked_sub(1).and_then(|before| finite.get(before)) else {
        if bucket.bound <= 0.0 {
            return bucket.bound;
        }
        return bucket.bound * (rank / bucket.count);
    };
    before.bound + (bucket.bound - before.bound) * ((rank - before.count) / (bucket.count - before.count))
}

/// The share of the observations between two values, as if they were spread evenly within each bucket.
pub(super) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !prepare(buckets) {
        return f64::NAN;
    }
    let Some(count) = buckets.last().map(|last| last.count) else { return f64::NAN };
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let (below_lower, below_upper) = (below(lower, buckets), below(upper, buckets));
    let within = |rank: Option<f64>| rank.filter(|rank| *rank <= count || rank.is_nan()).unwrap_or(count);
    (within(below_upper) - within(below_lower)) / count
}

/// How many observations lie below a value; `None` if it is beyond all buckets.
fn below(value: f64, buckets: &[Bucket]) -> Option<f64> {
    let mut rank = 0.0;
    // Where all is positive the first bucket begins at 0.
    let mut start = if buckets.first().is_some_and(|first| first.bound <= 0.0) { f64::NEG_INFINITY } else { 0.0 };
    for bucket in buckets {
        if start >= value {
            return Some(rank);
        }
        if bucket.bound > value {
            if start == f64::NEG_INFINITY {
                return Some(bucket.count);
            }
            return Some(rank + (bucket.count - rank) * (value - start) / (bucket.bound - start));
        }
        (rank, start) = (bucket.count, bucket.bound);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(all: &[(f64, f64)]) -> Vec<Bucket> {
        all.iter().map(|&(bound, count)| Bucket { bound, count }).collect()
    }

    #[test]
    fn quantiles_are_interpolated() {
        let all = [(f64::INFINITY, 10.0), (1.0, 4.0), (2.0, 8.0)];
        let of = |q| quantile(q, &mut buckets(&all));
        assert_eq!((of(0.2), of(0.4), of(0.6), of(0.9)), (0.5, 1.0, 1.5, 2.0));
        assert_eq!((of(-1.0), of(2.0)), (f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!(quantile(0.1, &mut buckets(&[(-1.0, 4.0), (f64::INFINITY, 4.0)])), -1.0);
        assert!(quantile(0.5, &mut buckets(&[(1.0, 4.0), (2.0, 8.0)])).is_nan());
        assert!(quantile(0.5, &mut buckets(&[(f64::INFINITY, 8.0)])).is_nan());
        assert!(quantile(0.5, &mut buckets(&[(1.0, 0.0), (f64::INFINITY, 0.0)])).is_nan());
        assert!(quantile(0.5, &mut Vec::new()).is_nan());
    }

    #[test]
    fn buckets_that_fall_are_raised() {
        let mut falling = buckets(&[(1.0, 4.0), (2.0, 3.0), (3.0, 4.0 + 1e-13), (f64::INFINITY, 8.0)]);
        quantile(0.5, &mut falling);
        assert_eq!(falling, buckets(&[(1.0, 4.0), (2.0, 4.0), (3.0, 4.0), (f64::INFINITY, 8.0)]));
    }

    #[test]
    fn fractions_are_interpolated() {
        let all = [(1.0, 4.0), (2.0, 8.0), (f64::INFINITY, 10.0)];
        let of = |lower, upper| fraction(lower, upper, &mut buckets(&all));
        assert_eq!((of(0.0, 1.0), of(0.5, 1.5), of(1.5, f64::INFINITY)), (0.4, 0.4, 0.4));
        assert_eq!((of(2.0, 1.0), of(f64::NEG_INFINITY, f64::INFINITY)), (0.0, 1.0));
        assert!(of(f64::NAN, 1.0).is_nan());
    }
}
