//! Values out of the tree that a file became.
//!
//! The `toml` crate has such a deserializer too; it is compiled anew for each type that is read, numbers, dates and all,
//! which made a third of a megabyte in an agent that must be small. Here what does not depend on the type stands in
//! functions of its own. Spans lead from an error to its key or value.

use std::fmt::Display;
use std::ops::Range;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeString, DeTable, DeValue};

/// What does not fit, and where.
#[derive(Debug)]
pub(super) struct Error {
    message: String,
    span: Option<Range<usize>>,
}

impl Error {
    /// serde's sentence.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The key that is not known, or the value that is not of its type.
    pub(super) fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    /// The innermost place stays.
    fn at(mut self, span: Range<usize>) -> Self {
        self.span.get_or_insert(span);
        self
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self { message: message.to_string(), span: None }
    }
}

/// Reads a value of a whole file.
pub(super) fn read<T: DeserializeOwned>(table: &DeTable<'_>) -> Result<T, Error> {
    T::deserialize(Root(table))
}

struct Root<'a>(&'a DeTable<'a>);

impl<'de> Deserializer<'de> for Root<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Table { entries: self.0.iter(), value: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A value.
#[derive(Clone, Copy)]
struct Node<'a>(&'a Spanned<DeValue<'a>>);

/// A number as serde takes it.
enum Number {
    Signed(i64),
    Unsigned(u64),
}

fn integer(integer: &DeInteger<'_>) -> Result<Number, Error> {
    let (digits, radix) = (integer.as_str(), integer.radix());
    let signed = i64::from_str_radix(digits, radix).map(Number::Signed);
    signed
        .or_else(|_| u64::from_str_radix(digits, radix).map(Number::Unsigned))
        .map_err(|_| Error::custom("the number does not fit 64 bits"))
}

fn float(float: &DeFloat<'_>) -> Result<f64, Error> {
    float.as_str().parse().map_err(|_| Error::custom("this is no number"))
}

impl Node<'_> {
    /// What serde says where another type is expected. Not compiled anew for each that is.
    #[inline(never)]
    fn wrong(&self, expected: &dyn Expected) -> Error {
        let found = match self.0.get_ref() {
            DeValue::String(text) => Ok(Unexpected::Str(text)),
            DeValue::Integer(digits) => integer(digits).map(|number| match number {
                Number::Signed(number) => Unexpected::Signed(number),
                Number::Unsigned(number) => Unexpected::Unsigned(number),
            }),
            DeValue::Float(digits) => float(digits).map(Unexpected::Float),
            DeValue::Boolean(value) => Ok(Unexpected::Bool(*value)),
            // No key of ours is one.
            DeValue::Datetime(_) => Ok(Unexpected::Other("date or time")),
            DeValue::Array(_) => Ok(Unexpected::Seq),
            DeValue::Table(_) => Ok(Unexpected::Map),
        };
        found.map_or_else(|error| error, |found| Error::invalid_type(found, expected)).at(self.0.span())
    }

    fn at<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| error.at(self.0.span()))
    }

    fn visit_integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let DeValue::Integer(digits) = self.0.get_ref() else { return Err(self.wrong(&visitor)) };
        self.at(match integer(digits) {
            Ok(Number::Signed(number)) => visitor.visit_i64(number),
            Ok(Number::Unsigned(number)) => visitor.visit_u64(number),
            Err(error) => Err(error),
        })
    }

    fn visit_float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.get_ref() {
            DeValue::Float(digits) => self.at(float(digits).and_then(|number| visitor.visit_f64(number))),
            _ => self.visit_integer(visitor),
        }
    }

    fn visit_text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let DeValue::String(text) = self.0.get_ref() else { return Err(self.wrong(&visitor)) };
        self.at(visitor.visit_str(text))
    }

    fn visit_list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let DeValue::Array(items) = self.0.get_ref() else { return Err(self.wrong(&visitor)) };
        self.at(visitor.visit_seq(Array(items.iter())))
    }

    fn visit_table<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let DeValue::Table(table) = self.0.get_ref() else { return Err(self.wrong(&visitor)) };
        self.at(visitor.visit_map(Table { entries: table.iter(), value: None }))
    }
}

macro_rules! expect {
    ($visit:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.$visit(visitor)
        })*
    };
}

/// A type that says what it expects gets only that: code for everything else that might stand there, for each type, would
/// be most of the code.
impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.get_ref() {
            DeValue::String(_) => self.visit_text(visitor),
            DeValue::Integer(_) | DeValue::Float(_) => self.visit_float(visitor),
            DeValue::Boolean(_) => self.deserialize_bool(visitor),
            DeValue::Datetime(_) => Err(self.wrong(&visitor)),
            DeValue::Array(_) => self.visit_list(visitor),
            DeValue::Table(_) => self.visit_table(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let DeValue::Boolean(value) = self.0.get_ref() else { return Err(self.wrong(&visitor)) };
        self.at(visitor.visit_bool(*value))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.visit_table(visitor)
    }

    expect! { visit_integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 }
    expect! { visit_integer: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 }
    expect! { visit_float: deserialize_f32 deserialize_f64 }
    expect! { visit_text: deserialize_char deserialize_str deserialize_string deserialize_identifier }
    expect! { visit_list: deserialize_seq }
    expect! { visit_table: deserialize_map }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0.get_ref() {
            DeValue::String(text) => visitor.visit_enum(Variant(text)).map_err(|error| error.at(self.0.span())),
            _ => Err(self.wrong(&visitor)),
        }
    }

    forward_to_deserialize_any! { bytes byte_buf unit unit_struct tuple tuple_struct ignored_any }
}

struct Array<'a>(std::slice::Iter<'a, Spanned<DeValue<'a>>>);

impl<'de> SeqAccess<'de> for Array<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(Node(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Table<'a, I> {
    entries: I,
    value: Option<&'a Spanned<DeValue<'a>>>,
}

impl<'a, 'de, I> MapAccess<'de> for Table<'a, I>
where
    I: Iterator<Item = (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)>,
{
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let name: StrDeserializer<'_, Error> = key.get_ref().as_ref().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|error| error.at(key.span()))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().ok_or_else(|| Error::custom("BUG: a value was read before its key"))?;
        // What the seed itself finds wrong, such as a text that is no duration, is about this value too.
        seed.deserialize(Node(value)).map_err(|error| error.at(value.span()))
    }
}

/// One of a list of words. Variants that hold something are not a form of our configuration.
struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Error> {
        Err(Error::invalid_type(Unexpected::UnitVariant, &"a value"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        Err(Error::invalid_type(Unexpected::UnitVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        Err(Error::invalid_type(Unexpected::UnitVariant, &visitor))
    }
}
