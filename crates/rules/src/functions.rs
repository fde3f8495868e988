//! The functions of PromQL: those that are evaluated, and what is refused.

use std::fmt;

/// What an expression evaluates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// A number.
    Scalar,
    /// A text.
    Text,
    /// One value for each series.
    Vector,
    /// Samples over a range of time for each series.
    Matrix,
}

/// As Prometheus' documentation calls it.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Text => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        })
    }
}

/// A function that can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// As it is written.
    pub name: &'static str,
    /// The types of its arguments.
    pub args: &'static [Type],
    /// Whether the last of them may be left out or repeated.
    pub last: Last,
    /// What it gives.
    pub returns: Type,
}

/// How often a function's last argument stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// Once.
    Once,
    /// Once or not at all.
    Optional,
    /// As often as one likes.
    Repeated,
}

const fn function(name: &'static str, args: &'static [Type], last: Last, returns: Type) -> Function {
    Function { name, args, last, returns }
}

/// Of a vector, a vector.
const fn of_vector(name: &'static str) -> Function {
    function(name, &[Type::Vector], Last::Once, Type::Vector)
}

/// Of the samples of a range, a vector.
const fn of_range(name: &'static str) -> Function {
    function(name, &[Type::Matrix], Last::Once, Type::Vector)
}

/// Of a vector of times, or of the time of the evaluation.
const fn of_time(name: &'static str) -> Function {
    function(name, &[Type::Vector], Last::Optional, Type::Vector)
}

const NUMBER: Type = Type::Scalar;
const TEXT: Type = Type::Text;
const VECTOR: Type = Type::Vector;
const RANGE: Type = Type::Matrix;

/// All functions that are evaluated, by name.
pub const FUNCTIONS: &[Function] = &[
    of_vector("abs"),
    of_vector("absent"),
    of_range("absent_over_time"),
    of_vector("acos"),
    of_vector("acosh"),
    of_vector("asin"),
    of_vector("asinh"),
    of_vector("atan"),
    of_vector("atanh"),
    of_range("avg_over_time"),
    of_vector("ceil"),
    of_range("changes"),
    function("clamp", &[VECTOR, NUMBER, NUMBER], Last::Once, VECTOR),
    function("clamp_max", &[VECTOR, NUMBER], Last::Once, VECTOR),
    function("clamp_min", &[VECTOR, NUMBER], Last::Once, VECTOR),
    of_vector("cos"),
    of_vector("cosh"),
    of_range("count_over_time"),
    of_time("day_of_month"),
    of_time("day_of_week"),
    of_time("day_of_year"),
    of_time("days_in_month"),
    of_vector("deg"),
    of_range("delta"),
    of_range("deriv"),
    of_vector("exp"),
    of_range("first_over_time"),
    of_vector("floor"),
    function("histogram_fraction", &[NUMBER, NUMBER, VECTOR], Last::Once, VECTOR),
    function("histogram_quantile", &[NUMBER, VECTOR], Last::Once, VECTOR),
    of_time("hour"),
    of_range("idelta"),
    of_range("increase"),
    of_range("irate"),
    function("label_join", &[VECTOR, TEXT, TEXT, TEXT], Last::Repeated, VECTOR),
    function("label_replace", &[VECTOR, TEXT, TEXT, TEXT, TEXT], Last::Once, VECTOR),
    of_range("last_over_time"),
    of_vector("ln"),
    of_vector("log10"),
    of_vector("log2"),
    of_range("max_over_time"),
    of_range("min_over_time"),
    of_time("minute"),
    of_time("month"),
    function("pi", &[], Last::Once, NUMBER),
    function("predict_linear", &[RANGE, NUMBER], Last::Once, VECTOR),
    of_range("present_over_time"),
    function("quantile_over_time", &[NUMBER, RANGE], Last::Once, VECTOR),
    of_vector("rad"),
    of_range("rate"),
    of_range("resets"),
    function("round", &[VECTOR, NUMBER], Last::Optional, VECTOR),
    function("scalar", &[VECTOR], Last::Once, NUMBER),
    of_vector("sgn"),
    of_vector("sin"),
    of_vector("sinh"),
    of_vector("sort"),
    of_vector("sort_desc"),
    of_vector("sqrt"),
    of_range("stddev_over_time"),
    of_range("stdvar_over_time"),
    of_range("sum_over_time"),
    of_vector("tan"),
    of_vector("tanh"),
    function("time", &[], Last::Once, NUMBER),
    of_vector("timestamp"),
    function("vector", &[NUMBER], Last::Once, VECTOR),
    of_time("year"),
];

