//! Which kernels compute: a release is this program built several times over, for processors of any age and for those with faster
//! instructions, side by side. The one for any processor looks what this one can do and goes over to the best that is there.
//!
//! Going over is an `exec`: the same process, arguments and environment, so a supervisor notices nothing. ggml's own way of choosing
//! kernels at run time is to load them from shared objects; then the program could not be one file that works wherever it is put.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cerebrum_engine::llama;

/// A build for some processors: what its file's name ends with, and what they must have. The best first.
struct Build {
    suffix: &'static str,
    needs: &'static [&'static str],
}

const BUILDS: [Build; 2] = [
    Build { suffix: "avx512", needs: &["AVX2", "FMA", "F16C", "BMI2", "AVX512", "AVX512_VBMI", "AVX512_VNNI"] },
    Build { suffix: "avx2", needs: &["AVX2", "FMA", "F16C", "BMI2"] },
];

/// Goes over to the build that suits this processor best, if it is beside this program. Returns when this one is to go on, with the
/// reason where it should not be.
pub fn choose() -> Option<io::Error> {
    let program = std::env::current_exe().ok()?;
    let better = better(&program, &|feature| llama::processor_has(feature), &|path| path.is_file())?;
    let error = Command::new(&better).args(std::env::args_os().skip(1)).exec();
    Some(io::Error::new(error.kind(), format!("{}: {error}", better.display())))
}

fn better(program: &Path, has: &dyn Fn(&str) -> bool, there: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let name = program.file_name()?.to_str()?;
    // A build for some processors is where going over ends.
    if BUILDS.iter().any(|build| name.ends_with(&format!(".{}", build.suffix))) {
        return None;
    }
    let suitable = BUILDS.iter().filter(|build| build.needs.iter().all(|feature| has(feature)));
    suitable.map(|build| program.with_file_name(format!("{name}.{}", build.suffix))).find(|path| there(path))
}

/// What this build was compiled for, as one line.
pub fn told() -> String {
    format!("{}\n", llama::system_info())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_build_that_is_there_and_suits_is_taken_once() {
        let newest = |_: &str| true;
        let usual = |feature: &str| !feature.starts_with("AVX512");
        let oldest = |_: &str| false;
        let all = |_: &Path| true;
        let only = |name: &'static str| move |path: &Path| path.ends_with(name);
        let program = Path::new("/usr/bin/cerebrum-server");
        let chosen = |has: &dyn Fn(&str) -> bool, there: &dyn Fn(&Path) -> bool| better(program, has, there);
        assert_eq!(chosen(&newest, &all), Some("/usr/bin/cerebrum-server.avx512".into()));
        assert_eq!(chosen(&usual, &all), Some("/usr/bin/cerebrum-server.avx2".into()));
        assert_eq!(chosen(&oldest, &all), None);
        assert_eq!(chosen(&newest, &only("cerebrum-server.avx2")), Some("/usr/bin/cerebrum-server.avx2".into()));
        assert_eq!(chosen(&newest, &|_| false), None);
        assert_eq!(better(Path::new("/usr/bin/cerebrum-server.avx2"), &newest, &all), None);
    }
}
