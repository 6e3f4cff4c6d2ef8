//! `cerebrum health`, `models`, `stats`: the appliance's reports, for people or (`--json`) as they came.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use super::cli::Report;
use super::console::Console;
use super::failure::Failure;
use super::figures::{count, grouped};
use super::interrupt::unless_interrupted;
use super::server::Server;

/// Two spaces a level, as deep as the appliance's report goes.
const INDENT: &str = "  ";

#[derive(Deserialize)]
struct Health {
    status: String,
    vps_status: String,
    vps_available: bool,
    #[serde(default)]
    vps_connected: bool,
    #[serde(default)]
    active_count: u64,
    #[serde(default)]
    queue_count: u64,
    #[serde(default)]
    uptime_text: String,
    #[serde(default)]
    cpu_percent: f64,
}

#[derive(Deserialize)]
struct Models {
    available_models: Vec<String>,
    #[serde(default)]
    cached_models: Vec<String>,
    #[serde(default)]
    inference_counts: std::collections::BTreeMap<String, u64>,
}

/// `cerebrum health`: exit code 1 when a generation would be refused, so that a monitor needs to read nothing.
pub(super) async fn health(form: Report, server: &Server, console: &mut Console) -> Result<ExitCode, Failure> {
    let (answer, health) = ask::<Health>(server, "/health").await?;
    if form.json {
        console.line(&format!("{answer:#}"))?;
    } else {
        describe_health(&health).iter().try_for_each(|line| console.line(line))?;
    }
    Ok(if health.vps_available { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe_health(health: &Health) -> [String; 3] {
    let link = if health.vps_connected { "connected" } else { "not connected" };
    [
        format!("appliance  {}, up {}, CPU {:.0} %", health.status, health.uptime_text, health.cpu_percent),
        format!("server     {}, {link}", health.vps_status),
        format!("requests   {} running, {} waiting", health.active_count, health.queue_count),
    ]
}

/// `cerebrum models`.
pub(super) async fn models(form: Report, server: &Server, console: &mut Console) -> Result<ExitCode, Failure> {
    let (answer, models) = ask::<Models>(server, "/v1/models").await?;
    if form.json {
        console.line(&format!("{answer:#}"))?;
    } else if models.available_models.is_empty() {
        console.note("no models: no inference server is connected, or it has none");
    } else {
        describe_models(&models).iter().try_for_each(|line| console.line(line))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe_models(models: &Models) -> Vec<String> {
    let width = models.available_models.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let line = |name: &String| {
        let loaded = if models.cached_models.contains(name) { "loaded" } else { "on disk" };
        let answers = models.inference_counts.get(name).copied().unwrap_or(0);
        format!("{name:width$}  {loaded:7}  {}", count(answers, "answer"))
    };
    models.available_models.iter().map(line).collect()
}

/// `cerebrum stats`.
pub(super) async fn stats(form: Report, server: &Server, console: &mut Console) -> Result<ExitCode, Failure> {
    let (answer, _) = ask::<serde_json::Map<String, Value>>(server, "/v1/stats").await?;
    if form.json {
        console.line(&format!("{answer:#}"))?;
    } else {
        let mut lines = Vec::new();
        outline(&answer, 0, &mut lines);
        lines.iter().try_for_each(|line| console.line(line))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line a value, indented below its section's name: also what later versions report is shown.
fn outline(report: &Value, depth: usize, lines: &mut Vec<String>) {
    let Some(fields) = report.as_object() else { return };
    let indent = INDENT.repeat(depth);
    let leaves = fields.iter().filter(|(_, value)| sections(value).is_none());
    let width = leaves.map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in fields {
        let title = name.replace('_', " ");
        match sections(value) {
            None => lines.push(format!("{indent}{title:width$}  {}", shown(value))),
            Some(sections) => {
                for section in sections {
                    lines.push(format!("{indent}{title}"));
                    outline(section, depth + 1, lines);
                }
            }
        }
    }
}

/// The sections that a value stands for: itself, or each of a list of them.
fn sections(value: &Value) -> Option<Vec<&Value>> {
    match value {
        Value::Object(_) => Some(vec![value]),
        Value::Array(list) if list.iter().any(Value::is_object) => Some(list.iter().collect()),
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not known".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => grouped(whole),
            None => number.as_f64().map_or_else(|| number.to_string(), |real| format!("{real:.2}")),
        },
        other => other.to_string(),
    }
}

/// The report as it came, and as it is understood.
async fn ask<T: serde::de::DeserializeOwned>(server: &Server, path: &str) -> Result<(Value, T), Failure> {
    let answer: Value = unless_interrupted(server.report(path)).await?;
    let understood = T::deserialize(&answer).map_err(|error| Failure::NotCerebrum {
        authority: server.authority().to_owned(),
        found: format!("its JSON does not fit: {error}"),
    })?;
    Ok((answer, understood))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stats_are_an_outline() {
        let mut lines = Vec::new();
        outline(&json!({"cm4": {"uptime_seconds": 8344, "rate": 0.714, "n": {"a": null}}}), 0, &mut lines);
        assert_eq!(lines, ["cm4", "  uptime seconds  8,344", "  rate            0.71", "  n", "    a  not known"]);
    }

    #[test]
    fn lists_are_sections_or_one_line() {
        let mut lines = Vec::new();
        outline(&json!({"models": [{"name": "a"}, {"name": "b"}], "loading": [], "tags": ["x", 2]}), 0, &mut lines);
        assert_eq!(lines, ["models", "  name  a", "models", "  name  b", "loading  none", "tags     x, 2"]);
    }

    #[test]
    fn models_tell_what_is_loaded() {
        let models = Models {
            available_models: vec!["a".into(), "long".into()],
            cached_models: vec!["long".into()],
            inference_counts: [("long".into(), 1)].into(),
        };
        assert_eq!(describe_models(&models), ["a     on disk  0 answers", "long  loaded   1 answer"]);
    }
}
