//! Packages, `NAME.gguf.zst`: a model's weights, compressed, with what is needed to check them at the head.
//!
//! A package is a sequence of Zstandard frames (RFC 8878). First a skippable frame, 0x184D2A50, whose content is the manifest as
//! TOML; then, if one was used, a skippable frame 0x184D2A51 with the dictionary; then the compressed weights. Tools for
//! Zstandard skip what they do not know, so `zstd -d` unpacks a package without a dictionary too.
//!
//! Unpacking writes no byte beyond the length that the manifest declares, whatever the frames hold.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use super::draft::{BLOCK, Draft, for_each_block, has_room};
use super::manifest::{MANIFEST_BYTES, Manifest, hex};
use super::{Folder, ModelError, Name};

/// Called with the bytes done and all bytes; false gives the work up.
pub type Report<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// An open package, read up to the compressed weights.
pub struct Package {
    manifest: Manifest,
    dictionary: Vec<u8>,
    rest: BufReader<File>,
}

impl std::fmt::Debug for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Package").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl Package {
    /// Opens a package and reads its head.
    ///
    /// # Errors
    /// [`ModelError::Package`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let broken = |reason: String| ModelError::package(path, reason);
        let mut from = BufReader::with_capacity(BLOCK, File::open(path).map_err(ModelError::io(path))?);
        // Two and no more: zstd skips the others, and nobody's memory holds them.
        let mut next = || skippable(&mut from).map_err(|error| broken(error.to_string()));
        let text = next()?.filter(|frame| frame.kind == MANIFEST);
        let text = text.ok_or_else(|| broken("it does not begin with a manifest; pack it again".to_owned()))?;
        let text = String::from_utf8(text.content).map_err(|_| broken("its manifest is not UTF-8".to_owned()))?;
        let manifest = Manifest::parse(&text).map_err(broken)?;
        let dictionary = next()?.filter(|frame| frame.kind == DICTIONARY).map(|frame| frame.content);
        Ok(Self { manifest, dictionary: dictionary.unwrap_or_default(), rest: from })
    }

    /// What the package says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Unpacks into the folder under `name`: checked, and under its final name, or not at all.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn unpack(self, path: &Path, folder: &Folder, name: &Name, report: Report<'_>) -> Result<Manifest, ModelError> {
        let target = folder.gguf(name);
        let mut draft = Draft::open(folder, name, &target)?;
        draft.restart()?;
        has_room(folder, self.manifest.bytes)?;
        let manifest = self.pour(path, report, |block| draft.write(block))?;
        draft.checked(Some(&manifest.sha256))?;
        let manifest = Manifest { name: name.to_string(), ..manifest };
        draft.install(&target)?;
        manifest.write(folder, name)?;
        Ok(manifest)
    }

    /// Unpacks to nowhere, to see whether it could be.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn verify(self, path: &Path, report: Report<'_>) -> Result<(), ModelError> {
        let mut hash = Sha256::new();
        let manifest = self.pour(path, report, |block| {
            hash.update(block);
            Ok(())
        })?;
        let (found, Manifest { name, sha256, .. }) = (hex(&hash.finalize()), manifest);
        match found.eq_ignore_ascii_case(&sha256) {
            true => Ok(()),
            false => Err(ModelError::Hash { name, found, expected: sha256 }),
        }
    }

    // Every byte of the weights, and never more than were declared.
    fn pour(
        self,
        path: &Path,
        report: Report<'_>,
        mut to: impl FnMut(&[u8]) -> Result<(), ModelError>,
    ) -> Result<Manifest, ModelError> {
        let broken = |error: std::io::Error| ModelError::package(path, error);
        let Self { manifest, dictionary, rest } = self;
        let mut decoder = Decoder::with_dictionary(rest, &dictionary).map_err(broken)?;
        decoder.window_log_max(WINDOW_LOG).map_err(broken)?;
        let (mut block, mut bytes) = (vec![0; BLOCK], 0);
        let length = |found| ModelError::Length { name: manifest.name.clone(), found, expected: manifest.bytes };
        loop {
            let read = decoder.read(&mut block).map_err(broken)?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
            if bytes > manifest.bytes {
                return Err(length(bytes));
            }
            to(&block[..read])?;
            if !report(bytes, manifest.bytes) {
                return Err(ModelError::Cancelled);
            }
        }
        match bytes == manifest.bytes {
            true => Ok(manifest),
            false => Err(length(bytes)),
        }
    }
}

/// How to pack.
#[derive(Clone, Debug, Default)]
pub struct Packing {
    /// zstd's level, 1 to 19.
    pub level: i32,
    /// Begun from this, and kept in the package; empty for none.
    pub dictionary: Vec<u8>,
}

