//! The bytes of a header, in order. Knows the encoding, and that a file has an end.

use std::io::Read;

use super::{GgufError, Kind, SHORT, Tensor, Value};

pub(super) struct Reader<R> {
    from: R,
    at: u64,
    length: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(from: R, length: u64) -> Self {
        Self { from, at: 0, length }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn magic(&mut self) -> Result<(), GgufError> {
        let mut found = Vec::new();
        self.from.by_ref().take(4).read_to_end(&mut found)?;
        self.at = found.len() as u64;
        match found == b"GGUF" {
            true => Ok(()),
            false => Err(GgufError::NotGguf { found: found.escape_ascii().to_string() }),
        }
    }

    /// How many of something there are. Each takes bytes, so there cannot be more than the file has.
    pub(super) fn count(&mut self, what: &str, most: u64) -> Result<u64, GgufError> {
        let count = self.number::<8>(what)?;
        let most = most.min(self.left() / 8);
        match count <= most {
            true => Ok(count),
            false => Err(GgufError::damaged(format!("found {count} {what}, expected at most {most}"))),
        }
    }

    /// A number of `N` bytes without a sign.
    pub(super) fn number<const N: usize>(&mut self, what: &str) -> Result<u64, GgufError> {
        let mut bytes = [0; 8];
        self.take(N as u64, what)?;
        self.fill(&mut bytes[..N], what)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn text(&mut self, what: &str, most: u64) -> Result<String, GgufError> {
        let length = self.number::<8>(what)?;
        if length > most {
            return Err(GgufError::damaged(format!("{what} has {length} bytes, expected at most {most}")));
        }
        self.take(length, what)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes, what)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(super) fn key(&mut self) -> Result<String, GgufError> {
        let key = self.text("a key", KEY_BYTES)?;
        if key.is_empty() { Err(GgufError::damaged("a key is empty")) } else { Ok(key) }
    }

    pub(super) fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        match self.number::<4>(key)? as u32 {
            ARRAY => self.list(key),
            kind => self.scalar(kind, key),
        }
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<Value, GgufError> {
        Ok(match kind {
            U8 => Value::Natural(self.number::<1>(key)?),
            U16 => Value::Natural(self.number::<2>(key)?),
            U32 => Value::Natural(self.number::<4>(key)?),
            U64 => Value::Natural(self.number::<8>(key)?),
            I8 => Value::Integer((self.number::<1>(key)? as i8).into()),
            I16 => Value::Integer((self.number::<2>(key)? as i16).into()),
            I32 => Value::Integer((self.number::<4>(key)? as i32).into()),
            I64 => Value::Integer(self.number::<8>(key)? as i64),
            F32 => Value::Real(f32::from_bits(self.number::<4>(key)? as u32).into()),
            F64 => Value::Real(f64::from_bits(self.number::<8>(key)?)),
            BOOL => match self.number::<1>(key)? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(GgufError::damaged(format!("{key} is {other}, expected 0 or 1"))),
            },
            TEXT => Value::Text(self.text(key, TEXT_BYTES)?),
            other => return Err(GgufError::damaged(format!("{key} has the unknown type {other}"))),
        })
    }

    /// A list of texts, kept.
    pub(super) fn texts(&mut self, key: &str) -> Result<Vec<String>, GgufError> {
        let (_, length, _) = self.list_of(key, "texts", |kind| kind == TEXT)?;
        (0..length).map(|_| self.text(key, TEXT_BYTES)).collect()
    }

    /// A list of 32-bit whole numbers, kept.
    pub(super) fn integers(&mut self, key: &str) -> Result<Vec<i32>, GgufError> {
        let (_, length, _) = self.list_of(key, "32-bit whole numbers", |kind| matches!(kind, I32 | U32))?;
        (0..length).map(|_| Ok(self.number::<4>(key)? as u32 as i32)).collect()
    }

    fn list_of(
        &mut self,
        key: &str,
        expected: &str,
        is_one: impl Fn(u32) -> bool,
    ) -> Result<(u32, u64, u64), GgufError> {
        match self.number::<4>(key)? as u32 {
            ARRAY => {}
            found => return Err(GgufError::damaged(format!("{key} has type {found}, expected a list of {expected}"))),
        }
        let list = self.list_head(key)?;
        match is_one(list.0) {
            true => Ok(list),
            false => Err(GgufError::damaged(format!("{key} is a list of type {}, expected {expected}", list.0))),
        }
    }

    /// Type of the entries, how many there are, and the least bytes that one takes.
    fn list_head(&mut self, key: &str) -> Result<(u32, u64, u64), GgufError> {
        let kind = self.number::<4>(key)? as u32;
        let length = self.number::<8>(key)?;
        let bytes = match kind {
            U8 | I8 | BOOL => 1,
            U16 | I16 => 2,
            U32 | I32 | F32 => 4,
            U64 | I64 | F64 | TEXT => 8,
            other => return Err(GgufError::damaged(format!("{key} is a list of the unknown type {other}"))),
        };
        if length > self.left() / bytes {
            return Err(GgufError::damaged(format!("{key} has {length} entries and the file ends before them")));
        }
        Ok((kind, length, bytes))
    }

    fn list(&mut self, key: &str) -> Result<Value, GgufError> {
        let (kind, length, bytes) = self.list_head(key)?;
        let mut numbers = Vec::new();
        match kind {
            TEXT => (0..length).try_for_each(|_| self.skip_text(key))?,
            F32 | F64 | BOOL => self.skip(length * bytes, key)?,
            _ if length > SHORT => self.skip(length * bytes, key)?,
            _ => {
                for _ in 0..length {
                    numbers.push(match self.scalar(kind, key)? {
                        Value::Integer(number) => number,
                        Value::Natural(number) => i64::try_from(number).unwrap_or(i64::MAX),
                        _ => 0,
                    });
                }
            }
        }
        Ok(Value::List { length, numbers })
    }

    pub(super) fn tensor(&mut self) -> Result<Tensor, GgufError> {
        let name = self.text("a tensor's name", NAME_BYTES)?;
        let sides = self.number::<4>(&name)?;
        if sides > 4 {
            return Err(GgufError::damaged(format!("tensor {name} has {sides} dimensions, expected at most 4")));
        }
        let mut shape = [1; 4];
        for side in &mut shape[..sides as usize] {
            *side = self.number::<8>(&name)?;
        }
        let id = self.number::<4>(&name)? as u32;
        let kind =
            Kind::of(id).ok_or_else(|| GgufError::Unknown(format!("tensor {name} is of the unknown kind {id}")))?;
        let bytes = bytes(&shape, kind)
            .ok_or_else(|| GgufError::damaged(format!("tensor {name} cannot have the shape {shape:?} as {kind}")))?;
        Ok(Tensor { shape, kind, offset: self.number::<8>(&name)?, bytes, name })
    }

    fn skip_text(&mut self, what: &str) -> Result<(), GgufError> {
        let length = self.number::<8>(what)?;
        self.skip(length, what)
    }

    fn skip(&mut self, bytes: u64, what: &str) -> Result<(), GgufError> {
        self.take(bytes, what)?;
        let skipped = std::io::copy(&mut self.from.by_ref().take(bytes), &mut std::io::sink())?;
        if skipped < bytes { Err(ends(what)) } else { Ok(()) }
    }

    // Counts bytes about to be read, unless the file has not as many.
    fn take(&mut self, bytes: u64, what: &str) -> Result<(), GgufError> {
        if bytes > self.left() {
            return Err(ends(what));
        }
        self.at += bytes;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), GgufError> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ends(what),
            _ => error.into(),
        })
    }

    fn left(&self) -> u64 {
        self.length.saturating_sub(self.at)
    }
}

fn ends(what: &str) -> GgufError {
    GgufError::damaged(format!("the file ends within {what}"))
}

// None where rows are no whole blocks, a side is nothing, or there is no such number of bytes. llama.cpp counts with a sign.
fn bytes(shape: &[u64; 4], kind: Kind) -> Option<u64> {
    let elements = shape.iter().try_fold(1_u64, |product, &side| product.checked_mul(side))?;
    let whole = elements > 0 && i64::try_from(elements).is_ok() && shape[0].is_multiple_of(kind.block);
    whole.then(|| (elements / kind.block).checked_mul(kind.block_bytes))?.filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// A chat template has some KiB; nothing has more than this.
const TEXT_BYTES: u64 = 1 << 20;
/// The format's own limit.
const KEY_BYTES: u64 = 65_535;
/// llama.cpp's limit, less the NUL.
const NAME_BYTES: u64 = 63;

const U8: u32 = 0;
const I8: u32 = 1;
const U16: u32 = 2;
const I16: u32 = 3;
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;
const I64: u32 = 11;
const F64: u32 = 12;
