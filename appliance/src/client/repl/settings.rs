//! What goes with the next request of the REPL. Pure; values are judged as on the command line.

use crate::client::cli::{Parameters, name, temperature, tokens};

/// One thing that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Lang,
    Model,
    Tokens,
    Temp,
}

impl Setting {
    /// The setting that a command names.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "lang" | "language" => Self::Lang,
            "model" => Self::Model,
            "tokens" => Self::Tokens,
            "temp" | "temperature" => Self::Temp,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Lang => "lang",
            Self::Model => "model",
            Self::Tokens => "tokens",
            Self::Temp => "temp",
        }
    }
}

/// The settings in force; what was given on the command line is where they start and what `-` takes away as well.
#[derive(Debug)]
pub(super) struct Settings(Parameters);

impl Settings {
    pub(super) fn new(parameters: Parameters) -> Self {
        Self(parameters)
    }

    /// For the next request.
    pub(super) fn parameters(&self) -> &Parameters {
        &self.0
    }

    /// Sets one.
    ///
    /// # Errors
    /// A sentence; the old value stays.
    pub(super) fn set(&mut self, setting: Setting, value: &str) -> Result<(), String> {
        let told = |sentence: String| format!(":{}: {sentence}", setting.name());
        match setting {
            Setting::Lang => self.0.language = Some(name(value).map_err(told)?),
            Setting::Model => self.0.model = Some(name(value).map_err(told)?),
            Setting::Tokens => self.0.max_tokens = Some(tokens(value).map_err(told)?),
            Setting::Temp => self.0.temperature = Some(temperature(value).map_err(told)?),
        }
        Ok(())
    }

    /// Leaves one to the appliance.
    pub(super) fn reset(&mut self, setting: Setting) {
        match setting {
            Setting::Lang => self.0.language = None,
            Setting::Model => self.0.model = None,
            Setting::Tokens => self.0.max_tokens = None,
            Setting::Temp => self.0.temperature = None,
        }
    }

    /// `model: qwen_7b`.
    pub(super) fn describe(&self, setting: Setting) -> String {
        let (value, default) = match setting {
            Setting::Lang => (self.0.language.clone(), "found by the appliance"),
            Setting::Model => (self.0.model.clone(), "chosen by the appliance"),
            Setting::Tokens => (self.0.max_tokens.map(|number| number.to_string()), "the appliance's default"),
            Setting::Temp => (self.0.temperature.map(|number| number.to_string()), "the appliance's default"),
        };
        format!("{}: {}", setting.name(), value.as_deref().unwrap_or(default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_kept_shown_and_reset() {
        let mut settings = Settings::new(Parameters::default());
        for (setting, value) in
            [(Setting::Lang, "rust"), (Setting::Model, "m1"), (Setting::Tokens, "64"), (Setting::Temp, "0.5")]
        {
            settings.set(setting, value).unwrap();
            assert_eq!(settings.describe(setting), format!("{}: {value}", setting.name()));
        }
        assert_eq!((settings.parameters().max_tokens, settings.parameters().temperature), (Some(64), Some(0.5)));
        settings.reset(Setting::Model);
        assert_eq!(settings.describe(Setting::Model), "model: chosen by the appliance");
        assert_eq!(settings.parameters().model, None);
    }

    #[test]
    fn a_wrong_value_changes_nothing() {
        let mut settings = Settings::new(Parameters { max_tokens: Some(7), ..Parameters::default() });
        let sentence = settings.set(Setting::Tokens, "0").unwrap_err();
        assert_eq!(sentence, ":tokens: found \"0\", expected a whole number from 1 to 32768");
        assert_eq!(settings.describe(Setting::Tokens), "tokens: 7");
    }
}
