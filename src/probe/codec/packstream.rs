//! `PackStream`, the encoding of Bolt's messages: writes what a probe says, reads what it hears.
//!
//! Invariants
//! 1. Reading takes no more memory than the values themselves: a length that a peer merely claims
//!    reserves nothing.
//! 2. Nesting ends at [`DEPTH_MAX`], and values at [`VALUES_MAX`].
//! 3. What was written is wiped when it is dropped, as it may hold a password.

use zeroize::Zeroizing;

/// Levels of lists, maps and structures in one value. A routing table has four.
pub const DEPTH_MAX: usize = 16;
/// Values in one message, keys included. A routing table of a hundred members has fewer.
pub const VALUES_MAX: usize = 4096;

/// A value as `PackStream` knows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer of 64 bits.
    Int(i64),
    /// A floating-point number of 64 bits.
    Float(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Self>),
    /// Named values in the order sent.
    Map(Vec<(String, Self)>),
    /// A tagged record: every Bolt message is one.
    Structure {
        /// What kind of record.
        tag: u8,
        /// Its fields.
        fields: Vec<Self>,
    },
}

impl Value {
    /// The value of this name in a map; `None` for anything that is not a map.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The items, if it is a list; none otherwise.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        if let Self::List(items) = self { items } else { &[] }
    }
}

/// Why bytes are not a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// They end in the middle of a value.
    #[error("value is cut short")]
    Short,
    /// A byte that begins no value.
    #[error("unknown marker")]
    Marker,
    /// Text that is not UTF-8, or a map's key that is not text.
    #[error("text is not text")]
    Text,
    /// More levels than [`DEPTH_MAX`].
    #[error("nested too deeply")]
    Deep,
    /// More values than [`VALUES_MAX`].
    #[error("too many values")]
    Many,
    /// Bytes after the value.
    #[error("bytes left over")]
    Excess,
}

/// Reads one value that fills `bytes`.
///
/// # Errors
/// When the bytes are not exactly one value within the limits.
pub fn decode(bytes: &[u8]) -> Result<Value, Malformed> {
    let mut reader = Reader { rest: bytes, values: VALUES_MAX };
    let value = reader.value(DEPTH_MAX)?;
    if reader.rest.is_empty() { Ok(value) } else { Err(Malformed::Excess) }
}

struct Reader<'a> {
    rest: &'a [u8],
    values: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Malformed> {
        self.values = self.values.checked_sub(1).ok_or(Malformed::Many)?;
        let [marker] = self.array()?;
        let low = usize::from(marker & 0x0F);
        Ok(match marker {
            0x00..=0x7F | 0xF0..=0xFF => Value::Int(i64::from(i8::from_be_bytes([marker]))),
            0x80..=0x8F => Value::Text(self.text(low)?),
            0x90..=0x9F => Value::List(self.list(low, depth)?),
            0xA0..=0xAF => Value::Map(self.map(low, depth)?),
            0xB0..=0xBF => {
                let [tag] = self.array()?;
                Value::Structure { tag, fields: self.list(low, depth)? }
            }
            0xC0 => Value::Null,
            0xC1 => Value::Float(f64::from_be_bytes(self.array()?)),
            0xC2 => Value::Bool(false),
            0xC3 => Value::Bool(true),
            0xC8 => Value::Int(i8::from_be_bytes(self.array()?).into()),
            0xC9 => Value::Int(i16::from_be_bytes(self.array()?).into()),
            0xCA => Value::Int(i32::from_be_bytes(self.array()?).into()),
            0xCB => Value::Int(i64::from_be_bytes(self.array()?)),
            0xCC..=0xCE => {
                let length = self.length(marker - 0xCC)?;
                Value::Bytes(self.take(length)?.to_vec())
            }
            0xD0..=0xD2 => {
                let length = self.length(marker - 0xD0)?;
                Value::Text(self.text(length)?)
            }
            0xD4..=0xD6 => {
                let length = self.length(marker - 0xD4)?;
                Value::List(self.list(length, depth)?)
            }
            0xD8..=0xDA => {
                let length = self.length(marker - 0xD8)?;
                Value::Map(self.map(length, depth)?)
            }
            _ => return Err(Malformed::Marker),
        })
    }

    /// A length of one, two or four bytes.
    fn length(&mut self, width: u8) -> Result<usize, Malformed> {
        let length = match width {
            0 => u32::from(u8::from_be_bytes(self.array()?)),
            1 => u32::from(u16::from_be_bytes(self.array()?)),
            _ => u32::from_be_bytes(self.array()?),
        };
        usize::try_from(length).map_err(|_narrow| Malformed::Short)
    }

    fn list(&mut self, length: usize, depth: usize) -> Result<Vec<Value>, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::Deep)?;
        self.bounded(length)?;
        (0..length).map(|_| self.value(depth)).collect()
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<Vec<(String, Value)>, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::Deep)?;
        self.bounded(length)?;
        let entry = |_| {
            let Value::Text(key) = self.value(depth)? else { return Err(Malformed::Text) };
            Ok((key, self.value(depth)?))
        };
        (0..length).map(entry).collect()
    }

    /// Refuses a claimed length before anything is reserved for it.
    fn bounded(&self, length: usize) -> Result<(), Malformed> {
        if length > self.values {
            return Err(Malformed::Many);
        }
        if length > self.rest.len() { Err(Malformed::Short) } else { Ok(()) }
    }

    fn text(&mut self, length: usize) -> Result<String, Malformed> {
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned).map_err(|_bytes| Malformed::Text)
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Writes values one after another, each in its shortest form, as the drivers do.
#[derive(Debug, Default)]
pub struct Packer {
    out: Zeroizing<Vec<u8>>,
}

