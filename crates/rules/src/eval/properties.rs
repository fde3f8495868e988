//! What holds for whatever expression: seeded random ones over series with nasty values.

use std::cell::RefCell;

use super::*;
use crate::functions::{FUNCTIONS, Last, Type};
use crate::needs::{Need, needs};
use crate::sample::STALE;
use crate::testing::Memory;

const MINUTE: Millis = 60_000;
/// Evaluations happen then: a multiple of each step below.
const NOW: Millis = 60 * MINUTE;

/// Xorshift: enough to choose by.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn storage(&mut self) -> Memory {
        let mut memory = Memory::new();
        for name in ["a", "b_total", "h_bucket"] {
            for host in ["1", "2"] {
                for le in ["", "0.5", "2", "+Inf", "x"] {
                    if self.below(3) == 0 {
                        continue;
                    }
                    let labels = Labels::new([(NAME, name), ("host", host), ("le", le)]);
                    let mut time = -(self.below(100_000) as Millis);
                    while time < NOW + 10 * MINUTE {
                        let nasty = [f64::NAN, STALE, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, 5e-324, -1.0];
                        let value = match self.below(40) {
                            nice @ 8.. => (nice * self.below(100)) as f64 / 4.0,
                            nasty_one => nasty[nasty_one],
                        };
                        memory.add(&labels, Sample { time, value });
                        time += 1 + self.below(90_000) as Millis;
                    }
                }
            }
        }
        memory
    }

    fn selector(&mut self) -> String {
        let name = self.of(&["a", "b_total", "h_bucket", "{__name__=~\"a|b_total\"}", "a{host=\"1\"}", "nothing"]);
        name.to_owned()
    }

    fn offset(&mut self) -> &'static str {
        self.of(&["", "", "", " offset 1m", " offset -3m", " offset 7m13s"])
    }

    fn number(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 2 } else { 5 }) {
            0 => self.of(&["0", "1", "-2.5", "NaN", "Inf", "-Inf", "0.9", "1e300"]).to_owned(),
            1 => self.of(&["time()", "pi()", "3600"]).to_owned(),
            2 => format!("scalar({})", self.vector(depth - 1)),
            _ => {
                let op = self.of(&["+", "-", "*", "/", "%", "^", "== bool", "< bool"]);
                format!("({} {op} {})", self.number(depth - 1), self.number(depth - 1))
            }
        }
    }

    fn range(&mut self, depth: usize) -> String {
        let range = self.of(&["1m", "5m", "1m30s", "17m"]);
        if depth == 0 || self.below(2) == 0 {
            return format!("{}[{range}]{}", self.selector(), self.offset());
        }
        let step = self.of(&["", "30s", "1m", "2m"]);
        format!("({})[{range}:{step}]{}", self.vector(depth - 1), self.offset())
    }

    fn vector(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 1 } else { 9 }) {
            0 => format!("{}{}", self.selector(), self.offset()),
            1 => {
                let op = self.of(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
                format!("{op}{}({})", self.grouping(), self.vector(depth - 1))
            }
            2 => {
                let op = self.of(&["topk", "bottomk", "quantile"]);
                format!("{op}{}({}, {})", self.grouping(), self.of(&["0.3", "2"]), self.vector(depth - 1))
            }
            3 => format!("count_values{}(\"v\", {})", self.grouping(), self.vector(depth - 1)),
            4 => {
                let op = self.of(&["and", "or", "unless", "+", "/", "%", "^", "atan2", "==", "<", ">= bool", "!="]);
                let matching = self.of(&["", "on (host)", "ignoring (le)", "on ()"]);
                let group = match op {
                    "and" | "or" | "unless" => "",
                    _ if matching.is_empty() => "",
                    _ => self.of(&["", "group_left ()", "group_right (le)"]),
                };
                format!("({} {op} {matching} {group} {})", self.vector(depth - 1), self.vector(depth - 1))
            }
            5 => {
                let op = self.of(&["+", "-", "/", "%", "==", "<", "> bool"]);
                if self.below(2) == 0 {
                    format!("({} {op} {})", self.vector(depth - 1), self.number(depth - 1))
                } else {
                    format!("({} {op} -{})", self.number(depth - 1), self.vector(depth - 1))
                }
            }
            _ => self.call(depth - 1),
        }
    }

    fn grouping(&mut self) -> &'static str {
        self.of(&["", " by (host)", " without (le)", " by (le, __name__)", " without ()"])
    }

    /// Any function that gives a vector.
    fn call(&mut self, depth: usize) -> String {
        let functions: Vec<_> = FUNCTIONS.iter().filter(|function| function.returns == Type::Vector).collect();
        let function = functions[self.below(functions.len())];
        match function.name {
            "label_replace" => {
                let target = self.of(&["x", "__name__", "host"]);
                return format!("label_replace({}, \"{target}\", \"$1y\", \"host\", \"(.*)\")", self.vector(depth));
            }
            "label_join" => {
                let target = self.of(&["x", "__name__", "host"]);
                return format!("label_join({}, \"{target}\", \"-\", \"host\", \"le\")", self.vector(depth));
            }
            _ => {}
        }
        let optional = function.last == Last::Optional && self.below(2) == 0;
        let count = function.args.len() - usize::from(optional);
        let args: Vec<String> = function.args[..count].iter().map(|kind| self.arg(*kind, depth)).collect();
        format!("{}({})", function.name, args.join(", "))
    }

    fn arg(&mut self, kind: Type, depth: usize) -> String {
        match kind {
            Type::Scalar => self.number(depth),
            Type::Vector => self.vector(depth),
            Type::Matrix => self.range(depth),
            Type::Text => "\"x\"".to_owned(),
        }
    }
}

