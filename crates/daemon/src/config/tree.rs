//! Values out of the tree that a file became.
//!
//! The `toml` crate has such a deserializer too; it is compiled anew for each type that is read, numbers, dates and all,
//! which made a third of a megabyte in an agent that must be small. Here what does not depend on the type stands in
//! functions of its own. Spans lead from an error to its key or value.

use std::fmt::Display;
use std::ops::Range;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
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

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = match self.0.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(digits) => match integer(digits).map_err(|error| error.at(self.0.span()))? {
                Number::Signed(number) => visitor.visit_i64(number),
                Number::Unsigned(number) => visitor.visit_u64(number),
            },
            DeValue::Float(digits) => visitor.visit_f64(float(digits).map_err(|error| error.at(self.0.span()))?),
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            // No key of ours is one.
            DeValue::Datetime(_) => Err(Error::invalid_type(Unexpected::Other("date or time"), &visitor)),
            DeValue::Array(items) => visitor.visit_seq(Array(items.iter())),
            DeValue::Table(table) => visitor.visit_map(Table { entries: table.iter(), value: None }),
        };
        value.map_err(|error| error.at(self.0.span()))
    }

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
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
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
