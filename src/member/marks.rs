//! What a lease carries besides its member and its time, in one word.

/// A lease's flags, below the epoch of the member's standing. Most leases have no flag, which one comparison tells.
///
/// It is one word that is written and moved whole. If a lease that has just been built is moved in wider pieces than it
/// was written in, the processor waits until all of those writes have reached the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks(u64);

impl Marks {
    /// The lease is the half-open probe, and its outcome has not been recorded.
    pub(super) const PROBE: Self = Self(1);
    /// The lease is counted on the board.
    pub(super) const BOARD: Self = Self(1 << 1);
    /// The lease holds one of the fleet's request slots.
    pub(super) const SLOT: Self = Self(1 << 2);
    /// The clock was read for this pick, so its latency can be measured.
    pub(super) const MEASURED: Self = Self(1 << 3);
    /// The outcome has been recorded.
    pub(super) const RECORDED: Self = Self(1 << 4);
    /// The request ended well, and leaving the gate counts it as a success.
    pub(super) const SUCCESS: Self = Self(1 << 5);
    /// The lease has left the gate.
    pub(super) const LEFT: Self = Self(1 << 6);
    /// The flags of what the lease still holds and has to release when it leaves.
    pub(super) const HELD: Self = Self(Self::PROBE.0 | Self::BOARD.0 | Self::SLOT.0);

    const EPOCH_SHIFT: u32 = 32;

    /// The marks of a lease without any flag.
    #[inline]
    pub(super) const fn plain(epoch: u32) -> Self {
        Self((epoch as u64) << Self::EPOCH_SHIFT)
    }

    /// The epoch of the member's standing at the pick.
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
