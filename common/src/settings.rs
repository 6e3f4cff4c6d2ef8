//! Strict settings: TOML and a few environment variables in, values that cannot be wrong out, every problem at once.
//!
//! [`Section`] walks one table of the file. Each program asks for its keys by name; what is asked for wrongly, missing or
//! left over becomes a [`Problem`], and a file with problems starts nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;

/// One thing wrong with the settings: `limits.queue: found "many", expected a whole number`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key.
    pub key: String,
    /// What was found and what was expected.
    pub sentence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.sentence)
    }
}

/// All that is wrong with a settings file.
#[derive(Clone, Debug, thiserror::Error)]
pub struct SettingsError {
    /// The file, or where the values came from.
    pub origin: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}:", if self.problems.len() == 1 { "a problem" } else { "problems" }, self.origin)?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Reads `path` and converts it with `convert`, which asks for every key it knows.
///
/// # Errors
/// Everything wrong with the file, together.
pub fn read_file<T>(path: &Path, convert: impl FnOnce(&mut Section<'_>) -> Option<T>) -> Result<T, SettingsError> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| SettingsError {
        origin: origin.clone(),
        problems: vec![Problem {
            key: "file".into(),
            sentence: format!("found {error}, expected a readable TOML file"),
        }],
    })?;
    let base = path.parent().unwrap_or(Path::new("."));
    read_text(&text, &origin, base, convert)
}

/// As [`read_file`], from text; relative paths in it start at `base`.
///
/// # Errors
/// As [`read_file`].
pub fn read_text<T>(
    text: &str,
    origin: &str,
    base: &Path,
    convert: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<T, SettingsError> {
    let problems = RefCell::new(Vec::new());
    let converted = match text.parse::<toml::Table>() {
        Ok(table) => {
            let mut root = Section { path: String::new(), table, known: Vec::new(), problems: &problems, base };
            let converted = convert(&mut root);
            root.finish();
            converted
        }
        Err(error) => {
            problems.borrow_mut().push(Problem { key: "syntax".into(), sentence: error.to_string().trim().to_owned() });
            None
        }
    };
    let problems = problems.into_inner();
    match converted {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(SettingsError { origin: origin.to_owned(), problems }),
    }
}

/// One table of the file.
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    table: toml::Table,
    known: Vec<&'static str>,
    problems: &'a RefCell<Vec<Problem>>,
    base: &'a Path,
}

