//! As much of D-Bus' message format as asking systemd needs: method calls out, replies in.
//!
//! The format is that of the D-Bus specification, "Message Protocol": values are aligned to their size from the
//! message's start, texts carry their length and a byte 0. Types that no answer of interest holds are not read.

/// No answer is larger in earnest: a unit takes some 300 bytes of the list.
pub(super) const MAX_MESSAGE: usize = 16 << 20;
/// The part of the header whose length is fixed: everything up to the length of the field array.
pub(super) const FIXED_HEADER: usize = 16;

const LITTLE_ENDIAN: u8 = b'l';
const BIG_ENDIAN: u8 = b'B';
const PROTOCOL_VERSION: u8 = 1;
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

const FIELD_PATH: u8 = 1;
const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_DESTINATION: u8 = 6;
const FIELD_SIGNATURE: u8 = 8;

/// A message is not what the format says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a D-Bus message {0}")]
pub struct WireError(&'static str);

impl WireError {
    /// A message of the right form that is not what was asked for.
    pub(super) fn unlike(what: &'static str) -> Self {
        Self(what)
    }
}

/// A method call whose arguments are texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call<'a> {
    /// The peer's name; `None` on a connection without a bus.
    pub(super) destination: Option<&'a str>,
    /// The object.
    pub(super) path: &'a str,
    /// The interface that has the method.
    pub(super) interface: &'a str,
    /// The method.
    pub(super) member: &'a str,
    /// What it is given.
    pub(super) arguments: &'a [&'a str],
}

impl Call<'_> {
    /// Appends the message to `out`.
    pub(super) fn write(&self, serial: u32, out: &mut Vec<u8>) {
        let start = out.len();
        let mut writer = Writer { out, start };
        writer.out.extend_from_slice(&[LITTLE_ENDIAN, METHOD_CALL, 0, PROTOCOL_VERSION]);
        let body_length = writer.u32(0);
        writer.u32(serial);
        let fields_length = writer.u32(0);
        let fields = writer.position();
        writer.field(FIELD_PATH, b'o', self.path);
        writer.field(FIELD_INTERFACE, b's', self.interface);
        writer.field(FIELD_MEMBER, b's', self.member);
        if let Some(destination) = self.destination {
            writer.field(FIELD_DESTINATION, b's', destination);
        }
        if !self.arguments.is_empty() {
            writer.align(8);
            writer.out.extend_from_slice(&[FIELD_SIGNATURE, 1, b'g', 0]);
            writer.out.push(self.arguments.len() as u8);
            writer.out.extend(self.arguments.iter().map(|_| b's'));
            writer.out.push(0);
        }
        writer.set(fields_length, writer.position() - fields);
        writer.align(8);
        let body = writer.position();
        for argument in self.arguments {
            writer.text(argument);
        }
        writer.set(body_length, writer.position() - body);
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl Writer<'_> {
    fn position(&self) -> usize {
        self.out.len() - self.start
    }

    fn align(&mut self, to: usize) {
        let position = self.position().next_multiple_of(to);
        self.out.resize(self.start + position, 0);
    }

    /// Where it stands is handed back.
    fn u32(&mut self, value: u32) -> usize {
        self.align(4);
        self.out.extend_from_slice(&value.to_le_bytes());
        self.out.len() - 4
    }

    fn set(&mut self, at: usize, value: usize) {
        self.out[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(0);
    }

    fn field(&mut self, code: u8, kind: u8, text: &str) {
        self.align(8);
        self.out.extend_from_slice(&[code, 1, kind, 0]);
        self.text(text);
    }
}

/// An answer, or something else that a bus sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// What a call returned.
    Return {
        /// Which call.
        serial: u32,
        /// What it returned.
        body: Reader<'a>,
    },
    /// A call failed.
    Error {
        /// Which call.
        serial: u32,
        /// `org.freedesktop.DBus.Error.…`
        name: &'a str,
    },
    /// A signal or a call: not for us.
    Other,
}

