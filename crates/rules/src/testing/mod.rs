//! What tests of expressions and of rule files are written in: series descriptions, Prometheus' evaluation scripts
//! and promtool's unit tests.
//!
//! All of it works on text that the caller has read, at simulated times.

pub mod memory;
pub mod random;
pub mod run;
pub mod script;
pub mod series;
pub mod unit;

pub use memory::Memory;
pub use random::Random;

use crate::ast::{Expr, Kind, Selector};

/// All selectors of an expression.
pub fn selectors(expr: &Expr) -> Vec<&Selector> {
    let mut found = Vec::new();
    expr.walk(&mut |expr| {
        if let Kind::Vector(selector) | Kind::Matrix(selector, _) = &expr.kind {
            found.push(selector);
        }
    });
    found
}

/// Whether two results count as equal: within a relative error, NaN equal to NaN, as Prometheus' own tests have it
/// (`util/almost/almost.go`).
pub fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if a.is_nan() && b.is_nan() {
        return crate::sample::is_stale(a) == crate::sample::is_stale(b);
    }
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < epsilon * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < epsilon
}

#[cfg(test)]
mod tests {
    use super::almost_equal;

    #[test]
    fn equality_is_relative() {
        assert!(almost_equal(1e9, 1e9 + 1.0, 1e-6) && !almost_equal(1.0, 1.001, 1e-6));
        assert!(almost_equal(f64::NAN, -f64::NAN, 1e-6) && !almost_equal(f64::NAN, 0.0, 1e-6));
        assert!(almost_equal(f64::INFINITY, f64::INFINITY, 1e-6) && !almost_equal(f64::INFINITY, f64::MAX, 1e-6));
        assert!(almost_equal(0.0, -0.0, 1e-6) && !almost_equal(0.0, 1e-9, 1e-6));
    }
}
