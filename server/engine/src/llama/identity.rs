//! What the state of a sequence depends on, as one digest.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::Options;
use super::context::Shape;
use crate::PrefixFile;

/// Where this model's prefixes are kept, if they are to be. A file that cannot be read now keeps none.
pub(super) fn prefix_file(options: &Options, shape: Shape) -> Option<PrefixFile> {
    let (folder, limit) = options.keep_prefixes.clone()?;
    match identity(options, shape) {
        Ok(identity) => Some(PrefixFile { folder, limit, identity }),
        Err(error) => {
            tracing::warn!(path = %options.path.display(), %error, "prefixes are not kept: the file cannot be read");
            None
        }
    }
}

fn identity(options: &Options, shape: Shape) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    content(&options.path, &mut digest)?;
    for adapter in &options.adapters {
        digest.update(format!("adapter {} {:?}", adapter.name, adapter.scale.to_bits()));
        content(&adapter.path, &mut digest)?;
    }
    // Other threads or other kernels add up in another order; the numbers of slots and of rows are nothing to a sequence.
    let Shape { context, threads, batch_threads, .. } = shape;
    let (build, version) = (super::system_info(), env!("CARGO_PKG_VERSION"));
    digest.update(format!("context {context} threads {threads} {batch_threads} F16 {build} {version}"));
    Ok(digest.finalize().into())
}

// Reading all of a large file takes as long as loading it. Its length, time, header and blocks from everywhere tell two files apart
// that anybody would give the same name.
fn content(path: &Path, digest: &mut Sha256) -> io::Result<()> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    let time = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    digest.update(format!("file {} {}", about.len(), time.as_nanos()));
    let mut block = vec![0; HEAD];
    let read = read_up_to(&mut file, &mut block)?;
    digest.update(&block[..read]);
    for number in 0..BLOCKS {
        file.seek(SeekFrom::Start(about.len() / BLOCKS * number))?;
        let read = read_up_to(&mut file, &mut block[..BLOCK])?;
        digest.update(&block[..read]);
    }
    Ok(())
}

fn read_up_to(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    loop {
        match file.read(&mut block[filled..])? {
            0 => return Ok(filled),
            read => filled += read,
        }
    }
}

const HEAD: usize = 1 << 20;
const BLOCK: usize = 4096;
const BLOCKS: u64 = 256;
