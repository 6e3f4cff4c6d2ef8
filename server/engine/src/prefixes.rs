//! Prefixes over the end of the program: what the store and the slots hold when a model goes is written to a file, and read when the same
//! model comes again.
//!
//! llama.cpp takes a state's bytes on trust, so a file is used only when all of it is what was written: magic, version, the identity of
//! model, adapters and context, length and SHA-256. Any other file is removed with a line in the log, and the prefixes are computed anew.
//!
//! ```text
//! magic 16 | version 4 | identity 32 | entries 4 | entry .. | SHA-256 of all before, 32
//! entry: adapter 4 (-1: none) | scale known 4 | scale bits 4 | tokens 4 | state bytes 8 | tokens, 4 each | state
//! ```
//! Numbers are little-endian.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::{Adapter, Addition, Token};

/// Where a model's prefixes are kept, and what they are good for.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixFile {
    /// The folder, which holds nothing else.
    pub folder: PathBuf,
    /// The most bytes of all files in it.
    pub limit: u64,
    /// A digest of all that a state depends on: the weights, the adapters, the shape of the context, the program.
    pub identity: [u8; 32],
}

/// One sequence's state.
#[derive(Clone, PartialEq)]
pub(crate) struct Prefix {
    pub(crate) adapter: Adapter,
    pub(crate) tokens: Vec<Token>,
    pub(crate) state: Vec<u8>,
}

impl PrefixFile {
    fn path(&self) -> PathBuf {
        let name: String = self.identity[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{name}.{EXTENSION}"))
    }

    /// What was kept; nothing where there is no file, or one that cannot be trusted, which is then removed.
    pub(crate) fn read(&self) -> Vec<Prefix> {
        let path = self.path();
        let length = match fs::metadata(&path) {
            Ok(file) => file.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
            Err(error) => return self.removed(&path, &error.to_string()),
        };
        if length > self.limit {
            return self.removed(&path, &format!("it has {length} bytes, expected at most {}", self.limit));
        }
        let read = fs::read(&path).map_err(|error| error.to_string());
        match read.and_then(|bytes| decode(&bytes, &self.identity).map_err(str::to_owned)) {
            Ok(prefixes) => prefixes,
            Err(reason) => self.removed(&path, &reason),
        }
    }

    fn removed(&self, path: &Path, reason: &str) -> Vec<Prefix> {
        let removed = fs::remove_file(path).is_ok();
        tracing::warn!(path = %path.display(), reason, removed, "kept prefixes cannot be used");
        Vec::new()
    }

    /// Keeps as many of these, the last the most valuable, as there is room for. What other models kept goes first, the oldest of it.
    pub(crate) fn write(&self, mut prefixes: Vec<Prefix>) {
        let size = |prefixes: &[Prefix]| prefixes.iter().map(Prefix::bytes).sum::<u64>() + FRAME as u64;
        while !prefixes.is_empty() && size(&prefixes) > self.limit {
            prefixes.remove(0);
        }
        if prefixes.is_empty() {
            return;
        }
        let bytes = encode(&prefixes, &self.identity);
        if let Err(error) = self.make_room(bytes.len() as u64).and_then(|()| self.replace(&bytes)) {
            tracing::warn!(folder = %self.folder.display(), %error, "prefixes are not kept");
        }
    }

    fn make_room(&self, wanted: u64) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut others: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            if path != self.path() && path.extension().is_some_and(|extension| extension == EXTENSION) {
                let file = entry.metadata()?;
                others.push((file.modified()?, file.len(), path));
            }
        }
        others.sort();
        let mut taken = others.iter().map(|(_, length, _)| length).sum::<u64>();
        for (_, length, path) in others {
            if taken + wanted <= self.limit {
                break;
            }
            fs::remove_file(path)?;
            taken -= length;
        }
        Ok(())
    }

    // Whole or not at all. Prompts are in it: nobody else may read it.
    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let path = self.path();
        let part = path.with_extension("part");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&part, &path));
        if written.is_err() {
            drop(fs::remove_file(&part));
        }
        written
    }
}

impl Prefix {
    fn bytes(&self) -> u64 {
        (ENTRY + self.tokens.len() * 4 + self.state.len()) as u64
    }
}

fn encode(prefixes: &[Prefix], identity: &[u8; 32]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), identity, &number(prefixes.len())].concat();
    for Prefix { adapter, tokens, state } in prefixes {
        let index = adapter.0.and_then(|addition| i32::try_from(addition.index).ok()).unwrap_or(-1);
        let scale = adapter.0.and_then(Addition::scale);
        bytes.extend(index.to_le_bytes());
        bytes.extend(u32::from(scale.is_some()).to_le_bytes());
        bytes.extend(scale.unwrap_or(0.0).to_bits().to_le_bytes());
        bytes.extend(number(tokens.len()));
        bytes.extend((state.len() as u64).to_le_bytes());
        bytes.extend(tokens.iter().flat_map(|token| token.0.to_le_bytes()));
        bytes.extend(state);
    }
    let sum = Sha256::digest(&bytes);
    bytes.extend(&sum[..]);
    bytes
}

