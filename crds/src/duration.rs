//! Go's duration syntax (`time.ParseDuration`), which Kubernetes objects use: `30s`, `1h30m`, `1.5h`, `500ms`.

use std::time::Duration;

use crate::rules;

/// Reads a duration.
///
/// # Errors
/// The message that a user reads: one of those in [`rules::DURATION`].
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    let [negative, malformed, too_long] = [0, 1, 2].map(|i| rules::DURATION.rules[i].message);
    if text.starts_with('-') {
        return Err(negative);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(malformed);
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after, |c| !c.is_ascii_digit() && c != '.');
        let unit = unit_nanos(unit).ok_or(malformed)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(malformed);
        }
        nanos = digits(whole)
            .and_then(|whole| whole.checked_mul(unit))
            .and_then(|whole| nanos.checked_add(whole))
            .and_then(|sum| sum.checked_add(fraction_nanos(fraction, unit)))
            .filter(|sum| *sum <= u128::from(u64::MAX))
            .ok_or(too_long)?;
        rest = after;
    }
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| too_long)
}

/// Writes a duration the way people write it: `90s` is `1m30s`, and parts that are zero are left out.
#[must_use]
pub fn format(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let seconds = duration.as_secs();
    let mut text = String::new();
    for (amount, unit) in [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
        (u64::from(duration.subsec_micros() % 1000), "us"),
        (u64::from(duration.subsec_nanos() % 1000), "ns"),
    ] {
        if amount > 0 {
            text.push_str(&amount.to_string());
            text.push_str(unit);
        }
    }
    text
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn digits(text: &str) -> Option<u128> {
    text.bytes().try_fold(0u128, |sum, digit| sum.checked_mul(10)?.checked_add(u128::from(digit - b'0')))
}

/// `0.<fraction>` of `unit`, rounded down. Digits beyond what an hour in nanoseconds can show do not count.
fn fraction_nanos(fraction: &str, unit: u128) -> u128 {
    let mut part = 0;
    let mut scale = 1;
    for digit in fraction.bytes().take(14) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    part * unit / scale
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn go_syntax_is_read() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("0s", 0),
            ("30s", 30_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("500ms", 500_000_000),
            ("2us3µs4μs5ns", 9_005),
            ("168h", 604_800_000_000_000),
            ("0.000000001s", 1),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "+", "5", "1d", "7w", "5 m", "m", ".s", "1..5s", "1h-3m", "fast", "1H", "5m ", "٣s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("-5s"), Err("must not be negative"));
        assert_eq!(parse("99999999999999999999h"), Err("is too long: write at most 99999h"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in 0u64..u64::MAX / 2) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_upsets_it(text in ".*") {
            let _ = parse(&text);
        }
    }
}