/// The length of the message that begins with these bytes; there are at least [`FIXED_HEADER`].
pub(super) fn message_length(header: &[u8]) -> Result<usize, WireError> {
    let mut reader = Reader::of_message(header)?;
    reader.skip(4)?;
    let body = reader.u32()? as usize;
    reader.u32()?;
    let fields = reader.u32()? as usize;
    let length =
        fields.checked_add(FIXED_HEADER).map(|end| end.next_multiple_of(8)).and_then(|end| end.checked_add(body));
    length.filter(|length| *length <= MAX_MESSAGE).ok_or(WireError("is larger than any answer of systemd's"))
}

/// Reads a whole message.
pub fn incoming(message: &[u8]) -> Result<Incoming<'_>, WireError> {
    if message_length(message)? != message.len() {
        return Err(WireError("has another length than it says"));
    }
    let mut reader = Reader::of_message(message)?;
    reader.skip(1)?;
    let kind = reader.u8()?;
    reader.skip(2)?;
    let body_length = reader.u32()? as usize;
    reader.u32()?;
    let fields_end = reader.u32()? as usize + FIXED_HEADER;
    let (mut serial, mut error, mut signature) = (None, None, "");
    while reader.at < fields_end {
        reader.align(8)?;
        let code = reader.u8()?;
        let value = reader.variant()?;
        match (code, value) {
            (FIELD_REPLY_SERIAL, Value::U32(value)) => serial = Some(value),
            (FIELD_ERROR_NAME, Value::Text(value)) => error = Some(value),
            (FIELD_SIGNATURE, Value::Text(value)) => signature = value,
            (FIELD_REPLY_SERIAL | FIELD_ERROR_NAME | FIELD_SIGNATURE, _) => {
                return Err(WireError("has a header field of the wrong type"));
            }
            _ => {}
        }
    }
    if reader.at != fields_end {
        return Err(WireError("has header fields beyond their end"));
    }
    reader.at = message.len() - body_length;
    reader.signature = signature;
    match (kind, serial, error) {
        (METHOD_RETURN, Some(serial), _) => Ok(Incoming::Return { serial, body: reader }),
        (ERROR, Some(serial), Some(name)) => Ok(Incoming::Error { serial, name }),
        (METHOD_RETURN | ERROR, ..) => Err(WireError("answers no call")),
        _ => Ok(Incoming::Other),
    }
}

/// A value of a simple type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A text, an object's path or a signature.
    Text(&'a str),
    /// A number of 32 bits, or a boolean.
    U32(u32),
    /// A number of 64 bits.
    U64(u64),
}

/// Goes through a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    big_endian: bool,
    signature: &'a str,
}

impl<'a> Reader<'a> {
    fn of_message(message: &'a [u8]) -> Result<Self, WireError> {
        let big_endian = match message {
            [LITTLE_ENDIAN, _, _, PROTOCOL_VERSION, ..] => false,
            [BIG_ENDIAN, _, _, PROTOCOL_VERSION, ..] => true,
            _ => return Err(WireError("does not begin as one")),
        };
        Ok(Self { message, at: 0, big_endian, signature: "" })
    }

    /// The types of the body.
    pub fn signature(&self) -> &'a str {
        self.signature
    }

    /// Whether everything was read.
    pub fn at_end(&self) -> bool {
        self.at >= self.message.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.message.len());
        let bytes = end.and_then(|end| self.message.get(self.at..end)).ok_or(WireError("ends in the middle"))?;
        self.at += count;
        Ok(bytes)
    }

    fn skip(&mut self, count: usize) -> Result<(), WireError> {
        self.take(count).map(drop)
    }

    /// Goes on to the next multiple of `to`.
    pub fn align(&mut self, to: usize) -> Result<(), WireError> {
        self.skip(self.at.next_multiple_of(to) - self.at)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// A number of 32 bits.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().unwrap_or_default();
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A number of 64 bits.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.align(8)?;
        let bytes = self.take(8)?.try_into().unwrap_or_default();
        Ok(if self.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// A text or an object's path.
    pub fn text(&mut self) -> Result<&'a str, WireError> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<&'a str, WireError> {
        let bytes = self.take(length)?;
        if self.u8()? != 0 {
            return Err(WireError("has a text without its end"));
        }
        std::str::from_utf8(bytes).map_err(|_| WireError("has a text that is not UTF-8"))
    }

    fn short_text(&mut self) -> Result<&'a str, WireError> {
        let length = usize::from(self.u8()?);
        self.terminated(length)
    }

    /// A value that says its type itself.
    pub fn variant(&mut self) -> Result<Value<'a>, WireError> {
        match self.short_text()? {
            "s" | "o" => self.text().map(Value::Text),
            "g" => self.short_text().map(Value::Text),
            "u" | "b" => self.u32().map(Value::U32),
            "t" => self.u64().map(Value::U64),
            _ => Err(WireError("has a value of a type that was not asked for")),
        }
    }

    /// The end of the array that begins here, and whose elements begin at multiples of `to`.
    pub fn array(&mut self, to: usize) -> Result<ArrayEnd, WireError> {
        let length = self.u32()? as usize;
        self.align(to)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.message.len());
        end.map(ArrayEnd).ok_or(WireError("has an array beyond its end"))
    }

    /// Whether the array goes on.
    pub fn within(&self, array: &ArrayEnd) -> bool {
        self.at < array.0
    }
}

