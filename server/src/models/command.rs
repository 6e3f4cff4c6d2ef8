//! The command line of `models`: what may be asked, and what is printed.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use cerebrum_common::keys::Secret;
use cerebrum_engine::gguf::Header;
use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};

use super::catalogue::{CATALOGUE, find};
use super::draft::{BLOCK, for_each_block, has_room};
use super::manifest::{hex, is_hash};
use super::package::DICTIONARY_BYTES;
use super::source::HUB;
use super::{
    Draft, Folder, Listed, Manifest, ModelError, Name, Package, Packing, Patience, Progress, Pull, Source, is_package,
    pack,
};
use crate::settings::DEFAULT_MODELS;

/// What to do with the folder of models.
#[derive(Debug, Args)]
pub struct Request {
    /// The folder of models, `models_dir` in the settings.
    #[arg(long, global = true, default_value = DEFAULT_MODELS)]
    models_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the models there are, or those known to be of use.
    List {
        /// Coder models to pull, by size, with the memory that each needs.
        #[arg(long)]
        catalogue: bool,
    },
    /// Install a GGUF file or a package of this machine.
    Add {
        /// The file, ending in .gguf or .gguf.zst.
        file: PathBuf,
        /// What to call it; the file's own name by default.
        #[arg(long)]
        name: Option<String>,
        /// Install over a model of that name.
        #[arg(long)]
        replace: bool,
    },
    /// Fetch a model from the web; goes on where an earlier pull was cut.
    Pull(Fetch),
    /// Compare files with their hashes, and see whether packages unpack; all of them, or one.
    Verify {
        /// The model.
        name: Option<String>,
    },
    /// Make a package, NAME.gguf.zst, of a model or a GGUF file.
    Pack {
        /// The model's name, or a GGUF file.
        model: String,
        /// The package; NAME.gguf.zst here by default.
        #[arg(long)]
        output: Option<PathBuf>,
        /// From 1 (fast) to 19 (small).
        #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(i32).range(1..=19))]
        level: i32,
        /// A zstd dictionary to begin with; it travels in the package.
        #[arg(long)]
        dictionary: Option<PathBuf>,
    },
    /// Delete a model, its package, and what an unfinished pull of it left.
    Remove {
        /// The model.
        name: String,
    },
}

#[derive(Debug, Args)]
struct Fetch {
    /// A URL, hf:owner/repository:file.gguf, or a name of the catalogue.
    source: String,
    /// What to call it; the file's own name by default.
    #[arg(long)]
    name: Option<String>,
    /// The SHA-256 that the file has to have; without it, the one that the hub sends.
    #[arg(long)]
    sha256: Option<String>,
    /// Install over a model of that name.
    #[arg(long)]
    replace: bool,
    /// A file with the token for places that want one.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// The hub that `hf:` means.
    #[arg(long, default_value = HUB)]
    hub: String,
}

/// Does it; the answer is what to print.
///
/// # Errors
/// [`ModelError`], or what cannot be read.
pub fn carry_out(request: Request) -> anyhow::Result<String> {
    let folder = Folder::new(request.models_dir);
    match request.command {
        Command::List { catalogue: true } => Ok(catalogue()),
        Command::List { catalogue: false } => list(&folder),
        Command::Add { file, name, replace } => add(&folder, &file, name.as_deref(), replace),
        Command::Pull(fetch) => pull(&folder, fetch),
        Command::Verify { name } => verify(&folder, name.as_deref()),
        Command::Pack { model, output, level, dictionary } => {
            make_package(&folder, &model, output, level, dictionary.as_deref())
        }
        Command::Remove { name } => remove(&folder, &name.parse()?),
    }
}

fn catalogue() -> String {
    let mut text = format!("{:<40} {:>9} {:>9}  {}\n", "NAME", "FILE MiB", "RAM MiB", "");
    for model in CATALOGUE {
        _ = writeln!(text, "{:<40} {:>9} {:>9}  {}", model.name, model.mib, model.ram_mib(), model.remark);
    }
    text + "\ncerebrum-server models pull NAME installs one. RAM is for two slots of 4,096 tokens.\n"
}

fn list(folder: &Folder) -> anyhow::Result<String> {
    let mut text = format!("{:<40} {:>9}  {}\n", "NAME", "FILE MiB", "WHAT");
    for model in folder.list()? {
        _ = writeln!(text, "{:<40} {:>9}  {}", model.name, model.bytes >> 20, described(folder, &model));
    }
    Ok(text)
}

