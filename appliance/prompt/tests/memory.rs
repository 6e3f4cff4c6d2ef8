//! Memory at its peak, counted by the allocator: one test, so that nothing else allocates meanwhile.

use cerebrum_prompt::tokens::Estimate;
use cerebrum_prompt::{Outcome, Profile, Request, Settings, TokenCount, prepare_request};
use peak_alloc::PeakAlloc;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

const MIB: f32 = 1_048_576.0;

#[test]
fn four_times_the_prompt_and_a_mebibyte() {
    let function = |n: usize| {
        format!(
            "def parse_{n}(line, strict=False):\n    name, _, value = line.partition(':')\n    if strict and not name:\n        \
             raise ValueError('no name in line {n}')\n    return name.strip(), value.strip()\n\n\n"
        )
    };
    // Whether it is looked at: so many lines with so little in each are sent as they came.
    let texts: [(&str, bool, String); 5] = [
        ("4 MiB of functions", true, (0..22_000).map(function).collect()),
        ("one line", true, "x".repeat(1 << 20)),
        ("equal lines", true, "    value = compute(value)\n".repeat(40_330)),
        ("tiny functions", false, (0..100_000).map(|n| format!("def f{n}():\n  pass\n")).collect()),
        ("brackets never closed", false, "f(\n".repeat(350_000)),
    ];
    for (name, looked_at, text) in texts {
        let prompt = format!("Refactor the function that reads the header.\n\n{text}");
        let room = Some(Estimate.count(&prompt) / 5);
        PEAK.reset_peak_usage();
        let before = PEAK.current_usage_as_mb();
        let prepared =
            prepare_request(&Request { room, ..Request::new(&prompt) }, &Settings { profile: Profile::Smart });
        let peak = PEAK.peak_usage_as_mb() - before;
        let most = 4.0 * prompt.len() as f32 / MIB + 1.0;
        assert!(peak <= most, "{name}: {peak} MiB at the peak, at most {most} expected");
        assert_ne!(prepared.report.outcome, Outcome::Doubtful, "{name}");
        assert_eq!(prepared.report.outcome != Outcome::Unfit, looked_at, "{name}");
    }
}
