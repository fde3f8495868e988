//! How Go writes numbers, and its `printf`.

use std::iter::Peekable;
use std::str::Chars;

use super::value::Val;
use crate::labels::Quoted;

/// No width and no precision is as large.
const MAX_WIDTH: usize = 1000;

/// A number by `%e`, `%f` or `%g`; without a precision with as many digits as tell it from its neighbours.
pub(super) fn float(value: f64, verb: char, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    match (verb, precision) {
        ('e', Some(precision)) => exponent(&format!("{value:.precision$e}")),
        ('e', None) => exponent(&format!("{value:e}")),
        ('f', Some(precision)) => format!("{value:.precision$}"),
        ('f', None) => format!("{value}"),
        (_, precision) => {
            let scientific = match precision {
                Some(precision) => format!("{value:.*e}", precision.max(1) - 1),
                None => format!("{value:e}"),
            };
            let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            let power: i32 = power.parse().unwrap_or_default();
            // Zeros at the end are no digits.
            let mantissa =
                if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
            let least = precision.map_or(6, |precision| i32::try_from(precision.max(1)).unwrap_or(i32::MAX));
            if power < -4 || power >= least {
                return exponent(&format!("{mantissa}e{power}"));
            }
            let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
            let behind = i32::try_from(digits).unwrap_or(i32::MAX) - 1 - power;
            format!("{value:.*}", usize::try_from(behind).unwrap_or(0))
        }
    }
}

/// At least two digits of exponent, with a sign.
fn exponent(text: &str) -> String {
    let (mantissa, power) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = power.strip_prefix('-').map_or(('+', power), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Flags, width and precision of a verb.
#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// Go's `Sprintf`. What does not fit is said within the text, as Go does. `None` if the text grows too long.
pub(super) fn printf(format: &str, args: &[Val]) -> Option<String> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut rest = args.iter();
    while let Some(c) = chars.next() {
        if out.len() > super::MAX_OUTPUT {
            return None;
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '+' | '#' | ' ' | '0')) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
        }
        spec.width = number(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut chars));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match rest.next() {
            Some(value) => write(&mut out, &spec, verb, value),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    let extra = rest.as_slice();
    if !extra.is_empty() {
        out.push_str("%!(EXTRA ");
        for (at, value) in extra.iter().enumerate() {
            out.push_str(if at > 0 { ", " } else { "" });
            out.push_str(value.type_name());
            out.push('=');
            value.print(&mut out);
            if out.len() > super::MAX_OUTPUT {
                return None;
            }
        }
        out.push(')');
    }
    (out.len() <= super::MAX_OUTPUT).then_some(out)
}

/// Digits, if there are any.
fn number(chars: &mut Peekable<Chars<'_>>) -> usize {
    let mut number = 0;
    while let Some(digit) = chars.next_if(char::is_ascii_digit).and_then(|digit| digit.to_digit(10)) {
        number = (number * 10 + digit as usize).min(MAX_WIDTH);
    }
    number
}