impl Packer {
    /// Bytes set aside at first: a message that fits is in one place only and wiped from there.
    const ROOM: usize = 1024;

    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { out: Zeroizing::new(Vec::with_capacity(Self::ROOM)) }
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.out
    }

    /// Begins a structure of this many fields.
    pub fn structure(&mut self, tag: u8, fields: u8) -> &mut Self {
        self.put(&[0xB0 | (fields & 0x0F), tag])
    }

    /// Begins a list of this many items.
    pub fn list(&mut self, items: usize) -> &mut Self {
        self.sized(items, 0x90, [0xD4, 0xD5, 0xD6])
    }

    /// Begins a map of this many entries: a text and a value each.
    pub fn map(&mut self, entries: usize) -> &mut Self {
        self.sized(entries, 0xA0, [0xD8, 0xD9, 0xDA])
    }

    /// A text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.sized(text.len(), 0x80, [0xD0, 0xD1, 0xD2]).put(text.as_bytes())
    }

    /// A text with its name, in a map.
    pub fn entry(&mut self, name: &str, text: &str) -> &mut Self {
        self.text(name).text(text)
    }

    /// No value.
    pub fn null(&mut self) -> &mut Self {
        self.put(&[0xC0])
    }

    /// An integer.
    pub fn int(&mut self, int: i64) -> &mut Self {
        if let Ok(byte) = i8::try_from(int) {
            if byte < -16 { self.put(&[0xC8]) } else { self }.put(&byte.to_be_bytes())
        } else if let Ok(short) = i16::try_from(int) {
            self.put(&[0xC9]).put(&short.to_be_bytes())
        } else if let Ok(word) = i32::try_from(int) {
            self.put(&[0xCA]).put(&word.to_be_bytes())
        } else {
            self.put(&[0xCB]).put(&int.to_be_bytes())
        }
    }

    /// Any value.
    pub fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Null => self.null(),
            Value::Bool(bool) => self.put(&[if *bool { 0xC3 } else { 0xC2 }]),
            Value::Int(int) => self.int(*int),
            Value::Float(float) => self.put(&[0xC1]).put(&float.to_be_bytes()),
            Value::Bytes(bytes) => self.wide(bytes.len(), [0xCC, 0xCD, 0xCE]).put(bytes),
            Value::Text(text) => self.text(text),
            Value::List(items) => {
                items.iter().fold(self.list(items.len()), |out, item| out.value(item))
            }
            Value::Map(entries) => {
                let out = self.map(entries.len());
                entries.iter().fold(out, |out, (key, value)| out.text(key).value(value))
            }
            Value::Structure { tag, fields } => {
                self.structure(*tag, u8::try_from(fields.len()).unwrap_or(u8::MAX));
                fields.iter().fold(self, |out, field| out.value(field))
            }
        }
    }

    fn sized(&mut self, size: usize, tiny: u8, markers: [u8; 3]) -> &mut Self {
        match u8::try_from(size) {
            Ok(size @ 0..16) => self.put(&[tiny | size]),
            Ok(_) | Err(_) => self.wide(size, markers),
        }
    }

    fn wide(&mut self, size: usize, [byte, short, word]: [u8; 3]) -> &mut Self {
        if let Ok(size) = u8::try_from(size) {
            self.put(&[byte, size])
        } else if let Ok(size) = u16::try_from(size) {
            self.put(&[short]).put(&size.to_be_bytes())
        } else {
            // Nothing of ours is near four gigabytes; what is would be refused by any server.
            self.put(&[word]).put(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes())
        }
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }
}

#[cfg(test)]
#[path = "packstream_tests.rs"]
mod tests;