/// Why something of PromQL is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Prometheus itself wants a feature flag for it.
    Experimental,
    /// It is about native histograms; samples here are numbers.
    NativeHistogram,
    /// Rules are evaluated at the present: a fixed time would lie outside of what is kept.
    FixedTime,
    /// Prometheus has dropped it.
    Removed,
    /// Another program's extension of PromQL.
    Foreign,
    /// Texts are UTF-8 here, and may be any bytes in Prometheus.
    Bytes,
    /// Our regular expressions are smaller.
    Regex,
}

/// As the rest of a sentence on what is refused.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Experimental => "is experimental in Prometheus, and not evaluated here",
            Self::NativeHistogram => "is about native histograms, and only numbers are evaluated here",
            Self::FixedTime => "is not evaluated here: rules look back from the present, with offset",
            Self::Removed => "is no longer in Prometheus, and not evaluated here",
            Self::Foreign => "is no PromQL of Prometheus, and not evaluated here",
            Self::Bytes => "is not evaluated here: texts are UTF-8",
            Self::Regex => "is not evaluated here: regular expressions know the letters of ASCII only",
        })
    }
}

/// What [`NOT_UTF8`] says of [`REFUSED`].
pub(crate) const NOT_UTF8: &str = "string that is not UTF-8";

/// All of PromQL that is refused when it is read: functions, aggregations and other constructs, and why.
pub const REFUSED: &[(&str, Reason)] = &[
    // Functions.
    ("double_exponential_smoothing", Reason::Experimental),
    ("end", Reason::Experimental),
    ("histogram_avg", Reason::NativeHistogram),
    ("histogram_count", Reason::NativeHistogram),
    ("histogram_quantiles", Reason::Experimental),
    ("histogram_stddev", Reason::NativeHistogram),
    ("histogram_stdvar", Reason::NativeHistogram),
    ("histogram_sum", Reason::NativeHistogram),
    ("holt_winters", Reason::Removed),
    ("info", Reason::Experimental),
    ("mad_over_time", Reason::Experimental),
    ("max_of", Reason::Experimental),
    ("min_of", Reason::Experimental),
    ("range", Reason::Experimental),
    ("sort_by_label", Reason::Experimental),
    ("sort_by_label_desc", Reason::Experimental),
    ("start", Reason::Experimental),
    ("start_timestamp", Reason::Experimental),
    ("step", Reason::Experimental),
    ("ts_of_first_over_time", Reason::Experimental),
    ("ts_of_last_over_time", Reason::Experimental),
    ("ts_of_max_over_time", Reason::Experimental),
    ("ts_of_min_over_time", Reason::Experimental),
    // Aggregations.
    ("limit_ratio", Reason::Experimental),
    ("limitk", Reason::Experimental),
    // Operators and modifiers.
    ("@", Reason::FixedTime),
    ("anchored", Reason::Experimental),
    ("smoothed", Reason::Experimental),
    ("fill", Reason::Experimental),
    ("fill_left", Reason::Experimental),
    ("fill_right", Reason::Experimental),
    ("</", Reason::NativeHistogram),
    (">/", Reason::NativeHistogram),
    (DURATION_ARITHMETIC, Reason::Experimental),
    (OR_IN_BRACES, Reason::Foreign),
    (NOT_UTF8, Reason::Bytes),
    (UNICODE_REGEX, Reason::Regex),
];

/// `\pL`; letters beyond ASCII with `(?i)`.
pub(crate) const UNICODE_REGEX: &str = "regular expression over Unicode's classes or cases";

/// `[5m * 2]`, `offset (1h)`.
pub(crate) const DURATION_ARITHMETIC: &str = "arithmetic with durations";

/// `{a="1" or b="2"}`, of VictoriaMetrics.
pub(crate) const OR_IN_BRACES: &str = "or inside braces";

/// The function of that name, if it is evaluated.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().and_then(|at| FUNCTIONS.get(at))
}

/// What is refused under that name, and why.
pub fn refused(name: &str) -> Option<(&'static str, Reason)> {
    REFUSED.iter().find(|(refused, _)| *refused == name).copied()
}
