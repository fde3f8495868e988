//! What parses, to which tree, and what is refused with which words.

mod random;

use super::*;
use crate::ast::Kind;
use crate::functions::{FUNCTIONS, Last, REFUSED, Type, find, refused};

/// The tree with a bracket around every operator.
fn shape(expr: &Expr) -> String {
    match &expr.kind {
        Kind::Binary(binary) => format!("<{} {} {}>", shape(&binary.left), binary.op.as_str(), shape(&binary.right)),
        Kind::Negated(inner) => format!("<-{}>", shape(inner)),
        Kind::Paren(inner) => format!("({})", shape(inner)),
        _ => expr.to_string(),
    }
}

fn refusal(text: &str) -> ParseError {
    match parse(text) {
        Err(error) => error,
        Ok(expr) => panic!("{text:?} gives {expr}"),
    }
}

#[test]
fn operators_bind_as_in_prometheus() {
    for (text, wanted) in [
        ("1 + 2 * 3 - 4", "<<1 + <2 * 3>> - 4>"),
        ("1 / 2 % 3 atan2 4 * 5", "<<<<1 / 2> % 3> atan2 4> * 5>"),
        ("2 ^ 3 ^ 4 * 5", "<<2 ^ <3 ^ 4>> * 5>"),
        ("-1 ^ 2", "<-<1 ^ 2>>"),
        ("-a * b + -c", "<<<-a> * b> + <-c>>"),
        ("2 ^ -a ^ b * c", "<<2 ^ <-<a ^ b>>> * c>"),
        ("a or b and c unless d or e", "<<a or <<b and c> unless d>> or e>"),
        ("a == bool b + 1 > c", "<<a == <b + 1>> > c>"),
        ("a > 1 and b < 2", "<<a > 1> and <b < 2>>"),
        ("- - a", "<-<-a>>"),
        ("--1", "1"),
        ("-+-+1", "1"),
        ("+a", "a"),
        ("-(1)", "<-(1)>"),
        ("-a offset 5m", "<-a offset 5m>"),
        ("a + b[5m:] offset 1m", ""),
        ("a offset -2 ^ 2", "<a offset -2s ^ 2>"),
        ("1 - -1", "<1 - -1>"),
        ("+Inf - -iNf", "<+Inf - -Inf>"),
    ] {
        if wanted.is_empty() {
            assert!(refusal(text).message.starts_with("binary expression must contain only"), "{text}");
        } else {
            assert_eq!(shape(&parse(text).unwrap()), wanted, "{text}");
        }
    }
}

#[test]
fn all_of_the_language_parses_and_prints() {
    for (text, wanted) in [
        ("up", "up"),
        ("job:x:sum", "job:x:sum"),
        (":x", ":x"),
        ("up{}", "up"),
        ("up { job = \"a\" , } # why\n", "up{job=\"a\"}"),
        ("{__name__=\"up\"}", "up"),
        ("{\"up\", a!='b'}", "up{a!=\"b\"}"),
        ("{\"my.metric\", \"my.label\"=~`x\\d+`}", "{__name__=\"my.metric\",\"my.label\"=~\"x\\\\d+\"}"),
        ("{__name__=~\"a.*\",__name__!~\"b\"}", "{__name__=~\"a.*\",__name__!~\"b\"}"),
        ("{__name__=\"bool\"}", "{__name__=\"bool\"}"),
        ("{sum=\"1\",by=\"2\",nan=\"3\"}", "{sum=\"1\",by=\"2\",nan=\"3\"}"),
        ("SUM BY (Job) (up)", "sum by (Job) (up)"),
        ("sum(up) without (a, b,)", "sum without (a, b) (up)"),
        ("sum by () (up)", "sum(up)"),
        ("sum by (\"a.b\", offset, bool, on) (up)", "sum by (\"a.b\", offset, bool, on) (up)"),
        ("topk by (a) (3, up)", "topk by (a) (3, up)"),
        ("count_values(\"v\", up)", "count_values(\"v\", up)"),
        ("quantile(.9, up)", "quantile(0.9, up)"),
        ("sum+avg{a=\"b\"}+by+without+offset offset 1m", "sum + avg{a=\"b\"} + by + without + offset offset 1m"),
        ("and and or unless unless", "and and or unless unless"),
        ("start + end + step + range + fill + fill_left", "start + end + step + range + fill + fill_left"),
        ("a * on (x) group_left b", "a * on (x) group_left () b"),
        ("a * ignoring (x) group_right (y) b", "a * ignoring (x) group_right (y) b"),
        ("a + on () b", "a + on () b"),
        ("a + ignoring () b", "a + b"),
        ("a + on () 1", "a + 1"),
        ("1 == bool 2", "1 == bool 2"),
        ("rate(a[1h30m])", "rate(a[1h30m])"),
        ("rate(a[300] offset -5400)", "rate(a[5m] offset -1h30m)"),
        ("rate(a[0x1e])", "rate(a[30s])"),
        ("a offset - -5m", "a offset 5m"),
        ("max_over_time(rate(a[5m])[1h:30s] offset 1w)", "max_over_time(rate(a[5m])[1h:30s] offset 1w)"),
        ("max_over_time(a offset 5m[1h:])", "max_over_time(a offset 5m[1h:])"),
        ("max_over_time((a > 1)[ 90d : ])", "max_over_time((a > 1)[90d:])"),
        ("time() - 5m", "time() - 300"),
        ("\"a\\x41\\u00e9\\n\\\"\"", "\"aA\u{e9}\\n\\\"\""),
        ("'it\\'s'", "\"it's\""),
        ("`\\n`", "\"\\\\n\""),
        ("round(a)", "round(a)"),
        ("round(a, 5)", "round(a, 5)"),
        ("label_join(a, \"b\", \",\")", "label_join(a, \"b\", \",\")"),
        ("label_join(a, \"b\", \",\", \"c\", \"d\")", "label_join(a, \"b\", \",\", \"c\", \"d\")"),
        ("hour() + hour(vector(time()))", "hour() + hour(vector(time()))"),
    ] {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expr.to_string(), wanted, "{text}");
        let again = parse(wanted).unwrap_or_else(|error| panic!("{wanted}: {error}"));
        assert_eq!(again.to_string(), wanted);
    }
}

