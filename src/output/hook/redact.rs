//! Takes the values out of what a command printed.

use crate::output::ActiveConfig;

/// As much of the output as a report quotes.
const QUOTED: usize = 512;
const HIDDEN: &str = "***";

/// The last of what a command printed, on one line, without any value of `config`.
///
/// `cut` says that more was printed than `output` holds: half a value may then stand at its end.
pub(super) fn redact(output: &[u8], cut: bool, config: &ActiveConfig) -> String {
    let mut values: Vec<&str> = config
        .services
        .values()
        .flat_map(|service| service.env.values())
        .flat_map(|value| std::iter::once(value.expose()).chain(value.expose().lines()))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect();
    values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    let longest = values.first().map_or(0, |value| value.len());
    let kept = if cut { output.len().saturating_sub(longest) } else { output.len() };
    let mut text = String::from_utf8_lossy(output.get(..kept).unwrap_or_default()).into_owned();
    for value in values {
        text = text.replace(value, HIDDEN);
    }
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let skipped = line.chars().count().saturating_sub(QUOTED);
    line.chars().skip(skipped).collect()
}
