//! Work counted in steps, so that one text cannot hold up the others.

/// Steps that may still be taken. A step is a span, a run or a character run looked at: about 20 ns of work, and the
/// same number on every machine for the same calls.
#[derive(Clone, Debug)]
pub struct Budget {
    left: u64,
    taken: u64,
}

/// The budget is used up; what was under way is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text needs more than the {taken} steps it was given")]
pub struct OverBudget {
    /// Steps that were taken.
    pub taken: u64,
}

impl Budget {
    /// So many steps.
    #[must_use]
    pub fn steps(steps: u64) -> Self {
        Self { left: steps, taken: 0 }
    }

    /// As many steps as it takes: for tests and for work that was bounded elsewhere.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::steps(u64::MAX)
    }

    /// Steps taken so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes steps.
    #[inline]
    pub(crate) fn take(&mut self, steps: u64) -> Result<(), OverBudget> {
        self.taken += steps;
        if steps > self.left {
            self.left = 0;
            return Err(OverBudget { taken: self.taken });
        }
        self.left -= steps;
        Ok(())
    }
}
