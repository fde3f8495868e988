//! Sums, means and quantiles of floats, exact to the last bits that matter.

use crate::order;

/// A sum that keeps what rounding loses (Kahan's method as improved by Neumaier).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    pub(super) fn starting(value: f64) -> Self {
        Self { sum: value, lost: 0.0 }
    }

    pub(super) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub(super) fn total(self) -> f64 {
        // After an overflow nothing is lost any more: infinite stays infinite.
        self.sum + self.lost
    }
}

/// A mean: the sum divided at the end, and from where the sum would overflow a running mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mean {
    acc: Sum,
    count: f64,
    running: bool,
}

impl Mean {
    pub(super) fn starting(value: f64) -> Self {
        Self { acc: Sum::starting(value), count: 1.0, running: false }
    }

    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.running {
            let mut sum = self.acc;
            sum.add(value);
            if !sum.sum.is_infinite() {
                self.acc = sum;
                return;
            }
            self.running = true;
            let before = self.count - 1.0;
            self.acc = Sum { sum: self.acc.sum / before, lost: self.acc.lost / before };
        }
        let share = (self.count - 1.0) / self.count;
        self.acc = Sum { sum: share * self.acc.sum, lost: share * self.acc.lost };
        self.acc.add(value / self.count);
    }

    pub(super) fn mean(self) -> f64 {
        if self.running { self.acc.sum + self.acc.lost } else { self.acc.sum / self.count + self.acc.lost / self.count }
    }
}

/// Ascending, NaN first.
pub(super) fn nan_first(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// Ascending, NaN last.
pub(super) fn nan_last(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The q-quantile, between two values the weighted mean of them.
pub(super) fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    if q.is_nan() || values.is_empty() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    order::sort_by(&mut values, &|a, b| nan_first(*a, *b));
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor() as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// The larger; NaN if one is, except beside +Inf.
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// The smaller; NaN if one is, except beside -Inf.
pub(super) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_keeps_what_rounding_loses() {
        let mut sum = Sum::default();
        [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|value| sum.add(value));
        assert_eq!(sum.total(), 2.0);
        sum.add(f64::INFINITY);
        assert_eq!(sum.total(), f64::INFINITY);
        sum.add(f64::NEG_INFINITY);
        assert!(sum.total().is_nan());
    }

    #[test]
    fn a_mean_does_not_overflow() {
        let mut mean = Mean::starting(1.7e308);
        [1.7e308, -1.7e308, -1.7e308, 4.0].into_iter().for_each(|value| mean.add(value));
        assert!((mean.mean() - 0.8).abs() < 1e292, "{}", mean.mean());
        let mut mean = Mean::starting(f64::MAX);
        (0..9).for_each(|_| mean.add(f64::MAX));
        assert!((mean.mean() / f64::MAX - 1.0).abs() < 1e-15);
    }

    #[test]
    fn quantiles_lie_between_values() {
        assert_eq!(quantile(0.5, vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(0.75, vec![0.0, 1.0]), 0.75);
        assert_eq!(quantile(-0.1, vec![1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile(1.1, vec![1.0]), f64::INFINITY);
        assert!(quantile(0.5, vec![]).is_nan() && quantile(f64::NAN, vec![1.0]).is_nan());
        assert!(quantile(0.0, vec![f64::NAN, 1.0]).is_nan());
    }

    #[test]
    fn nan_gives_way_to_an_infinite_bound_only() {
        assert_eq!(max(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert_eq!(min(f64::NAN, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert!(max(f64::NAN, 1.0).is_nan() && min(1.0, f64::NAN).is_nan());
        assert_eq!((max(1.0, 2.0), min(1.0, 2.0)), (2.0, 1.0));
    }
}
