//! Functions over the samples of a range.

use super::number::{Mean, Sum, quantile};
use super::subquery::Window;
use crate::ast::Millis;
use crate::sample::Sample;

/// What a function makes of the samples of one series; `None` if they are too few. `param` is the number that some
/// functions take beside the range.
pub(super) type OverRange = fn(window: &Window<'_>, param: f64, at: Millis) -> Option<f64>;

/// The function of that name.
pub(super) fn function(name: &str) -> Option<OverRange> {
    Some(match name {
        "rate" => |window, _, _| extrapolated(window, true, seconds(window.after, window.until)),
        "increase" => |window, _, _| extrapolated(window, true, 1.0),
        "delta" => |window, _, _| extrapolated(window, false, 1.0),
        "irate" => |window, _, _| {
            let (before, last) = last_two(window)?;
            let grown = if last.value < before.value { last.value } else { last.value - before.value };
            Some(grown / seconds(before.time, last.time))
        },
        "idelta" => |window, _, _| last_two(window).map(|(before, last)| last.value - before.value),
        "avg_over_time" => |window, _, _| {
            let (first, rest) = window.samples.split_first()?;
            let mut mean = Mean::starting(first.value);
            rest.iter().for_each(|sample| mean.add(sample.value));
            Some(mean.mean())
        },
        "sum_over_time" => |window, _, _| {
            let mut sum = Sum::default();
            values(window).for_each(|value| sum.add(value));
            Some(sum.total())
        },
        "count_over_time" => |window, _, _| Some(window.samples.len() as f64),
        "first_over_time" => |window, _, _| values(window).next(),
        "last_over_time" => |window, _, _| values(window).next_back(),
        "present_over_time" => |_, _, _| Some(1.0),
        "min_over_time" => {
            |window, _, _| values(window).reduce(|min, value| if value < min || min.is_nan() { value } else { min })
        }
        "max_over_time" => {
            |window, _, _| values(window).reduce(|max, value| if value > max || max.is_nan() { value } else { max })
        }
        "stddev_over_time" => |window, _, _| Some(variance(window).sqrt()),
        "stdvar_over_time" => |window, _, _| Some(variance(window)),
        "quantile_over_time" => |window, q, _| Some(quantile(q, values(window).collect())),
        "changes" => {
            |window, _, _| Some(pairs(window).filter(|(a, b)| a != b && !(a.is_nan() && b.is_nan())).count() as f64)
        }
        "resets" => |window, _, _| Some(pairs(window).filter(|(a, b)| b < a).count() as f64),
        "deriv" => |window, _, _| match window.samples {
            [first, _, ..] => Some(regression(window.samples, first.time).0),
            _ => None,
        },
        "predict_linear" => |window, ahead, at| {
            let (slope, now) = (window.samples.len() >= 2).then(|| regression(window.samples, at))?;
            Some(slope * ahead + now)
        },
        _ => return None,
    })
}

fn seconds(from: Millis, to: Millis) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}

fn values(window: &Window<'_>) -> impl DoubleEndedIterator<Item = f64> {
    window.samples.iter().map(|sample| sample.value)
}

fn pairs(window: &Window<'_>) -> impl Iterator<Item = (f64, f64)> {
    window.samples.windows(2).filter_map(|pair| match pair {
        [a, b] => Some((a.value, b.value)),
        _ => None,
    })
}

fn last_two(window: &Window<'_>) -> Option<(Sample, Sample)> {
    match window.samples {
        [.., before, last] if last.time != before.time => Some((*before, *last)),
        _ => None,
    }
}

/// How much the value grew over the whole range, though the samples do not reach its ends: up to an end that is about
/// one interval of sampling away, else for half an interval. A counter may begin again, and was never below 0. `per` divides
/// it where Prometheus does, so that results are the same to the last bit: unit tests compare them.
fn extrapolated(window: &Window<'_>, counter: bool, per: f64) -> Option<f64> {
    let [first, .., last] = window.samples else { return None };
    let mut grown = last.value - first.value;
    if counter {
        grown = pairs(window).filter(|(a, b)| b < a).fold(grown, |grown, (before, _)| grown + before);
    }
    let sampled = seconds(first.time, last.time);
    let interval = sampled / (window.samples.len() - 1) as f64;
    let near = interval * 1.1;
    let reach = |distance| if distance >= near { interval / 2.0 } else { distance };
    let mut to_start = reach(seconds(window.after, first.time));
    let to_end = reach(seconds(last.time, window.until));
    if counter && grown > 0.0 && first.value >= 0.0 {
        let to_zero = sampled * (first.value / grown);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
    Some(grown * (factor / per))
}

fn variance(window: &Window<'_>) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    for value in values(window) {
        count += 1.0;
        let delta = value - mean.total();
        mean.add(delta / count);
        squares.add(delta * (value - mean.total()));
    }
    squares.total() / count
}

/// The line through the samples by least squares: its slope per second, and its value at a moment.
fn regression(samples: &[Sample], at: Millis) -> (f64, f64) {
    let Some(first) = samples.first() else { return (f64::NAN, f64::NAN) };
    let mut count = 0.0;
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [Sum::default(); 4];
    for sample in samples {
        count += 1.0;
        let x = seconds(at, sample.time);
        x_sum.add(x);
        y_sum.add(sample.value);
        xy_sum.add(x * sample.value);
        xx_sum.add(x * x);
    }
    // Exactly, whatever rounding would make of it.
    if samples.iter().all(|sample| sample.value == first.value) {
        return if first.value.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first.value) };
    }
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(Sum::total);
    let covariance = xy - x * y / count;
    let variance = xx - x * x / count;
    let slope = covariance / variance;
    (slope, y / count - slope * x / count)
}
