//! The disk guard: no pull starts while the image file system is too full.

use drop_protocol::LowDisk;

/// The guard opens again only this many percent above the limit, so that it does not flutter.
const HYSTERESIS: u8 = 2;

/// Whether pulls may start.
#[derive(Debug, Clone)]
pub(crate) struct DiskGuard {
    wanted_percent: u8,
    closed: Option<LowDisk>,
}

impl DiskGuard {
    pub(crate) const fn new(wanted_percent: u8) -> Self {
        Self { wanted_percent, closed: None }
    }

    /// Takes what is free now, in percent.
    pub(crate) fn observe(&mut self, free_percent: u8) {
        let opens_at = self.wanted_percent.saturating_add(HYSTERESIS).min(100);
        match self.closed {
            None if free_percent < self.wanted_percent => {
                self.closed = Some(LowDisk { free_percent, wanted_percent: self.wanted_percent });
            }
            Some(_) if free_percent >= opens_at => self.closed = None,
            _ => {}
        }
    }

    /// What the report says of it; `None`: pulls may start.
    pub(crate) const fn low(&self) -> Option<LowDisk> {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_below_the_limit_and_opens_clearly_above_it() {
        let mut guard = DiskGuard::new(20);
        guard.observe(20);
        assert_eq!(guard.low(), None);
        guard.observe(19);
        assert_eq!(guard.low(), Some(LowDisk { free_percent: 19, wanted_percent: 20 }));
        guard.observe(21);
        assert!(guard.low().is_some(), "21 % is too close to the limit to open");
        guard.observe(22);
        assert_eq!(guard.low(), None);
    }

    #[test]
    fn what_is_told_stays_the_same_while_the_guard_is_closed() {
        let mut guard = DiskGuard::new(20);
        guard.observe(15);
        let told = guard.low();
        guard.observe(7);
        assert_eq!(guard.low(), told);
    }
}
