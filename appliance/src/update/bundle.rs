//! An update as one file: a manifest, its signature, and a slot's content, packed.
//!
//! ```text
//! "CRBUPD1\n"  8 bytes
//! length       of the manifest, 32 bits, little-endian
//! manifest     TOML: what it is, and the lengths and SHA-256 of the rest
//! signature    64 bytes, Ed25519 over everything before
//! content      Zstandard; unpacked, the bytes of a slot's partition from its beginning
//! ```
//!
//! Nothing of the content is looked at before the signature is found right, and nothing is written before the content's hash is.

use std::io::{self, Read};

use cerebrum_common::settings::read_text;
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

/// How a bundle begins, and in which form it is.
const MAGIC: &[u8; 8] = b"CRBUPD1\n";
/// The longest manifest that is read; ours have 300 bytes.
const MANIFEST_BYTES: usize = 16 << 10;
/// The longest distance that unpacking may look back, as a power of two: bounds its memory to 8 MiB.
const WINDOW_LOG: u32 = 23;

/// What a bundle says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The machine it is for.
    pub compatible: String,
    /// The version of the system in it.
    pub version: Version,
    /// Bytes and SHA-256 of the content, unpacked.
    pub slot: (u64, String),
    /// Bytes and SHA-256 of the content as it is in the file.
    pub packed: (u64, String),
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It cannot be read.
    #[error("the update cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("found no update bundle, expected a file that begins with CRBUPD1")]
    NotOne,
    /// Nobody whom this appliance trusts has signed it.
    #[error("the update is not signed with a key that this appliance knows: nothing is installed")]
    Unsigned,
    /// It says nothing sensible of itself.
    #[error("the update's manifest is not understood: {0}")]
    Manifest(String),
    /// It ends too early, or goes on too long.
    #[error("the update is torn: found {found} bytes of content, expected {expected}; fetch it again")]
    Torn {
        /// Bytes that are there.
        found: u64,
        /// Bytes that should be.
        expected: u64,
    },
    /// Its content is not what was signed.
    #[error("the update is damaged: its SHA-256 is not the one that was signed; fetch it again")]
    Damaged,
}

/// A version: numbers with points between, then the date of the build for two of the same numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    numbers: Vec<u64>,
    date: u64,
}

impl Version {
    /// From `1.2.3` and seconds since 1970.
    pub fn new(numbers: &str, date: u64) -> Option<Self> {
        let numbers = numbers.split('.').map(|number| number.parse().ok()).collect::<Option<Vec<_>>>()?;
        Some(Self { numbers, date })
    }

    /// `1.2.3`, without the date.
    pub fn numbers(&self) -> String {
        let numbers: Vec<_> = self.numbers.iter().map(ToString::to_string).collect();
        numbers.join(".")
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.numbers(), self.date)
    }
}

/// Reads the head of a bundle up to its content, and checks who signed it. `keys` are Ed25519 public keys.
///
/// # Errors
/// [`BundleError`].
pub fn open(bundle: &mut impl Read, keys: &[[u8; 32]]) -> Result<Manifest, BundleError> {
    let mut head = vec![0; MAGIC.len() + 4];
    read_head(bundle, &mut head)?;
    let (magic, length) = head.split_at(MAGIC.len());
    let length = length.iter().rev().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
    if magic != MAGIC || length > MANIFEST_BYTES {
        return Err(BundleError::NotOne);
    }
    let start = head.len();
    head.resize(start + length, 0);
    read_head(bundle, &mut head[start..])?;
    let mut signature = [0; 64];
    read_head(bundle, &mut signature)?;
    let known = |key: &[u8; 32]| UnparsedPublicKey::new(&ED25519, key).verify(&head, &signature).is_ok();
    if !keys.iter().any(known) {
        return Err(BundleError::Unsigned);
    }
    let text = std::str::from_utf8(&head[start..]).map_err(|error| BundleError::Manifest(error.to_string()))?;
    manifest(text)
}

/// A file that ends within its head is no bundle.
fn read_head(bundle: &mut impl Read, into: &mut [u8]) -> Result<(), BundleError> {
    bundle.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BundleError::NotOne,
        _ => BundleError::Io(error),
    })
}

fn manifest(text: &str) -> Result<Manifest, BundleError> {
    read_text(text, "manifest", std::path::Path::new("/"), |root| {
        let compatible = root.required("compatible");
        let (numbers, date) = (root.required::<String>("version"), root.required("date"));
        let slot = (root.required("slot_bytes"), root.required("slot_sha256"));
        let packed = (root.required("packed_bytes"), root.required("packed_sha256"));
        let version = Version::new(&numbers?, date?);
        if version.is_none() {
            root.problem("version", "expected numbers with points between".to_owned());
        }
        Some(Manifest {
            compatible: compatible?,
            version: version?,
            slot: (slot.0?, slot.1?),
            packed: (packed.0?, packed.1?),
        })
    })
    .map_err(|error| BundleError::Manifest(error.to_string()))
}

/// Reads the content to its end and compares it with the manifest; `bundle` is where [`open`] left it.
///
/// # Errors
/// [`BundleError`].
pub fn check_content(bundle: &mut impl Read, manifest: &Manifest) -> Result<(), BundleError> {
    let (expected, sum) = &manifest.packed;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    let mut found = 0;
    // One byte more than expected tells that there is too much.
    let mut content = bundle.take(expected + 1);
    loop {
        match content.read(&mut chunk)? {
            0 => break,
            read => {
                hasher.update(&chunk[..read]);
                found += read as u64;
            }
        }
    }
    if found != *expected {
        return Err(BundleError::Torn { found, expected: *expected });
    }
    if hex(&hasher.finalize()) == *sum { Ok(()) } else { Err(BundleError::Damaged) }
}

/// The content, unpacked as it is read.
///
/// # Errors
/// The system's complaint.
pub fn content<'a>(bundle: impl Read + 'a, manifest: &Manifest) -> io::Result<impl Read + 'a> {
    let mut decoder = zstd::stream::read::Decoder::new(bundle.take(manifest.packed.0))?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(decoder.take(manifest.slot.0))
}

/// In hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The keys of a file: 64 hexadecimal digits in a line; what follows `#` is for people.
pub fn keys(text: &str) -> Vec<[u8; 32]> {
    let lines = text.lines().filter_map(|line| line.split('#').next()).map(str::trim);
    lines
        .filter(|line| line.len() == 64)
        .filter_map(|line| {
            let mut key = [0; 32];
            for (byte, digits) in key.iter_mut().zip(line.as_bytes().chunks(2)) {
                *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
            }
            Some(key)
        })
        .collect()
}