/// Packs the weights at `gguf` into `package`, whole or not at all.
///
/// # Errors
/// [`ModelError`].
pub fn pack(
    gguf: &Path,
    folder: &Folder,
    package: &Path,
    name: &Name,
    packing: &Packing,
    report: Report<'_>,
) -> Result<Manifest, ModelError> {
    let unreadable = || ModelError::io(gguf);
    let mut from = File::open(gguf).map_err(unreadable())?;
    let mut hash = Sha256::new();
    let bytes = for_each_block(&mut from, |block| hash.update(block)).map_err(unreadable())?;
    let manifest = Manifest::new(name, bytes, hex(&hash.finalize()), None);
    let draft = Draft::open(folder, name, package)?;
    let written = write(gguf, &draft, &manifest, packing, report);
    match written.map_err(ModelError::writing(draft.path(), 0))? {
        true => draft.rename(package).map(|()| manifest),
        false => Err(ModelError::Cancelled),
    }
}

fn write(
    gguf: &Path,
    draft: &Draft,
    manifest: &Manifest,
    packing: &Packing,
    report: Report<'_>,
) -> std::io::Result<bool> {
    let file = File::options().write(true).truncate(true).open(draft.path())?;
    let mut out = BufWriter::with_capacity(BLOCK, file);
    put_skippable(&mut out, MANIFEST, manifest.text().as_bytes())?;
    if !packing.dictionary.is_empty() {
        put_skippable(&mut out, DICTIONARY, &packing.dictionary)?;
    }
    let mut encoder = Encoder::with_dictionary(out, packing.level, &packing.dictionary)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(manifest.bytes))?;
    let mut from = File::open(gguf)?;
    let (mut block, mut bytes) = (vec![0; BLOCK], 0);
    loop {
        let read = from.read(&mut block)?;
        if read == 0 {
            break;
        }
        encoder.write_all(&block[..read])?;
        bytes += read as u64;
        if !report(bytes, manifest.bytes) {
            return Ok(false);
        }
    }
    let mut out = encoder.finish()?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(true)
}

struct Skippable {
    kind: u32,
    content: Vec<u8>,
}

// The next frame if it is one to skip; otherwise nothing is taken.
fn skippable(from: &mut BufReader<File>) -> std::io::Result<Option<Skippable>> {
    use std::io::BufRead;
    let head = from.fill_buf()?;
    let Some(head) = head.first_chunk::<8>() else { return Ok(None) };
    let (kind, length) = head.split_at(4);
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    let (kind, length) = (number(kind), u64::from(number(length)));
    if !(MANIFEST..=MANIFEST + 15).contains(&kind) {
        return Ok(None);
    }
    let most = if kind == MANIFEST { MANIFEST_BYTES } else { DICTIONARY_BYTES };
    if length > most {
        return Err(std::io::Error::new(ErrorKind::InvalidData, format!("a frame of its head has {length} bytes")));
    }
    from.consume(8);
    let mut content = Vec::new();
    let read = from.take(length).read_to_end(&mut content)? as u64;
    match read == length {
        true => Ok(Some(Skippable { kind, content })),
        false => Err(std::io::Error::new(ErrorKind::UnexpectedEof, "it ends within its head")),
    }
}

fn put_skippable(out: &mut impl Write, kind: u32, content: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(content.len()).map_err(|_| std::io::Error::other("the head is too large"))?;
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(content)
}

