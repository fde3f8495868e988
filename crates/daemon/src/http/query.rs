/// The names and values of a query, decoded: `collect%5B%5D=cpu&x` is `("collect[]", "cpu")` and `("x", "")`. What is no
/// escape stays as it is, and bytes that are not UTF-8 become replacement characters.
pub fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        out.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_what_is_none_stays() {
        let all = |query| pairs(query).collect::<Vec<_>>();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(all("collect%5B%5D=cpu&collect[]=a+b%2b"), [pair("collect[]", "cpu"), pair("collect[]", "a b+")]);
        assert_eq!(all("&&x&y=&=z&a=b=c"), [pair("x", ""), pair("y", ""), pair("", "z"), pair("a", "b=c")]);
        assert_eq!(all("%=%4&%zz=%ff%c3%a9"), [pair("%", "%4"), pair("%zz", "\u{fffd}é")]);
        assert_eq!(all(""), []);
    }
}