fn write(out: &mut String, spec: &Spec, verb: char, value: &Val) {
    let text = match (verb, value) {
        ('T', value) => value.type_name().to_owned(),
        ('v', Val::Float(number)) => signed(spec, float(*number, 'g', spec.precision)),
        ('e' | 'f' | 'g' | 'E' | 'F' | 'G', Val::Float(number)) => {
            let lower = verb.to_ascii_lowercase();
            let precision = spec.precision.or(if lower == 'g' { None } else { Some(6) });
            let text = float(*number, lower, precision);
            // Only the exponent's letter is capital: `+Inf` stays.
            signed(spec, if matches!(verb, 'E' | 'G') { text.replace('e', "E") } else { text })
        }
        ('v' | 'd', Val::Int(number)) => signed(spec, digits(spec, number.to_string())),
        ('x', Val::Int(number)) => signed(spec, radix(*number, if spec.sharp { "0x" } else { "" }, 16)),
        ('X', Val::Int(number)) => {
            signed(spec, radix(*number, if spec.sharp { "0x" } else { "" }, 16).to_ascii_uppercase())
        }
        ('o', Val::Int(number)) => signed(spec, radix(*number, if spec.sharp { "0" } else { "" }, 8)),
        ('b', Val::Int(number)) => signed(spec, radix(*number, if spec.sharp { "0b" } else { "" }, 2)),
        ('c', Val::Int(number)) => {
            u32::try_from(*number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
        }
        ('s' | 'v', Val::Text(text)) => cut(spec, text).to_owned(),
        ('q', Val::Text(text)) => Quoted(cut(spec, text)).to_string(),
        ('x', Val::Text(text)) => cut(spec, text).bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Val::Text(text)) => cut(spec, text).bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('t' | 'v', Val::Bool(value)) => value.to_string(),
        ('v' | 's', Val::Labels(_))
        | ('v', Val::Sample(_) | Val::Samples(_) | Val::Map(_) | Val::Root)
        | ('v' | 's', Val::Time(_) | Val::List(_))
        | ('v', Val::Struct(_)) => {
            let mut text = String::new();
            value.print(&mut text);
            text
        }
        ('v', Val::Nil) => "<nil>".to_owned(),
        (verb, Val::Nil) => format!("%!{verb}(<nil>)"),
        (verb, value) => {
            let mut text = format!("%!{verb}({}=", value.type_name());
            value.print(&mut text);
            text.push(')');
            text
        }
    };
    let missing = spec.width.saturating_sub(text.chars().count());
    let number = matches!(value, Val::Float(number) if number.is_finite()) || matches!(value, Val::Int(_));
    if spec.minus {
        out.push_str(&text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else if spec.zero && number {
        let (sign, rest) = text.strip_prefix(['-', '+', ' ']).map_or(("", text.as_str()), |rest| (&text[..1], rest));
        out.push_str(sign);
        out.extend(std::iter::repeat_n('0', missing));
        out.push_str(rest);
    } else {
        out.extend(std::iter::repeat_n(if spec.zero && !matches!(value, Val::Float(_)) { '0' } else { ' ' }, missing));
        out.push_str(&text);
    }
}

fn signed(spec: &Spec, text: String) -> String {
    match () {
        () if text.starts_with(['-', '+']) => text,
        () if spec.plus => format!("+{text}"),
        () if spec.space => format!(" {text}"),
        () => text,
    }
}

/// A whole number's precision is the least count of its digits.
fn digits(spec: &Spec, text: String) -> String {
    let Some(precision) = spec.precision else { return text };
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    format!("{sign}{digits:0>precision$}")
}

fn radix(number: i64, prefix: &str, radix: u64) -> String {
    let mut left = number.unsigned_abs();
    let mut digits = Vec::new();
    while left > 0 || digits.is_empty() {
        digits.push(char::from_digit((left % radix) as u32, radix as u32).unwrap_or('?'));
        left /= radix;
    }
    let digits: String = digits.iter().rev().collect();
    format!("{}{prefix}{digits}", if number < 0 { "-" } else { "" })
}

/// A text's precision is its longest length in characters.
fn cut<'a>(spec: &Spec, text: &'a str) -> &'a str {
    let end = spec.precision.and_then(|precision| text.char_indices().nth(precision));
    end.map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_does() {
        for (value, text) in [
            (1.0, "1"),
            (0.0, "0"),
            (-0.5, "-0.5"),
            (123_456.0, "123456"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (1e21, "1e+21"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (97.333_333_333_333_33, "97.33333333333333"),
        ] {
            assert_eq!(float(value, 'g', None), text);
        }
        for (value, text) in [
            (97.333, "97.33"),
            (1000.0, "1000"),
            (12_345.0, "1.234e+04"),
            (99_999.0, "1e+05"),
            (0.000_123_456, "0.0001235"),
            (0.000_012_345_6, "1.235e-05"),
            (0.0, "0"),
            (50.0, "50"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(float(value, 'g', Some(4)), text);
        }
    }

    #[test]
    fn printf_says_within_the_text_what_does_not_fit() {
        let printf = |format: &str, args: &[Val]| printf(format, args).unwrap();
        let (half, five, name) = (Val::Float(0.5), Val::Int(5), Val::text("sda"));
        assert_eq!(printf("%.2f%% of %s", &[half.clone(), name.clone()]), "0.50% of sda");
        assert_eq!(
            printf("%5d|%-5d|%05d|%+d", &[five.clone(), five.clone(), five.clone(), five.clone()]),
            "    5|5    |00005|+5"
        );
        assert_eq!(printf("%q %10.2s|", &[name.clone(), name.clone()]), "\"sda\"         sd|");
        assert_eq!(
            printf("%e %g %v %.3g", &[half.clone(), half.clone(), half.clone(), Val::Float(1234.5)]),
            "5.000000e-01 0.5 0.5 1.23e+03"
        );
        assert_eq!(printf("%d", std::slice::from_ref(&half)), "%!d(float64=0.5)");
        assert_eq!(printf("%s", std::slice::from_ref(&half)), "%!s(float64=0.5)");
        assert_eq!(printf("%f", std::slice::from_ref(&five)), "%!f(int=5)");
        assert_eq!(printf("%d %s", std::slice::from_ref(&five)), "5 %!s(MISSING)");
        assert_eq!(printf("a", &[five.clone(), name.clone()]), "a%!(EXTRA int=5, string=sda)");
        assert_eq!(printf("100%", &[]), "100%!(NOVERB)");
        assert_eq!(
            printf("%x %X %#x %t %c %T", &[five.clone(), name, Val::Int(255), Val::Bool(true), Val::Int(65), half]),
            "5 736461 0xff true A float64"
        );
        assert_eq!(
            printf("%06.2f|%6.1f|%-8.1f|%+.1f", &[-1.5, 2.25, 3.0, 4.0].map(Val::Float)),
            "-01.50|   2.2|3.0     |+4.0"
        );
    }
}
