//! What llama.cpp was compiled for beside what this processor has.
//!
//! The kernels are chosen when llama.cpp is compiled. On x86 a build has AVX2 because .cargo/config.toml asks for it by name; left to
//! itself, ggml would switch it off where `SOURCE_DATE_EPOCH` is set, and then compute at a fraction of its speed; on ARM it has the oldest kernels unless told otherwise. On a
//! processor without what it was compiled for, the program would end at its first instruction of that kind, without a word.

/// How build and processor fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suitability {
    /// Compiled in, and not there: computing would end the process.
    pub missing: Vec<&'static str>,
    /// There, and not compiled in: several times the speed is lost.
    pub unused: Vec<&'static str>,
}

/// How this build and this processor fit.
pub fn suitability() -> Suitability {
    compare(&super::system_info(), &detected())
}

/// Whether this processor has a feature, by llama.cpp's name of it.
pub fn processor_has(feature: &str) -> bool {
    detected().iter().any(|(name, there)| *name == feature && *there)
}

fn compare(info: &str, detected: &[(&'static str, bool)]) -> Suitability {
    // `AVX = 1 | AVX2 = 1 | ...`, with only those that are compiled in.
    let mut words = info.split([' ', '|', ':']).filter(|word| !word.is_empty()).peekable();
    let mut compiled = Vec::new();
    while let Some(word) = words.next() {
        if words.next_if_eq(&"=").is_some() && words.next() == Some("1") {
            compiled.push(word);
        }
    }
    let mut found = Suitability::default();
    for &(name, there) in detected {
        match (compiled.contains(&name), there) {
            (true, false) => found.missing.push(name),
            (false, true) if DECISIVE.contains(&name) => found.unused.push(name),
            _ => {}
        }
    }
    found
}

/// What quantised weights are computed with.
const DECISIVE: [&str; 5] = ["AVX2", "FMA", "F16C", "DOTPROD", "MATMUL_INT8"];

#[cfg(target_arch = "x86_64")]
fn detected() -> Vec<(&'static str, bool)> {
    use std::arch::is_x86_feature_detected as has;
    vec![
        ("SSE3", has!("sse3")),
        ("SSSE3", has!("ssse3")),
        ("AVX", has!("avx")),
        ("AVX2", has!("avx2")),
        ("F16C", has!("f16c")),
        ("FMA", has!("fma")),
        ("BMI2", has!("bmi2")),
        // ggml's word means all that its kernels use.
        ("AVX512", has!("avx512f") && has!("avx512cd") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl")),
        ("AVX512_VBMI", has!("avx512vbmi")),
        ("AVX512_VNNI", has!("avx512vnni")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn detected() -> Vec<(&'static str, bool)> {
    use std::arch::is_aarch64_feature_detected as has;
    vec![
        ("NEON", has!("neon")),
        ("DOTPROD", has!("dotprod")),
        ("MATMUL_INT8", has!("i8mm")),
        ("SVE", has!("sve")),
        ("FP16_VA", has!("fp16")),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected() -> Vec<(&'static str, bool)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compiled_is_compared_with_what_is_there() {
        let info = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | LLAMAFILE = 1 | F16C = 0 | REPACK = 1 |";
        let there = |avx2| [("SSE3", true), ("AVX", true), ("AVX2", avx2), ("F16C", true), ("BMI2", true)];
        assert_eq!(compare(info, &there(true)), Suitability { missing: vec![], unused: vec!["F16C"] });
        assert_eq!(compare(info, &there(false)), Suitability { missing: vec!["AVX2"], unused: vec!["F16C"] });
        assert_eq!(compare("", &[("AVX2", true)]), Suitability { missing: vec![], unused: vec!["AVX2"] });
    }

    // Fails where a variable of the build (`SOURCE_DATE_EPOCH`, `GGML_AVX2`) has switched the fast kernels off.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn this_build_has_the_kernels_it_is_meant_to_have() {
        let bare = compare(&crate::llama::system_info(), &["AVX2", "FMA", "F16C"].map(|name| (name, true)));
        assert_eq!(bare, Suitability::default(), "{}", crate::llama::system_info());
    }
}