fn described(folder: &Folder, model: &Listed) -> String {
    if model.packed {
        return match Package::open(&model.path) {
            Ok(package) => format!("package of {} MiB, unpacked on first use", package.manifest().bytes >> 20),
            Err(error) => format!("unusable: {error}"),
        };
    }
    let header = match Header::of(&model.path) {
        Ok(header) => header,
        Err(error) => return format!("unusable: {error}"),
    };
    let kind = header.main_kind().map(|kind| kind.to_string()).unwrap_or_default();
    let size = match header.parameters() {
        few if few < 950_000_000 => format!("{:.0}M", few as f64 / 1e6),
        many => format!("{:.1}B", many as f64 / 1e9),
    };
    let context = header.own("context_length").map(|tokens| format!(", context {tokens}")).unwrap_or_default();
    let hash = match model.name.parse().and_then(|name| Manifest::of(folder, &name)) {
        Ok(Some(_)) => "",
        Ok(None) => ", hash unknown",
        Err(_) => ", manifest unreadable",
    };
    format!("{} {size} {kind}{context}{hash}", header.architecture())
}

fn add(folder: &Folder, file: &Path, name: Option<&str>, replace: bool) -> anyhow::Result<String> {
    let shown = file.to_string_lossy();
    let name = name.map_or_else(|| Name::of_file(&shown), str::parse)?;
    made(folder)?;
    let target = folder.gguf(&name);
    if target.exists() && !replace {
        return Err(ModelError::Exists { path: target }.into());
    }
    let progress = Progress::shown(name.as_str());
    if is_package(&shown) {
        let manifest = Package::open(file)?.unpack(file, folder, &name, &mut |done, total| {
            progress.set(done, Some(total));
            true
        })?;
        return Ok(installed(&manifest));
    }
    let manifest = copy(folder, file, &name, &target, &progress)?;
    Ok(installed(&manifest))
}

fn copy(folder: &Folder, file: &Path, name: &Name, target: &Path, progress: &Progress) -> Result<Manifest, ModelError> {
    use std::io::Read;
    let unreadable = || ModelError::io(file);
    let mut from = File::open(file).map_err(unreadable())?;
    let length = from.metadata().map_err(unreadable())?.len();
    let mut draft = Draft::open(folder, name, target)?;
    draft.restart()?;
    has_room(folder, length)?;
    let mut block = vec![0; BLOCK];
    loop {
        match from.read(&mut block).map_err(unreadable())? {
            0 => break,
            read => draft.write(&block[..read])?,
        }
        progress.set(draft.bytes(), Some(length));
    }
    let manifest = Manifest::new(name, draft.bytes(), draft.checked(None)?, None);
    draft.install(target)?;
    manifest.write(folder, name)?;
    Ok(manifest)
}

fn made(folder: &Folder) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder.path()).map_err(ModelError::io(folder.path()))
}

fn installed(manifest: &Manifest) -> String {
    let Manifest { name, bytes, sha256, .. } = manifest;
    format!("{name}: {} MiB installed, SHA-256 {sha256}\n", bytes >> 20)
}