#[test]
fn numbers_are_read_as_go_does() {
    for (text, wanted) in [
        ("1", 1.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("1e3", 1000.0),
        ("1.5E-3", 0.0015),
        ("1.e+2", 100.0),
        ("0x1F", 31.0),
        ("0x_1f", 31.0),
        ("1_000_000", 1e6),
        ("010", 8.0),
        ("08", 8.0),
        ("007.5", 7.5),
        ("9223372036854775807", 9_223_372_036_854_775_807.0),
        ("1e308", 1e308),
        ("inf", f64::INFINITY),
        ("1h1ms", 3600.001),
        ("5m", 300.0),
    ] {
        assert_eq!(parse(text).unwrap().kind, Kind::Number(wanted), "{text}");
    }
    assert!(matches!(parse("NaN").unwrap().kind, Kind::Number(number) if number.is_nan()));
    for text in ["1_", "1__0", "1e", "1e999", "1..2", "1.2.3", "0x", "0xg", "0b1", "5a", "1_e5", "0x1.8", "1.5h", "1h5"]
    {
        assert_eq!(refusal(text).kind, ParseErrorKind::Syntax, "{text}");
    }
}

#[test]
fn places_count_lines_and_characters() {
    let text = "sum(\n  rate(\"\u{e9}\u{e9}\", up)\n)";
    let error = refusal(text);
    assert_eq!(
        (error.message.as_str(), error.line_column(text)),
        ("expected 1 argument(s) in call to \"rate\", got 2", (2, 3))
    );
    let text = "\"\u{e9}\u{e9}\" !";
    assert_eq!(refusal(text).line_column(text), (1, 6));
    assert_eq!(parse("1 + rate( a [5m] )").unwrap().span, 0..18);
}

#[test]
fn faults_are_told_with_their_place() {
    use ParseErrorKind::{Syntax, Type};
    for (text, kind, at, message) in [
        ("", Syntax, 0, "no expression found in input"),
        ("# only", Syntax, 0, "no expression found in input"),
        ("1 +", Syntax, 3, "unexpected end of input"),
        ("a b", Syntax, 2, "unexpected identifier \"b\""),
        ("a + on b", Syntax, 7, "unexpected identifier \"b\" in grouping opts, expected \"(\""),
        ("a + group_left b", Syntax, 4, "unexpected identifier \"group_left\""),
        ("(a", Syntax, 2, "unclosed left parenthesis"),
        ("a)", Syntax, 1, "unexpected right parenthesis ')'"),
        ("a{", Syntax, 2, "unexpected end of input inside braces"),
        ("a{b}", Syntax, 3, "unexpected \"}\" in label matching, expected label matching operator"),
        ("a{b=c}", Syntax, 4, "unexpected identifier \"c\" in label matching, expected string"),
        ("a{b=\"c\" d=\"e\"}", Syntax, 8, "unexpected identifier \"d\" in label matching, expected \",\" or \"}\""),
        ("a[5m", Syntax, 4, "unclosed left bracket"),
        ("a[]", Syntax, 2, "unexpected \"]\" in subquery or range selector, expected number or duration"),
        ("a[0s]", Syntax, 2, "duration must be greater than 0"),
        ("a[-5m]", Syntax, 2, "duration must be greater than 0"),
        ("a[1m5h]", Syntax, 2, "not a valid duration string: \"1m5h\""),
        ("rate(a)[5m]", Syntax, 7, "ranges only allowed for vector selectors"),
        ("a offset 1m[5m]", Syntax, 11, "no offset modifiers allowed before range"),
        ("a offset b", Syntax, 9, "unexpected identifier \"b\" in offset, expected number or duration"),
        ("a offset 1m offset 2m", Syntax, 19, "offset may not be set multiple times"),
        ("\"abc", Syntax, 0, "unterminated quoted string"),
        ("'a\nb'", Syntax, 0, "unterminated quoted string"),
        (
            "\"a\\q\"",
            Syntax,
            2,
            "unknown escape sequence \\q in a string: write \\\\ for a backslash, or put the string between ` and `",
        ),
        ("a =~ b", Syntax, 2, "unexpected character after '=': '~'"),
        ("a \u{b7} b", Syntax, 2, "unexpected character: '\u{b7}'"),
        ("foo(a)", Syntax, 0, "unknown function with name \"foo\""),
        ("Rate(a[5m])", Syntax, 0, "unknown function with name \"Rate\""),
        ("sum()", Syntax, 0, "no arguments for aggregate expression provided"),
        ("topk(a)", Syntax, 0, "wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("abs(a,)", Syntax, 5, "trailing commas not allowed in function call args"),
        ("sum by (a,,) (b)", Syntax, 10, "unexpected \",\" in grouping opts, expected label"),
        ("{}", Type, 0, "vector selector must contain at least one non-empty matcher"),
        ("1 + {a=~\".*\"}", Type, 4, "vector selector must contain at least one non-empty matcher"),
        ("a{__name__=\"b\"}", Type, 0, "metric name must not be set twice: \"a\" or \"b\""),
        ("rate(a)", Type, 5, "expected type range vector in call to function \"rate\", got instant vector"),
        ("sum(a[5m])", Type, 4, "expected type instant vector in aggregation expression, got range vector"),
        ("topk(a, a)", Type, 5, "expected type scalar in aggregation parameter, got instant vector"),
        ("round()", Type, 0, "expected at least 1 argument(s) in call to \"round\", got 0"),
        ("hour(a, a)", Type, 0, "expected at most 1 argument(s) in call to \"hour\", got 2"),
        ("1 == 2", Type, 1, "comparisons between scalars must use BOOL modifier"),
        ("a + bool b", Type, 1, "bool modifier can only be used on comparison operators"),
        ("a and 1", Type, 0, "set operator \"and\" not allowed in binary scalar expression"),
        ("a + on (b) 1", Type, 0, "vector matching only allowed between instant vectors"),
        ("a and on (b) group_left c", Type, 0, "no grouping allowed for \"and\" operation"),
        ("a * on (b) group_left (b) c", Type, 1, "label \"b\" must not occur in ON and GROUP clause at once"),
        ("a + \"b\"", Type, 4, "binary expression must contain only scalar and instant vector types"),
        (
            "+\"a\"",
            Type,
            0,
            "unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
        ),
        (
            "-a[5m]",
            Type,
            0,
            "unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
        ),
        ("a[5m][5m:]", Type, 0, "subquery is only allowed on instant vector, got range vector instead"),
    ] {
        let error = refusal(text);
        assert_eq!((error.kind, error.span.start, error.message.as_str()), (kind, at, message), "{text}");
        assert!(error.span.end <= text.len() && error.construct.is_none(), "{text}");
    }
    assert!(refusal("a{b=~\"(\"}").message.starts_with("the regular expression \"(\" can't be used: "));
}

/// An example of everything that is refused.
const EXAMPLES: [(&str, &str); 14] = [
    ("limit_ratio", "sum(limit_ratio by (a) (0.5, a))"),
    ("limitk", "LIMITK(1, a)"),
    ("@", "a @ 1609746000"),
    ("anchored", "rate(a[5m] anchored)"),
    ("smoothed", "rate(a[5m] smoothed)"),
    ("fill", "a + on (b) fill (0) c"),
    ("fill_left", "a + fill_left(0) c"),
    ("fill_right", "a + fill_right (0) c"),
    ("</", "a </ 5"),
    (">/", "a >/ 5"),
    ("arithmetic with durations", "rate(a[5m * 2])"),
    ("or inside braces", "a{b=\"c\" or d=\"e\"}"),
    ("string that is not UTF-8", "\"\\xff\""),
    ("regular expression over Unicode's classes or cases", "a{b=~\"\\\\pL+\"}"),
];

#[test]
fn what_is_refused_is_named() {
    for (construct, reason) in REFUSED {
        let example = EXAMPLES.iter().find(|(named, _)| named == construct);
        let text = example.map_or(format!("1 + {construct}(a)"), |(_, text)| (*text).to_owned());
        let error = refusal(&text);
        assert_eq!((error.kind, error.construct), (ParseErrorKind::Unsupported, Some(*construct)), "{text}");
        assert!(error.message.contains(&reason.to_string()) || example.is_some(), "{}", error.message);
        assert!(find(construct).is_none(), "{construct} is refused and evaluated");
    }
    for text in ["a[step()]", "a offset (5m)", "a offset -(5m)", "a[5m+1m]", "a[5m:1m^2]", "a offset max_of(1m, 2m)"] {
        assert_eq!(refusal(text).construct, Some("arithmetic with durations"), "{text}");
    }
}

/// All functions of Prometheus 3.14 (`promql/parser/functions.go`), and two that it had.
const ALL: &str = "
    abs absent absent_over_time acos acosh asin asinh atan atanh avg_over_time ceil changes clamp clamp_max
    clamp_min cos cosh count_over_time day_of_month day_of_week day_of_year days_in_month deg delta deriv
    double_exponential_smoothing end exp first_over_time floor histogram_avg histogram_count histogram_fraction
    histogram_quantile histogram_quantiles histogram_stddev histogram_stdvar histogram_sum holt_winters hour idelta
    increase info irate label_join label_replace last_over_time ln log10 log2 mad_over_time max_of max_over_time
    min_of min_over_time minute month pi predict_linear present_over_time quantile_over_time rad range rate resets
    round scalar sgn sin sinh sort sort_by_label sort_by_label_desc sort_desc sqrt start start_timestamp
    stddev_over_time stdvar_over_time step sum_over_time tan tanh time timestamp ts_of_first_over_time
    ts_of_last_over_time ts_of_max_over_time ts_of_min_over_time vector year
";

#[test]
fn every_function_is_evaluated_or_refused() {
    assert!(FUNCTIONS.is_sorted_by_key(|function| function.name), "functions are found by their order");
    let all: Vec<&str> = ALL.split_whitespace().collect();
    for name in &all {
        assert!(find(name).is_some() != refused(name).is_some(), "{name} must be in one of the two lists");
    }
    for function in FUNCTIONS {
        assert!(all.contains(&function.name), "{} is no function of PromQL", function.name);
        let args: Vec<&str> = function
            .args
            .iter()
            .map(|arg| match arg {
                Type::Scalar => "1",
                Type::Text => "\"a\"",
                Type::Vector => "a",
                Type::Matrix => "a[5m]",
            })
            .collect();
        let call = |args: &[&str]| format!("{}({})", function.name, args.join(", "));
        assert_eq!(parse(&call(&args)).unwrap().to_string(), call(&args));
        let more = [args.as_slice(), &["1"]].concat();
        assert_eq!(refusal(&call(&more)).kind, ParseErrorKind::Type, "{}", function.name);
        if let Some((_, fewer)) = args.split_last() {
            assert_eq!(parse(&call(fewer)).is_ok(), function.last != Last::Once, "{}", function.name);
        }
    }
}

#[test]
fn nasty_inputs_are_refused_soon() {
    let deep = |open: &str, close: &str, levels: usize| format!("{}a{}", open.repeat(levels), close.repeat(levels));
    for text in [
        "a".repeat(1 << 20),
        deep("(", ")", 50_000),
        "(".repeat(50_000),
        "-".repeat(50_000),
        deep("-(", ")", 20_000),
        deep("abs(", ")", 10_000),
        deep("sum by (x) (", ")", 5_000),
        "a+".repeat(30_000) + "a",
        "a^".repeat(30_000) + "a",
        "1".to_owned() + "[5m:]".repeat(10_000).as_str(),
        format!("a{{{}}}", "b=~\"(.{20}){20}\",".repeat(3_000)),
        format!("a + a{{{}", "b=\"c\",".repeat(5_000)),
        "1e".repeat(30_000),
        "\\".repeat(60_000),
        "\"\\".repeat(30_000),
        "{".repeat(60_000),
    ] {
        let error = refusal(&text);
        assert!(error.message.len() < 500, "{}", error.message);
        assert!(error.span.start <= error.span.end && error.span.end <= text.len());
    }
    for levels in [MAX_DEPTH - 1, MAX_DEPTH] {
        for text in
            [deep("(", ")", levels), deep("-", "", levels), "a+".repeat(levels) + "a", "a^".repeat(levels) + "a"]
        {
            let parsed = parse(&text);
            if levels < MAX_DEPTH {
                assert_eq!(parse(&parsed.unwrap().to_string()).map(|expr| crate::needs(&expr).len()), Ok(1), "{text}");
            } else {
                assert_eq!(parsed.unwrap_err().kind, ParseErrorKind::TooLarge, "{text}");
            }
        }
    }
}
