//! What is wrong with an object is said once, however often the object is seen.

use drop_protocol::failure::{cut, one_line};

/// So much of an error is told, in bytes.
const LONGEST: usize = 500;

/// What was last said of one thing.
#[derive(Debug, Default)]
pub(crate) struct Told(Option<String>);

impl Told {
    /// Takes what is wrong now, if anything; gives it back, fit for a log, if that is news.
    pub(crate) fn news(&mut self, wrong: Option<&str>) -> Option<&str> {
        let wrong = wrong.map(|wrong| one_line(cut(wrong, LONGEST)));
        if wrong == self.0 {
            return None;
        }
        self.0 = wrong;
        self.0.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::Told;

    #[test]
    fn the_same_is_said_once_and_again_after_it_was_put_right() {
        let mut told = Told::default();
        let said: Vec<bool> = [Some("a"), Some("a"), Some("b"), None, None, Some("b")]
            .into_iter()
            .map(|wrong| told.news(wrong).is_some())
            .collect();
        assert_eq!(said, [true, false, true, false, false, true]);
        let long = "x\n".repeat(5000);
        assert_eq!(told.news(Some(&long)).map(str::len), Some(500));
    }
}