fn pull(folder: &Folder, fetch: Fetch) -> anyhow::Result<String> {
    if let Some(sha256) = &fetch.sha256 {
        ensure!(is_hash(sha256), "--sha256: found {sha256:?}, expected 64 hexadecimal digits");
    }
    let source = Source::of(&fetch.source, &fetch.hub)?;
    let known = find(&fetch.source).map(|model| model.name);
    let name = match fetch.name.as_deref().or(known) {
        Some(name) => name.parse()?,
        None => source.name()?,
    };
    made(folder)?;
    let progress = Progress::shown(name.as_str());
    let pull = Pull {
        source,
        name,
        sha256: fetch.sha256,
        replace: fetch.replace,
        token: fetch.token_file.as_deref().map(token).transpose()?,
        patience: Patience::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pulled = runtime.block_on(pull.run(folder, &progress))?;
    drop(progress);
    let mut text = installed(&pulled.manifest);
    if pulled.resumed > 0 {
        _ = writeln!(text, "{} MiB of it had been fetched before.", pulled.resumed >> 20);
    }
    if !pulled.checked {
        text.push_str("Nobody said what its hash should be: compare it with what the publisher says.\n");
    }
    Ok(text)
}

fn token(path: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(Secret::new(text.trim()))
}

fn verify(folder: &Folder, name: Option<&str>) -> anyhow::Result<String> {
    let models: Vec<_> =
        folder.list()?.into_iter().filter(|model| name.is_none_or(|name| model.name == name)).collect();
    if let (Some(name), []) = (name, models.as_slice()) {
        return Err(ModelError::Unknown { name: name.to_owned(), folder: folder.path().to_owned() }.into());
    }
    let (mut text, mut wrong) = (String::new(), Vec::new());
    for model in &models {
        match verified(folder, model) {
            Ok(found) => _ = writeln!(text, "{}: {found}", model.name),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    match wrong.is_empty() {
        true => Ok(text),
        false => bail!("{}", wrong.join("\n")),
    }
}

fn verified(folder: &Folder, model: &Listed) -> Result<&'static str, ModelError> {
    let progress = Progress::shown(&model.name);
    if model.packed {
        let mut report = |done, total| {
            progress.set(done, Some(total));
            true
        };
        return Package::open(&model.path)?
            .verify(&model.path, &mut report)
            .map(|()| "the package unpacks to what it says");
    }
    let name: Name = model.name.parse()?;
    Header::of(&model.path).map_err(|reason| ModelError::Gguf { name: model.name.clone(), reason })?;
    let Some(manifest) = Manifest::of(folder, &name)? else { return Ok("its header is right; its hash is not known") };
    let (mut hash, mut done) = (Sha256::new(), 0);
    let mut file = File::open(&model.path).map_err(ModelError::io(&model.path))?;
    let read = for_each_block(&mut file, |block| {
        hash.update(block);
        done += block.len() as u64;
        progress.set(done, Some(model.bytes));
    });
    read.map_err(ModelError::io(&model.path))?;
    let found = hex(&hash.finalize());
    match found.eq_ignore_ascii_case(&manifest.sha256) {
        true => Ok("its hash is right"),
        false => Err(ModelError::Altered { name: model.name.clone(), found, expected: manifest.sha256 }),
    }
}

fn make_package(
    folder: &Folder,
    model: &str,
    output: Option<PathBuf>,
    level: i32,
    dictionary: Option<&Path>,
) -> anyhow::Result<String> {
    let (gguf, name) = match model.ends_with(".gguf") {
        true => (PathBuf::from(model), Name::of_file(model)?),
        false => (folder.gguf(&model.parse()?), model.parse()?),
    };
    Header::of(&gguf).with_context(|| gguf.display().to_string())?;
    let output = output.unwrap_or_else(|| PathBuf::from(format!("{name}.gguf.zst")));
    ensure!(!output.exists(), "{}: there already", output.display());
    let packing = Packing { level, dictionary: dictionary.map(read_dictionary).transpose()?.unwrap_or_default() };
    let place = output.parent().filter(|place| !place.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let progress = Progress::shown(name.as_str());
    let manifest = pack(&gguf, &Folder::new(place), &output, &name, &packing, &mut |done, total| {
        progress.set(done, Some(total));
        true
    })?;
    let packed = std::fs::metadata(&output)?.len();
    let share = 100.0 * packed as f64 / manifest.bytes as f64;
    Ok(format!("{}: {} MiB, {share:.0} % of the model\n", output.display(), packed >> 20))
}

fn read_dictionary(path: &Path) -> anyhow::Result<Vec<u8>> {
    let dictionary = std::fs::read(path).with_context(|| path.display().to_string())?;
    ensure!(dictionary.len() as u64 <= DICTIONARY_BYTES, "{}: larger than 16 MiB", path.display());
    Ok(dictionary)
}

fn remove(folder: &Folder, name: &Name) -> anyhow::Result<String> {
    let (gguf, package) = (folder.gguf(name), folder.package(name));
    // Whoever writes it at this moment would bring it back.
    let drafts = [Draft::open(folder, name, &gguf)?, Draft::open(folder, name, &package)?];
    let mut found = false;
    for path in [gguf, package, folder.manifest(name)] {
        match std::fs::remove_file(&path) {
            Ok(()) => found = true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ModelError::io(&path)(error).into()),
        }
    }
    let mut freed = 0;
    for draft in &drafts {
        freed += std::fs::metadata(draft.path()).map_or(0, |file| file.len());
        drop(std::fs::remove_file(format!("{}.toml", draft.path().display())));
    }
    if !found && freed == 0 {
        return Err(ModelError::Unknown { name: name.to_string(), folder: folder.path().to_owned() }.into());
    }
    Ok(format!("{name}: removed\n"))
}