/// Where an array ends.
#[derive(Debug)]
pub struct ArrayEnd(usize);

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Builds what a peer would send.
    pub(in super::super) struct Built(pub(in super::super) Vec<u8>);

    impl Built {
        pub(in super::super) fn body() -> Self {
            Self(Vec::new())
        }

        fn writer(&mut self) -> Writer<'_> {
            Writer { out: &mut self.0, start: 0 }
        }

        pub(in super::super) fn align(mut self, to: usize) -> Self {
            self.writer().align(to);
            self
        }

        pub(in super::super) fn text(mut self, text: &str) -> Self {
            self.writer().text(text);
            self
        }

        pub(in super::super) fn u32(mut self, value: u32) -> Self {
            self.writer().u32(value);
            self
        }

        pub(in super::super) fn u64(self, value: u64) -> Self {
            let mut aligned = self.align(8);
            aligned.0.extend_from_slice(&value.to_le_bytes());
            aligned
        }

        pub(in super::super) fn signature(mut self, text: &str) -> Self {
            self.0.push(text.len() as u8);
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(0);
            self
        }

        /// As the answer to a call; an error where it has a name.
        pub(in super::super) fn answer(self, to: u32, signature: &str, error: Option<&str>) -> Vec<u8> {
            let mut out = Vec::new();
            let mut writer = Writer { out: &mut out, start: 0 };
            let kind = if error.is_some() { ERROR } else { METHOD_RETURN };
            writer.out.extend_from_slice(&[LITTLE_ENDIAN, kind, 0, PROTOCOL_VERSION]);
            writer.u32(self.0.len() as u32);
            writer.u32(77);
            let length = writer.u32(0);
            writer.out.extend_from_slice(&[FIELD_REPLY_SERIAL, 1, b'u', 0]);
            writer.u32(to);
            if let Some(name) = error {
                writer.field(FIELD_ERROR_NAME, b's', name);
            }
            if !signature.is_empty() {
                writer.align(8);
                writer.out.extend_from_slice(&[FIELD_SIGNATURE, 1, b'g', 0]);
                writer.out.push(signature.len() as u8);
                writer.out.extend_from_slice(signature.as_bytes());
                writer.out.push(0);
            }
            writer.set(length, writer.position() - FIXED_HEADER);
            writer.align(8);
            out.extend_from_slice(&self.0);
            out
        }
    }

    /// What a peer reads of a call: its serial, object, member and arguments.
    pub(in super::super) fn call(message: &[u8]) -> (u32, String, String, Vec<String>) {
        let mut reader = Reader::of_message(message).unwrap();
        reader.skip(4).unwrap();
        let body = reader.u32().unwrap() as usize;
        let serial = reader.u32().unwrap();
        let end = reader.u32().unwrap() as usize + FIXED_HEADER;
        let (mut path, mut member, mut count) = (String::new(), String::new(), 0);
        while reader.at < end {
            reader.align(8).unwrap();
            match (reader.u8().unwrap(), reader.variant().unwrap()) {
                (FIELD_PATH, Value::Text(text)) => path = text.to_owned(),
                (FIELD_MEMBER, Value::Text(text)) => member = text.to_owned(),
                (FIELD_SIGNATURE, Value::Text(text)) => count = text.len(),
                _ => {}
            }
        }
        reader.at = message.len() - body;
        let arguments = (0..count).map(|_| reader.text().unwrap().to_owned()).collect();
        (serial, path, member, arguments)
    }

    #[test]
    fn a_call_is_written_as_the_specification_has_it() {
        let call =
            Call { destination: Some("a.b"), path: "/x", interface: "i.f", member: "Get", arguments: &["one", "2"] };
        let mut out = b"before".to_vec();
        call.write(9, &mut out);
        let expected: &[&[u8]] = &[
            b"before",
            b"l\x01\x00\x01\x0e\x00\x00\x00\x09\x00\x00\x00\x40\x00\x00\x00",
            b"\x01\x01o\x00\x02\x00\x00\x00/x\x00\x00\x00\x00\x00\x00",
            b"\x02\x01s\x00\x03\x00\x00\x00i.f\x00\x00\x00\x00\x00",
            b"\x03\x01s\x00\x03\x00\x00\x00Get\x00\x00\x00\x00\x00",
            b"\x06\x01s\x00\x03\x00\x00\x00a.b\x00\x00\x00\x00\x00",
            b"\x08\x01g\x00\x02ss\x00",
            b"\x03\x00\x00\x00one\x00\x01\x00\x00\x002\x00",
        ];
        let expected = expected.concat();
        // The length of the fields is what lies between header and body.
        let fields = expected.len() - 6 - 14 - FIXED_HEADER;
        assert_eq!(out[6 + 12], fields as u8);
        assert_eq!(out[..18], expected[..18]);
        assert_eq!(out[19..], expected[19..]);
        assert_eq!(message_length(&out[6..]).unwrap(), out.len() - 6);
    }

    #[test]
    fn answers_are_read() {
        let message = Built::body().signature("t").u64(7).answer(3, "v", None);
        let Incoming::Return { serial: 3, mut body } = incoming(&message).unwrap() else { panic!("no return") };
        assert_eq!(body.signature(), "v");
        assert_eq!(body.variant().unwrap(), Value::U64(7));
        assert!(body.at_end());
        let message = Built::body().text("No such thing.").answer(4, "s", Some("org.x.Gone"));
        assert_eq!(incoming(&message).unwrap(), Incoming::Error { serial: 4, name: "org.x.Gone" });
        let mut signal = message.clone();
        signal[1] = 4;
        assert_eq!(incoming(&signal).unwrap(), Incoming::Other);
    }

    #[test]
    fn the_other_byte_order_is_read_too() {
        let message: &[&[u8]] = &[
            b"B\x02\x00\x01\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x00\x0f",
            b"\x05\x01u\x00\x00\x00\x00\x02\x08\x01g\x00\x01u\x00\x00",
            b"\x00\x00\x00\x2a\x00\x00\x00\x2b",
        ];
        let message = message.concat();
        let Incoming::Return { serial: 2, mut body } = incoming(&message).unwrap() else { panic!("no return") };
        assert_eq!((body.u32().unwrap(), body.u32().unwrap(), body.at_end()), (42, 43, true));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let message = Built::body().text("a").signature("s").text("bc").u32(8).answer(3, "svu", None);
        let mut seed = 5u32;
        for cut in 0..message.len() {
            assert!(incoming(&message[..cut]).is_err(), "{cut}");
            for _ in 0..50 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let mut damaged = message.clone();
                damaged[cut] = (seed >> 24) as u8;
                if let Ok(Incoming::Return { mut body, .. }) = incoming(&damaged) {
                    let _ = body.text().and_then(|_| body.variant()).and_then(|_| body.array(8));
                }
            }
        }
        let mut huge = message;
        huge[7] = 0x7f;
        assert_eq!(
            message_length(&huge).unwrap_err().to_string(),
            "a D-Bus message is larger than any answer of systemd's"
        );
        assert!(message_length(b"HTTP/1.1 400 Bad").is_err());
    }
}
