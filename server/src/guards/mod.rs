//! Whether the machine has room for another inference: memory, and processors not taken by *other* programs.
//!
//! [`Limits::judge`] is pure. Measurements come from [`watch()`], a background task; a request only looks at the newest. The
//! server's own load is governed by slots and queue, never by this. Unloading and reporting are not asked about here: they
//! are what helps when memory is short.

mod cpu;
mod watch;

pub use cpu::{Sample, others_percent, smoothed};
pub use watch::{available_memory, total_memory, watch};

use std::fmt;

/// What the machine must have to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most that other programs may use of all processors together, in percent.
    pub max_cpu_percent: u8,
    /// Least memory available, in bytes.
    pub min_free_ram: u64,
}

impl Default for Limits {
    /// The product's defaults: 70 % and 1 GiB.
    fn default() -> Self {
        Self { max_cpu_percent: 70, min_free_ram: 1 << 30 }
    }
}

/// Host memory for evicted prefixes, of all models together, on a machine with so much in all: a sixteenth, which a model beside it can
/// spare, and no more than holds some twenty thousand tokens of a 1.5B model.
pub fn prefix_cache(total: u64) -> usize {
    usize::try_from((total / 16).min(512 << 20)).unwrap_or(0)
}

/// The newest measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vitals {
    /// Use of all processors together, in percent, this program included.
    pub cpu_percent: f32,
    /// The same without this program.
    pub others_percent: f32,
    /// Memory that could be had without swapping, in bytes.
    pub ram_available: u64,
    /// Memory in use, in bytes.
    pub ram_used: u64,
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shortage {
    /// Other programs keep the processors busy.
    Cpu {
        /// Their share in percent.
        found: f32,
        /// The limit in percent.
        limit: u8,
    },
    /// Memory is short.
    Ram {
        /// Bytes available.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { found, limit } => {
                write!(f, "processor: other programs use {found:.0} %, expected at most {limit} % (max_cpu_percent)")
            }
            Self::Ram { found, limit } => write!(
                f,
                "memory: found {} MiB available, expected at least {} MiB (min_free_ram_mib); unload a model or stop \
                 another program",
                found >> 20,
                limit >> 20
            ),
        }
    }
}

impl Limits {
    /// Whether another inference may begin.
    ///
    /// # Errors
    /// What is short; memory first, since that does not pass by itself.
    pub fn judge(&self, vitals: &Vitals) -> Result<(), Shortage> {
        if vitals.ram_available < self.min_free_ram {
            return Err(Shortage::Ram { found: vitals.ram_available, limit: self.min_free_ram });
        }
        if vitals.others_percent > f32::from(self.max_cpu_percent) {
            return Err(Shortage::Cpu { found: vitals.others_percent, limit: self.max_cpu_percent });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_use_and_what_is_free_counts() {
        let limits = Limits::default();
        let (gib, cpu, ram) = (1_u64 << 30, "processor", "memory");
        // Processors in all, of them others, memory available: what is short.
        let cases = [
            (0.0, 0.0, gib, None),
            (100.0, 0.0, gib, None), // all of it our own
            (100.0, 70.0, gib, None),
            (100.0, 70.5, gib, Some(cpu)),
            (0.0, 0.0, gib - 1, Some(ram)),
            (100.0, 100.0, 0, Some(ram)),
        ];
        for (cpu_percent, others_percent, ram_available, short) in cases {
            let vitals = Vitals { cpu_percent, others_percent, ram_available, ram_used: 0 };
            let found = limits.judge(&vitals).err().map(|shortage| shortage.to_string());
            let kind = found.as_deref().and_then(|sentence| sentence.split_once(':')).map(|(kind, _)| kind);
            assert_eq!(kind, short, "{vitals:?}");
        }
    }

    #[test]
    fn hundred_percent_and_no_memory_switch_the_guards_off() {
        let limits = Limits { max_cpu_percent: 100, min_free_ram: 0 };
        let vitals = Vitals { others_percent: 100.0, ..Vitals::default() };
        assert_eq!(limits.judge(&vitals), Ok(()));
    }
}