/// A storage that notes how far back it was asked.
struct Watched<'a> {
    memory: &'a Memory,
    asked: RefCell<Vec<(Selector, Millis)>>,
}

impl Storage for Watched<'_> {
    fn series(&self, selector: &Selector, after: Millis, until: Millis, most: usize) -> Vec<Series> {
        self.asked.borrow_mut().push((selector.clone(), after));
        self.memory.series(selector, after, until, most)
    }
}

/// As text, so that NaN equals NaN, and in no order.
fn said(result: &Result<Value, EvalError>) -> Vec<String> {
    let mut lines = match result {
        Ok(Value::Vector(vector)) => vector.iter().map(|(labels, value)| format!("{labels} {value:?}")).collect(),
        other => vec![format!("{other:?}")],
    };
    lines.sort();
    lines
}

#[test]
fn whatever_is_evaluated_is_the_same_alone_and_in_a_subquery_and_reads_what_it_needs() {
    let mut random = Random(0x5eed);
    let (mut values, mut errors) = (0, 0);
    for round in 0..60 {
        let memory = random.storage();
        for _ in 0..50 {
            let text = random.vector(3);
            let expr = crate::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let options = Options { delayed_name_removal: round % 2 == 0, ..Options::default() };
            let watched = Watched { memory: &memory, asked: RefCell::default() };
            let result = evaluate(&expr, &watched, NOW, &options);
            let needs = needs(&expr);
            for (selector, after) in watched.asked.take() {
                let enough = |need: &Need| need.selector.matchers == selector.matchers && NOW - after <= need.back;
                assert!(after >= NOW || needs.iter().any(enough), "{text}: {selector:?} from {}", NOW - after);
            }
            assert_eq!(said(&result), said(&evaluate(&expr, &memory, NOW, &options)), "{text}");
            match &result {
                Ok(Value::Vector(vector)) => values += usize::from(!vector.is_empty()),
                Ok(other) => panic!("{text}: {other:?}"),
                Err(EvalError::Bug(bug)) => panic!("{text}: {bug}"),
                Err(_) => errors += 1,
            }
            // Samples are read in another way there, and no other step changes anything.
            let alone = crate::parse(&format!("last_over_time(({text})[1m:1m])")).unwrap();
            assert_eq!(said(&result), said(&evaluate(&alone, &memory, NOW, &options)), "{text}");
        }
    }
    assert!(values > 1000 && errors > 100, "{values} with values, {errors} with errors");
}