impl<'a> Section<'a> {
    /// The value of `key` where it is there and right.
    pub fn take<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let read = T::read(&value, self.base);
        if read.is_none() {
            self.problem(key, format!("found {}, expected {}", shown(&value), T::EXPECTED));
        }
        read
    }

    /// The value of `key`, or `default` where it is absent.
    pub fn or<T: Setting>(&mut self, key: &'static str, default: T) -> T {
        self.take(key).unwrap_or(default)
    }

    /// The value of `key`, which must be there.
    pub fn required<T: Setting>(&mut self, key: &'static str) -> Option<T> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            self.problem(key, format!("found nothing, expected {}", T::EXPECTED));
            return None;
        }
        self.take(key)
    }

    /// A number that must lie between `low` and `high`.
    pub fn within(&mut self, key: &'static str, default: u64, low: u64, high: u64) -> u64 {
        let value = self.or(key, default);
        if (low..=high).contains(&value) {
            return value;
        }
        self.problem(key, format!("found {value}, expected a whole number from {low} to {high}"));
        default
    }

    /// A time in milliseconds that must not be none: nothing could happen within it.
    pub fn time(&mut self, key: &'static str, default: Duration) -> Duration {
        let value = self.or(key, default);
        if !value.is_zero() {
            return value;
        }
        self.problem(key, "found 0, expected milliseconds as a whole number, 1 or more".to_owned());
        default
    }

    /// One of the given words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, default: T, words: &[(&str, T)]) -> T {
        let Some(word) = self.take::<String>(key) else { return default };
        match words.iter().find(|(name, _)| *name == word) {
            Some((_, value)) => *value,
            None => {
                let expected: Vec<_> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
                self.problem(key, format!("found {word:?}, expected {}", expected.join(" or ")));
                default
            }
        }
    }

    /// The table `key`, read by `read`; an absent one is read as empty.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        self.known.push(key);
        let table = match self.table.remove(key) {
            None => toml::Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.problem(key, format!("found {}, expected a table [{}]", shown(&other), self.full(key)));
                toml::Table::new()
            }
        };
        self.child(self.full(key), table, read)
    }

    /// The table `key` where it is there.
    pub fn optional<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>) -> T) -> Option<T> {
        let present = self.table.contains_key(key);
        if !present {
            self.known.push(key);
        }
        present.then(|| self.section(key, read))
    }

    /// Each table of the list `[[key]]`.
    pub fn each<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'a>) -> Option<T>) -> Vec<T> {
        self.known.push(key);
        let list = match self.table.remove(key) {
            None => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(other) => {
                self.problem(key, format!("found {}, expected tables [[{}]]", shown(&other), self.full(key)));
                return Vec::new();
            }
        };
        let mut values = Vec::new();
        for (index, entry) in list.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.full(key));
            match entry {
                Value::Table(table) => values.extend(self.child(path, table, &mut read)),
                other => self.problem(key, format!("found {}, expected a table", shown(&other))),
            }
        }
        values
    }

    /// A table of free keys with values of one type.
    pub fn map<T: Setting>(&mut self, key: &'static str) -> BTreeMap<String, T> {
        self.known.push(key);
        let Some(value) = self.table.remove(key) else { return BTreeMap::new() };
        let Value::Table(table) = value else {
            self.problem(key, format!("found {}, expected a table [{}]", shown(&value), self.full(key)));
            return BTreeMap::new();
        };
        let mut map = BTreeMap::new();
        for (name, value) in table {
            match T::read(&value, self.base) {
                Some(read) => {
                    map.insert(name, read);
                }
                None => self.problem(key, format!("{name}: found {}, expected {}", shown(&value), T::EXPECTED)),
            }
        }
        map
    }

    /// Records a problem with `key` that only the caller can see.
    pub fn problem(&self, key: &str, sentence: String) {
        self.problems.borrow_mut().push(Problem { key: self.full(key), sentence });
    }

    fn child<T>(&mut self, path: String, table: toml::Table, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let mut child = Section { path, table, known: Vec::new(), problems: self.problems, base: self.base };
        let value = read(&mut child);
        child.finish();
        value
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whatever nobody asked for is a mistake of spelling, and would silently not do what its writer meant.
    fn finish(self) {
        for key in self.table.keys() {
            let sentence = match nearest(key, &self.known) {
                Some(known) => format!("found an unknown key, expected {known:?} perhaps"),
                None => format!("found an unknown key, expected one of {}", self.known.join(", ")),
            };
            self.problem(key, sentence);
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    }
}

fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .copied()
        .map(|name| (distance(key, name), name))
        .filter(|(far, _)| *far <= 2)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance; keys are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A type that a setting can have.
pub trait Setting: Sized {
    /// What to write, for the sentence.
    const EXPECTED: &'static str;

    /// The value, where it is of this type; relative paths start at `base`.
    fn read(value: &Value, base: &Path) -> Option<Self>;
}

impl Setting for String {
    const EXPECTED: &'static str = "a string";

    fn read(value: &Value, _: &Path) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(value: &Value, _: &Path) -> Option<Self> {
        value.as_bool()
    }
}

impl Setting for u64 {
    const EXPECTED: &'static str = "a whole number, 0 or more";

    fn read(value: &Value, _: &Path) -> Option<Self> {
        value.as_integer().and_then(|number| u64::try_from(number).ok())
    }
}

impl Setting for f64 {
    const EXPECTED: &'static str = "a number";

    fn read(value: &Value, _: &Path) -> Option<Self> {
        value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
    }
}

impl Setting for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn read(value: &Value, base: &Path) -> Option<Self> {
        value.as_str().filter(|path| !path.is_empty()).map(|path| base.join(path))
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str = "an address and port such as \"0.0.0.0:7000\" or \"[::]:7000\"";

    fn read(value: &Value, _: &Path) -> Option<Self> {
        value.as_str().and_then(|address| address.parse().ok())
    }
}

/// A length of time, written in milliseconds under a key that ends in `_ms`.
impl Setting for Duration {
    const EXPECTED: &'static str = "milliseconds as a whole number";

    fn read(value: &Value, base: &Path) -> Option<Self> {
        u64::read(value, base).map(Duration::from_millis)
    }
}

impl Setting for Vec<String> {
    const EXPECTED: &'static str = "a list of strings";

    fn read(value: &Value, base: &Path) -> Option<Self> {
        value.as_array()?.iter().map(|entry| String::read(entry, base)).collect()
    }
}

/// The environment, read here and nowhere else. Empty variables count as absent.
pub fn environment(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the settings module is where the environment is read")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Writes a file whole or not at all, readable by its owner only: a power cut leaves the old or the new content. Whoever owns the
/// old file, or else the folder, owns the new one, also when the administrator writes it: a service must still be able to read it.
///
/// # Errors
/// The system's complaint.
pub fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = folder.join(name);
    // Left by a cut, or put there by somebody who may write to the folder to lead elsewhere.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let owner = std::fs::symlink_metadata(path).or_else(|_| std::fs::metadata(folder))?;
    if file.metadata()?.uid() == 0 && (owner.uid(), owner.gid()) != (0, 0) {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, convert: impl FnOnce(&mut Section<'_>) -> Option<()>) -> Vec<String> {
        match read_text(text, "test.toml", Path::new("/etc/x"), convert) {
            Ok(()) => Vec::new(),
            Err(error) => error.problems.iter().map(ToString::to_string).collect(),
        }
    }

    fn convert(root: &mut Section<'_>) -> Option<()> {
        let _: Option<SocketAddr> = root.take("listen");
        root.section("limits", |limits| {
            limits.within("queue", 0, 0, 64);
            limits.or("idle_ms", Duration::from_millis(5));
        });
        root.choice("auth", 0, &[("open", 0), ("keys", 1)]);
        let upstreams = root.each("upstream", |upstream| upstream.required::<String>("url"));
        (!upstreams.is_empty()).then_some(())
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let text = r#"
            listen = "7000"
            auth = "none"
            [limits]
            quene = 3
            idle_ms = -1
            [[upstream]]
            [[upstream]]
            url = 7
        "#;
        assert_eq!(
            problems(text, convert),
            [
                "listen: found \"7000\", expected an address and port such as \"0.0.0.0:7000\" or \"[::]:7000\"",
                "limits.idle_ms: found -1, expected milliseconds as a whole number",
                "limits.quene: found an unknown key, expected \"queue\" perhaps",
                "auth: found \"none\", expected \"open\" or \"keys\"",
                "upstream[0].url: found nothing, expected a string",
                "upstream[1].url: found 7, expected a string",
            ]
        );
    }

    #[test]
    fn a_right_file_has_no_problem_and_broken_syntax_one() {
        assert!(problems("listen = \"[::]:1\"\n[limits]\nqueue = 64\n[[upstream]]\nurl = \"x\"", convert).is_empty());
        let broken = problems("listen = = 1", convert);
        assert_eq!(broken.len(), 1);
        assert!(broken[0].starts_with("syntax: TOML parse error at line 1"), "{broken:?}");
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let mut path = None;
        let found = problems("p = \"keys.toml\"", |root| {
            path = root.take::<PathBuf>("p");
            Some(())
        });
        assert!(found.is_empty());
        assert_eq!(path, Some(PathBuf::from("/etc/x/keys.toml")));
    }

    #[test]
    fn private_files_are_private_and_whole() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/secret");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path().join("sub")).unwrap().count(), 1);
    }
}
