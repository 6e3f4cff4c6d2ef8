//! From token bytes to text: whole characters, and nothing of a stop string.