const MANIFEST: u32 = 0x184D_2A50;
const DICTIONARY: u32 = 0x184D_2A51;
/// zstd makes dictionaries of about 100 KiB.
pub(super) const DICTIONARY_BYTES: u64 = 16 << 20;
/// 128 MiB, what zstd takes by default: a hostile package must not ask for 2 GiB.
const WINDOW_LOG: u32 = 27;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Site {
        _temporary: tempfile::TempDir,
        folder: Folder,
        name: Name,
        package: PathBuf,
    }

    fn site() -> Site {
        let temporary = tempfile::tempdir().unwrap();
        let (folder, name) = (Folder::new(temporary.path()), "a".parse().unwrap());
        Site { package: folder.package(&name), folder, name, _temporary: temporary }
    }

    fn bundled() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/cerebrum-tiny.gguf")
    }

    impl Site {
        fn pack(&self, packing: &Packing) -> Manifest {
            pack(&bundled(), &self.folder, &self.package, &self.name, packing, &mut |_, _| true).unwrap()
        }

        fn unpack(&self) -> Result<Manifest, ModelError> {
            Package::open(&self.package)?.unpack(&self.package, &self.folder, &self.name, &mut |_, _| true)
        }

        fn files(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.folder.path()).unwrap();
            let mut files: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            files.sort();
            files
        }

        /// A package of any bytes under any manifest.
        fn forge(&self, declared: u64, sha256: String, content: &[u8]) {
            let mut out = Vec::new();
            let manifest = Manifest::new(&self.name, declared, sha256, None);
            put_skippable(&mut out, MANIFEST, manifest.text().as_bytes()).unwrap();
            out.extend(zstd::encode_all(content, 3).unwrap());
            std::fs::write(&self.package, out).unwrap();
        }

        fn refuses(&self, expected: &str) {
            let error = self.unpack().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error} instead of {expected}");
            assert_eq!(self.files(), ["a.gguf.zst"], "{error}");
        }
    }

    #[test]
    fn frames_that_nobody_needs_are_not_read() {
        use std::io::Seek;

        let site = site();
        let manifest = Manifest::new(&site.name, 3, hex(&Sha256::digest("abc")), None);
        let mut bytes = Vec::new();
        put_skippable(&mut bytes, MANIFEST, manifest.text().as_bytes()).unwrap();
        for _ in 0..20 {
            put_skippable(&mut bytes, DICTIONARY, &[0; 100]).unwrap();
        }
        let head = manifest.text().len() as u64 + 8 + 108;
        bytes.extend(zstd::bulk::compress(b"abc", 1).unwrap());
        std::fs::write(&site.package, bytes).unwrap();
        let mut package = Package::open(&site.package).unwrap();
        assert_eq!(package.rest.stream_position().unwrap(), head);
    }

    #[test]
    fn what_was_packed_comes_out_again() {
        let site = site();
        let dictionary = std::fs::read(bundled()).unwrap()[..100_000].to_vec();
        for packing in [Packing { level: 1, ..Packing::default() }, Packing { level: 1, dictionary }] {
            let packed = site.pack(&packing);
            Package::open(&site.package).unwrap().verify(&site.package, &mut |_, _| true).unwrap();
            assert_eq!(site.unpack().unwrap(), packed);
            assert_eq!(site.files(), ["a.gguf", "a.gguf.zst", "a.manifest.toml"]);
            assert_eq!(std::fs::read(site.folder.gguf(&site.name)).unwrap(), std::fs::read(bundled()).unwrap());
        }
        // Tools for Zstandard read it too.
        site.pack(&Packing { level: 1, ..Packing::default() });
        let plain = zstd::decode_all(File::open(&site.package).unwrap()).unwrap();
        assert_eq!(plain, std::fs::read(bundled()).unwrap());
    }

    #[test]
    fn a_bomb_ends_at_the_declared_length() {
        let site = site();
        let bomb = vec![0; 64 << 20];
        site.forge(1000, hex(&Sha256::digest(&bomb)), &bomb);
        site.refuses("expected 1000");
        let mut most = 0;
        let verified = Package::open(&site.package).unwrap().verify(&site.package, &mut |done, _| {
            most = done;
            true
        });
        assert!(matches!(verified, Err(ModelError::Length { expected: 1000, .. })));
        assert_eq!(most, 0, "no byte of a block that is too long is handed on");
        site.forge(u64::MAX / 2, hex(&Sha256::digest(&bomb)), &bomb);
        site.refuses("MiB are needed");
    }

    #[test]
    fn damaged_packages_leave_nothing() {
        let site = site();
        let model = std::fs::read(bundled()).unwrap();
        let right = hex(&Sha256::digest(&model));
        let length = model.len() as u64;
        site.forge(length, "0".repeat(64), &model);
        site.refuses("the SHA-256 is");
        site.forge(length + 1, right.clone(), &model);
        site.refuses(&format!("has {length} bytes, expected {}", length + 1));
        site.forge(4, hex(&Sha256::digest(b"text")), b"text");
        site.refuses("not a GGUF file");

        site.forge(length, right, &model);
        let whole = std::fs::read(&site.package).unwrap();
        std::fs::write(&site.package, &whole[..whole.len() / 2]).unwrap();
        site.refuses("not a usable package");
        std::fs::write(&site.package, &whole[..20]).unwrap();
        site.refuses("it ends within its head");
        let mut bytes = whole.clone();
        bytes[whole.len() - 100_000] ^= 1;
        std::fs::write(&site.package, bytes).unwrap();
        assert!(site.unpack().is_err());
        assert_eq!(site.files(), ["a.gguf.zst"]);
        std::fs::write(&site.package, zstd::encode_all(&model[..], 1).unwrap()).unwrap();
        site.refuses("does not begin with a manifest");
        let huge = [MANIFEST.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
        std::fs::write(&site.package, huge).unwrap();
        site.refuses("a frame of its head has 4294967295 bytes");
    }

    #[test]
    fn work_is_given_up_when_nobody_wants_it() {
        let site = site();
        site.pack(&Packing { level: 1, ..Packing::default() });
        let package = Package::open(&site.package).unwrap();
        let outcome = package.unpack(&site.package, &site.folder, &site.name, &mut |_, _| false);
        assert!(matches!(outcome, Err(ModelError::Cancelled)));
        assert_eq!(site.files(), ["a.gguf.zst"]);
    }
}
