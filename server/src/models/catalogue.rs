//! A short list of coder models that are known to be of use, smallest first. Sizes are those of the published files, rounded.

/// A model of the catalogue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// What to call it.
    pub(super) name: &'static str,
    /// Where it is.
    pub(super) source: &'static str,
    /// Size of the file in MiB.
    pub(super) mib: u64,
    /// What it is good for.
    pub(super) remark: &'static str,
}

impl Known {
    /// Memory it needs with two slots of 4,096 tokens, in MiB: what the registry asks for before it loads such a file.
    pub(super) fn ram_mib(&self) -> u64 {
        self.mib + self.mib / 4
    }
}

/// The model of that name.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    CATALOGUE.iter().find(|model| model.name == name)
}

/// The catalogue.
pub(super) const CATALOGUE: &[Known] = &[
    Known {
        name: "qwen2.5-coder-0.5b-instruct-q8_0",
        source: "hf:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:qwen2.5-coder-0.5b-instruct-q8_0.gguf",
        mib: 640,
        remark: "completes lines; for 1 GB machines",
    },
    Known {
        name: "qwen2.5-coder-1.5b-instruct-q4_k_m",
        source: "hf:Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF:qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        mib: 1070,
        remark: "completes functions; small and quick",
    },
    Known {
        name: "qwen2.5-coder-7b-instruct-q4_k_m",
        source: "hf:Qwen/Qwen2.5-Coder-7B-Instruct-GGUF:qwen2.5-coder-7b-instruct-q4_k_m.gguf",
        mib: 4470,
        remark: "writes and edits code; the usual choice",
    },
    Known {
        name: "qwen2.5-coder-14b-instruct-q4_k_m",
        source: "hf:Qwen/Qwen2.5-Coder-14B-Instruct-GGUF:qwen2.5-coder-14b-instruct-q4_k_m.gguf",
        mib: 8570,
        remark: "better at larger changes, half as fast",
    },
    Known {
        name: "deepseek-coder-v2-lite-instruct-q4_k_m",
        source: "hf:bartowski/DeepSeek-Coder-V2-Lite-Instruct-GGUF:DeepSeek-Coder-V2-Lite-Instruct-Q4_K_M.gguf",
        mib: 9890,
        remark: "16B of which 2.4B compute: quick where memory allows",
    },
    Known {
        name: "qwen3-coder-30b-a3b-instruct-q4_k_m",
        source: "hf:unsloth/Qwen3-Coder-30B-A3B-Instruct-GGUF:Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf",
        mib: 17690,
        remark: "30B of which 3B compute; needs a large machine",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::source::HUB;
    use crate::models::{Name, Source};

    #[test]
    fn every_entry_can_be_pulled_under_its_name() {
        assert!(CATALOGUE.is_sorted_by_key(|model| model.mib) && CATALOGUE.len() > 3);
        for model in CATALOGUE {
            assert!(model.name.parse::<Name>().is_ok(), "{}", model.name);
            let source = Source::of(model.name, HUB).unwrap();
            assert!(source.hub && source.name().unwrap().as_str().eq_ignore_ascii_case(model.name), "{}", model.name);
        }
    }
}
