//! Talking to the user: one line for every step, on standard error, so that standard output stays for results.

use std::time::Duration;

/// Prints one line of progress.
pub fn say(line: impl AsRef<str>) {
    eprintln!("{}", line.as_ref());
}

/// A duration for people: `7s`, `3m44s`.
#[must_use]
pub fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{:02}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_shown_from_one_minute_on() {
        assert_eq!(elapsed(Duration::from_secs(59)), "59s");
        assert_eq!(elapsed(Duration::from_secs(224)), "3m44s");
        assert_eq!(elapsed(Duration::from_secs(60)), "1m00s");
    }
}
