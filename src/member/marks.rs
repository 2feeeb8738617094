//! What a lease carries beside its member and its time, in a word.

/// The epoch of the member's standing, on top, and a bit for each thing there is to a lease: most have none, and one
/// comparison tells so. One word, that is written and moved whole: where a lease that has just been built is moved in
/// wider pieces than it was written in, the processor waits until all of them have reached the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks(u64);

impl Marks {
    /// It is a probe, and nothing has been said of it.
    pub(super) const PROBE: Self = Self(1);
    /// It is on the board.
    pub(super) const BOARD: Self = Self(1 << 1);
    /// It holds one of the fleet's slots.
    pub(super) const SLOT: Self = Self(1 << 2);
    /// The clock was read for it.
    pub(super) const MEASURED: Self = Self(1 << 3);
    /// It has been said how it ended.
    pub(super) const SAID: Self = Self(1 << 4);
    /// It ended well, which is to be counted by leaving.
    pub(super) const WELL: Self = Self(1 << 5);
    /// It has left.
    pub(super) const LEFT: Self = Self(1 << 6);
    /// What there is to be done for when it leaves.
    pub(super) const HELD: Self = Self(Self::PROBE.0 | Self::BOARD.0 | Self::SLOT.0);

    const EPOCH_SHIFT: u32 = 32;

    /// Those of a lease that there is nothing to.
    #[inline]
    pub(super) const fn plain(epoch: u32) -> Self {
        Self((epoch as u64) << Self::EPOCH_SHIFT)
    }

    /// The epoch of the member's standing when it was picked.
    #[inline]
    pub(super) const fn epoch(self) -> u32 {
        (self.0 >> Self::EPOCH_SHIFT) as u32
    }

    #[inline]
    pub(super) const fn has(self, any_of: Self) -> bool {
        self.0 & any_of.0 != 0
    }

    #[inline]
    pub(super) const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    #[inline]
    pub(super) const fn with_if(self, more: Self, is: bool) -> Self {
        Self(self.0 | if is { more.0 } else { 0 })
    }

    #[inline]
    pub(super) const fn without(self, less: Self) -> Self {
        Self(self.0 & !less.0)
    }
}