fn decode(bytes: &[u8], identity: &[u8; 32]) -> Result<Vec<Prefix>, &'static str> {
    const SHORT: &str = "it ends early";
    let body = bytes.len().checked_sub(SUM).and_then(|body| bytes.split_at_checked(body));
    let (body, sum) = body.ok_or(SHORT)?;
    let mut rest = Reader(body);
    if rest.take(MAGIC.len()) != Some(&MAGIC[..]) {
        return Err("it is no file of prefixes");
    }
    if rest.number() != Some(VERSION) {
        return Err("it is of another version");
    }
    if rest.take(identity.len()) != Some(&identity[..]) {
        return Err("it is of another model, adapter, context or program");
    }
    if Sha256::digest(body)[..] != *sum {
        return Err("its checksum is wrong");
    }
    let count = rest.number().ok_or(SHORT)?;
    let prefixes = (0..count).map(|_| rest.prefix().ok_or(SHORT)).collect::<Result<_, _>>()?;
    if rest.0.is_empty() { Ok(prefixes) } else { Err("there is something behind its end") }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn prefix(&mut self) -> Option<Prefix> {
        let (index, scaled, scale) =
            (self.number()?.cast_signed(), self.number()? != 0, f32::from_bits(self.number()?));
        let tokens = self.number()? as usize;
        let state = usize::try_from(self.take(8)?.try_into().ok().map(u64::from_le_bytes)?).ok()?;
        let (tokens, _) = self.take(tokens.checked_mul(4)?)?.as_chunks();
        let tokens = tokens.iter().map(|&token| Token(i32::from_le_bytes(token))).collect();
        let addition = |index| Addition::new(index, scaled.then_some(scale));
        let adapter = Adapter(usize::try_from(index).ok().map(addition));
        Some(Prefix { adapter, tokens, state: self.take(state)?.to_vec() })
    }
}

const MAGIC: [u8; 16] = *b"CEREBRUM-PREFIX\n";
const VERSION: u32 = 1;
const SUM: usize = 32;
/// What a file has beside its entries, and an entry beside its tokens and state.
const FRAME: usize = MAGIC.len() + 4 + 32 + 4 + SUM;
const ENTRY: usize = 24;
const EXTENSION: &str = "prefixes";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("cerebrum-prefixes-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            Self(path)
        }

        fn file(&self, identity: u8, limit: u64) -> PrefixFile {
            PrefixFile { folder: self.0.clone(), limit, identity: [identity; 32] }
        }

        fn files(&self) -> usize {
            fs::read_dir(&self.0).map_or(0, Iterator::count)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn prefixes() -> Vec<Prefix> {
        let prefix = |adapter, count: i32| Prefix {
            adapter: Adapter(adapter),
            tokens: (0..count).map(Token).collect(),
            state: vec![count as u8; 100],
        };
        vec![prefix(None, 3), prefix(Some(Addition::new(0, None)), 4), prefix(Some(Addition::new(1, Some(0.5))), 5)]
    }

    #[test]
    fn what_was_kept_comes_back_and_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("back");
        let file = folder.file(1, 1 << 20);
        assert!(file.read().is_empty());
        file.write(prefixes());
        assert!(file.read() == prefixes());
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(folder.files(), 1);
        file.write(Vec::new());
        assert!(file.read() == prefixes(), "nothing to keep takes nothing away");
    }

    #[test]
    fn a_damaged_or_foreign_file_is_removed() {
        let folder = Folder::new("damaged");
        let file = folder.file(1, 1 << 20);
        let good = encode(&prefixes(), &file.identity);
        let mut newer = good.clone();
        newer[16] = 2;
        let damages: [Vec<u8>; 6] = [
            Vec::new(),
            b"text".to_vec(),
            good[..good.len() - 1].to_vec(),
            [good.clone(), vec![0]].concat(),
            newer,
            encode(&prefixes(), &[2; 32]),
        ];
        for (number, damage) in damages.iter().enumerate() {
            fs::create_dir_all(&file.folder).unwrap();
            fs::write(file.path(), damage).unwrap();
            assert!(file.read().is_empty(), "{number}");
            assert_eq!(folder.files(), 0, "{number}");
        }
    }

    #[test]
    fn the_limit_holds_over_all_models_and_the_oldest_goes() {
        let folder = Folder::new("limit");
        let one = encode(&prefixes(), &[0; 32]).len() as u64;
        for identity in 1..=3 {
            folder.file(identity, one * 2).write(prefixes());
            // Times of files are coarse.
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(identity.into());
            fs::File::options().append(true).open(folder.file(identity, 0).path()).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(folder.files(), 2);
        assert!(folder.file(1, one).read().is_empty() && !folder.file(2, one).read().is_empty());
        // Of one model's the last, which was used last.
        let file = folder.file(4, one - 1);
        file.write(prefixes());
        assert!(file.read() == prefixes()[1..]);
        assert!(folder.file(4, 10).read().is_empty(), "a file over the limit is not read");
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in 0_usize..1000, bit in 0_u8..8) {
            let mut bytes = encode(&prefixes(), &[1; 32]);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes, &[1; 32]).is_err());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), head in 0_usize..200) {
            let good = encode(&prefixes(), &[1; 32]);
            let mut bytes = [&good[..head], &bytes].concat();
            prop_assert!(decode(&bytes, &[1; 32]).is_err() || bytes == good);
            let sum = Sha256::digest(&bytes);
            bytes.extend(&sum[..]);
            drop(decode(&bytes, &[1; 32]));
        }
    }
}
