//! What a lease carries in a byte.

/// What there is to a lease, a bit each: most have none, which is one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    pub(super) const NONE: Self = Self(0);
    /// It is a probe, and nothing has been said of it.
    pub(super) const PROBE: Self = Self(1);
    /// It is on the board.
    pub(super) const BOARD: Self = Self(2);
    /// It holds one of the fleet's slots.
    pub(super) const SLOT: Self = Self(4);
    /// The clock was read for it.
    pub(super) const MEASURED: Self = Self(8);
    /// What there is to be done for when it leaves.
    pub(super) const HELD: Self = Self(Self::PROBE.0 | Self::BOARD.0 | Self::SLOT.0);

    pub(super) const fn has(self, any_of: Self) -> bool {
        self.0 & any_of.0 != 0
    }

    pub(super) const fn with_if(self, more: Self, is: bool) -> Self {
        Self(self.0 | if is { more.0 } else { 0 })
    }

    pub(super) const fn without(self, less: Self) -> Self {
        Self(self.0 & !less.0)
    }
}
