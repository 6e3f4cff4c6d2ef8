//! Programming languages: their names, and which model serves which. Finding out a prompt's language is in `detect`.

mod detect;
mod keywords;
mod map;

pub use detect::{Detected, Source, UNKNOWN, detect, identify};
pub(crate) use detect::{fence_tag, path_line};
pub use map::{DEFAULT_MODEL, LanguageMap, MODEL_MAP};

macro_rules! languages {
    ($($variant:ident $name:literal [$($alias:literal)*],)*) => {
        /// A language that Cerebrum can tell from others.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Language {
            $(#[doc = $name] $variant,)*
        }

        impl Language {
            /// Every language.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name used in settings, answers and fences.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The language of a name, alias or file extension, in lower case.
            fn from_lower(name: &str) -> Option<Self> {
                match name {
                    $($name $(| $alias)* => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

languages! {
    Python "python" ["py" "python3" "pyi" "pyw"],
    JavaScript "javascript" ["js" "jsx" "mjs" "cjs" "node"],
    TypeScript "typescript" ["ts" "tsx" "mts" "cts"],
    Rust "rust" ["rs"],
    Go "go" ["golang"],
    C "c" ["h"],
    Cpp "cpp" ["c++" "cc" "cxx" "hpp" "hh" "hxx" "cu"],
    Java "java" [],
    Shell "shell" ["sh" "bash" "zsh" "ksh" "dash" "console"],
    CSharp "csharp" ["cs" "c#"],
    Ruby "ruby" ["rb"],
    Php "php" [],
    Kotlin "kotlin" ["kt" "kts"],
    Swift "swift" [],
    Sql "sql" [],
    Html "html" ["htm"],
    Css "css" ["scss"],
    Json "json" [],
    Yaml "yaml" ["yml"],
    Toml "toml" [],
    Markdown "markdown" ["md"],
}

impl Language {
    /// Length of the longest name that is looked up; anything longer is no language.
    const NAME_BYTES: usize = 16;

    /// The language of a name, alias or file extension, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim();
        if name.len() > Self::NAME_BYTES {
            return None;
        }
        Self::from_lower(&name.to_ascii_lowercase())
    }

    /// How a comment that runs to the end of the line begins.
    #[must_use]
    pub fn line_comment(self) -> &'static str {
        match self {
            Self::Python | Self::Shell | Self::Ruby | Self::Yaml | Self::Toml => "#",
            Self::Sql => "--",
            _ => "//",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_language() {
        for language in Language::ALL {
            assert_eq!(Language::from_name(language.name()), Some(*language));
        }
    }

    #[test]
    fn spellings() {
        for (name, expected) in [
            ("Python", Some(Language::Python)),
            (" JS ", Some(Language::JavaScript)),
            ("C++", Some(Language::Cpp)),
            ("golang", Some(Language::Go)),
            ("brainfuck", None),
            ("", None),
            ("a name that is far too long to be one", None),
        ] {
            assert_eq!(Language::from_name(name), expected, "{name}");
        }
    }
}
