//! Prompt preparation: pure functions that shorten a prompt without losing what it asks for.
