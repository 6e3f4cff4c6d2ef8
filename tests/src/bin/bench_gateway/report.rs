//! Figures and how they are shown: a table, JSON, the line `RESULT`.

use std::io::Write;
use std::path::Path;

use super::latency::Latency;
use super::sides::{Ready, Side};
use super::streams::Streams;

/// Numbers of which quantiles are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quantiles(Vec<f64>);

impl Quantiles {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more.
    pub(crate) fn push(&mut self, number: f64) {
        self.0.push(number);
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number at `quantile` (0 to 1), by the nearest rank; NaN when there is none.
    pub(crate) fn at(&mut self, quantile: f64) -> f64 {
        self.0.sort_unstable_by(f64::total_cmp);
        let rank = (quantile * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

/// One measurement over all sides: medians over its rounds.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// By side: p50 and p99 of each round, in microseconds.
    times: [[Quantiles; 2]; 3],
    /// By side: what it adds to `direct` in the same round, at p50 and p99.
    added: [[Quantiles; 2]; 3],
}

/// The quantiles of a row.
const SHOWN: [f64; 2] = [0.5, 0.99];

impl Row {
    /// One round's times, by side.
    pub(crate) fn add(&mut self, times: &mut [Quantiles; 3]) {
        for (place, quantile) in SHOWN.into_iter().enumerate() {
            let direct = times[Side::Direct as usize].at(quantile);
            for side in Side::ALL {
                let time = times[side as usize].at(quantile);
                self.times[side as usize][place].push(time);
                self.added[side as usize][place].push(time - direct);
            }
        }
    }

    /// p50 and p99 of a side.
    pub(crate) fn times(&self, side: Side) -> [f64; 2] {
        self.times[side as usize].clone().map(|mut numbers| numbers.at(0.5))
    }

    /// What a side adds to p50 and p99.
    pub(crate) fn added(&self, side: Side) -> [f64; 2] {
        self.added[side as usize].clone().map(|mut numbers| numbers.at(0.5))
    }
}

impl serde::Serialize for Row {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Side::ALL.map(|side| {
            let ([p50, p99], [added_p50, added_p99]) = (self.times(side), self.added(side));
            (side, serde_json::json!({"p50": p50, "p99": p99, "added_p50": added_p50, "added_p99": added_p99}))
        }))
    }
}

/// Everything measured.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    /// Times of start.
    pub(crate) ready: Ready,
    /// One request after another.
    pub(crate) latency: Latency,
    /// Many streams at a time.
    pub(crate) streams: Streams,
}

impl Report {
    /// The table.
    pub(crate) fn print(&self) {
        say("One client, microseconds (medians over rounds; \"adds\" is the difference to direct in the same round)");
        say(&format!("{:<32} {:<10} {:>9} {:>9} {:>10} {:>10}", "", "side", "p50", "p99", "adds p50", "adds p99"));
        let latency = &self.latency;
        print_row("small prompt, whole answer", &latency.small);
        print_row("8 KB prompt, whole answer", &latency.large);
        print_row("small prompt, first token", &latency.first_token);
        print_row("8 KB prompt, first token", &latency.first_token_large);
        print_row("a token's way to the client", &latency.token);
        let (p50, p99) = latency.refusal;
        say(&format!("{:<32} {:<10} {p50:>9.0} {p99:>9.0}", "503, all places taken", "cerebrumd"));
        self.print_streams();
        let (idle, peak) = (latency.idle.now, self.streams.appliance_memory.peak);
        let (idle_nginx, peak_nginx) = (latency.idle_nginx.now, self.streams.nginx_memory.peak);
        say(&format!("\n{:<32} {:<10} {:>9} {:>9} {:>10}", "", "side", "idle MiB", "peak MiB", "ready ms"));
        say(&format!(
            "{:<32} {:<10} {idle_nginx:>9.1} {peak_nginx:>9.1} {:>10.1}",
            "memory and start", "nginx", self.ready.nginx
        ));
        say(&format!("{:<32} {:<10} {idle:>9.1} {peak:>9.1} {:>10.1}\n", "", "cerebrumd", self.ready.appliance));
    }

    fn print_streams(&self) {
        let streams = &self.streams;
        say(&format!(
            "\n{:<32} {:<10} {:>9} {:>9} {:>10} {:>10} {:>10}",
            format!("{} streams at a time", streams.streams),
            "side",
            "no stall",
            "pause p50",
            "pause max",
            "token p50",
            "token p99"
        ));
        for (side, outcome) in
            [(Side::Direct, &streams.direct), (Side::Nginx, &streams.nginx), (Side::Appliance, &streams.appliance)]
        {
            say(&format!(
                "{:<32} {:<10} {:>9} {:>6.0} ms {:>7.0} ms {:>7.0} us {:>7.0} us",
                "",
                side.name(),
                outcome.stall_free,
                outcome.pause_p50_ms,
                outcome.pause_max_ms,
                outcome.token_p50_us,
                outcome.token_p99_us
            ));
        }
    }

    /// All of it, as JSON.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, serde_json::to_vec_pretty(self)?)?)
    }

    /// The last line.
    pub(crate) fn print_result(&self) {
        let latency = &self.latency;
        let [added_p50, added_p99] = latency.small.added(Side::Appliance);
        let [_, nginx_added_p99] = latency.small.added(Side::Nginx);
        let [_, first_token] = latency.first_token.added(Side::Appliance);
        let [token, _] = latency.token.added(Side::Appliance);
        say(&format!(
            "RESULT added_p50_us={added_p50:.0} added_p99_us={added_p99:.0} nginx_added_p99_us={nginx_added_p99:.0} \
             ttft_added_p99_us={first_token:.0} token_added_us={token:.0} streams_stall_free={} rss_idle_mib={:.1} \
             rss_peak_mib={:.1} ready_ms={:.1}",
            self.streams.appliance.stall_free,
            latency.idle.now,
            self.streams.appliance_memory.peak,
            self.ready.appliance,
        ));
    }
}

fn print_row(name: &str, row: &Row) {
    for (side, name) in Side::ALL.into_iter().zip([name, "", ""]) {
        let ([p50, p99], [added_p50, added_p99]) = (row.times(side), row.added(side));
        let side = side.name();
        say(&format!("{name:<32} {side:<10} {p50:>9.0} {p99:>9.0} {added_p50:>10.0} {added_p99:>10.0}"));
    }
}

/// A reader that went away is no failure.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
