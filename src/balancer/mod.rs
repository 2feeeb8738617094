//! Load-balancing policies: the traits [`LoadBalancer`] and [`Picker`], and one file for each policy.

mod adaptive;
mod asker;
mod context;
mod cumulative;
mod drawn;
mod endless;
mod lanes;
mod least_connections;
mod least_response_time;
mod nested;
mod power_of_two;
mod random;
mod ready;
mod round_robin;
mod schedule;
mod tiers;

use std::fmt;

use crate::endpoint::Endpoint;
use crate::error::BuildError;
use crate::member::Member;
use crate::shared::BoardView;
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, Padded};
use crate::time::Tick;

pub use adaptive::Adaptive;
pub use asker::Asker;
pub(crate) use context::HealthMode;
pub use context::PickContext;
pub use least_connections::LeastConnections;
pub use least_response_time::LeastResponseTime;
pub use power_of_two::PowerOfTwo;
pub use random::Random;
pub use round_robin::{RoundRobin, WeightedRoundRobin};
pub use tiers::{LocalityBasis, Tier, Tiers};

use nested::Nested;

/// A load-balancing policy: builds the immutable [`Picker`] that each snapshot of a fleet carries.
///
/// The trait is object-safe for each `E`, and `Box` and `Arc` of a policy implement it, so a policy can come from
/// configuration. For a picker that needs no preparation, [`from_picker`] is shorter.
///
/// # Examples
///
/// A policy that picks the first usable endpoint in the order of a rank, which it computes once per update:
///
/// ```
/// use evenkeel::{Choice, Cluster, Fleet, LoadBalancer, PickContext, Picker, Target, View};
///
/// type Server = Target<&'static str, u32>; // the data is a rank
///
/// #[derive(Debug)]
/// struct Ranked;
/// struct ByRank(Vec<usize>);
///
/// impl LoadBalancer<Server> for Ranked {
///     fn picker(&self, view: &View<'_, Server>) -> Box<dyn Picker<Server>> {
///         let mut order: Vec<usize> = (0..view.members().len()).collect();
///         order.sort_by_key(|&i| *view.members()[i].endpoint().data());
///         Box::new(ByRank(order))
///     }
/// }
///
/// impl Picker<Server> for ByRank {
///     fn pick(&self, cx: &mut PickContext<'_, Server>) -> Option<Choice> {
///         self.0.iter().copied().find(|&i| cx.may_pick(i)).map(Choice::at)
///     }
/// }
///
/// let fleet = Fleet::builder()
///     .endpoints([Target::new("spare", 2), Target::new("main", 1)])
///     .policy(Ranked)
///     .build()?;
/// assert_eq!(*fleet.pick_endpoint()?.endpoint().data(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait LoadBalancer<E: Endpoint>: fmt::Debug + Send + Sync {
    /// Prepares a picker for the members of the view.
    ///
    /// The fleet calls this with each change of the set, off the request path and under the update mutex. It must
    /// therefore not change the fleet it is for, nor ask that fleet for a [`lease`](crate::Fleet::lease) by key. If it
    /// panics, the change is refused and the old set stays. A removal or a drain cannot be refused: there a weighted
    /// random picker stands in until the next change.
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>>;

    /// Checks that the policy's settings are in range. The default accepts them.
    ///
    /// It is called once, when a fleet is built or given the policy. If it panics, the policy is refused.
    ///
    /// # Errors
    ///
    /// [`BuildError::Setting`] for the first setting that is out of range. [`BuildError::setting`] makes one.
    fn check(&self) -> Result<(), BuildError> {
        Ok(())
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => { $(
        impl<E: Endpoint, L: LoadBalancer<E> + ?Sized> LoadBalancer<E> for $pointer {
            fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>> {
                (**self).picker(view)
            }
            fn check(&self) -> Result<(), BuildError> {
                (**self).check()
            }
        }
    )* };
}

forward!(Box<L>, Arc<L>);

/// Chooses a member for each request, from tables prepared for one snapshot.
///
/// A picker runs on the request path, so it should wait for no lock and allocate nothing.
///
/// ```
/// use evenkeel::{Choice, Cluster, Fleet, PickContext, Picker, from_picker};
///
/// /// The usable one with the fewest requests in flight, the first of several.
/// #[derive(Clone, Debug)]
/// struct FewestFirst;
///
/// impl Picker<String> for FewestFirst {
///     fn pick(&self, cx: &mut PickContext<'_, String>) -> Option<Choice> {
///         let members = cx.members();
///         let usable = (0..members.len()).filter(|&i| cx.may_pick(i));
///         usable.min_by_key(|&i| members[i].in_flight()).map(Choice::at)
///     }
/// }
///
/// let fleet = Fleet::builder()
///     .endpoints(["a", "b"].map(String::from))
///     .policy(from_picker(FewestFirst))
///     .build()?;
/// let (first, second) = (fleet.pick_endpoint()?, fleet.pick_endpoint()?);
/// assert_eq!((first.endpoint().as_str(), second.endpoint().as_str()), ("a", "b"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Picker<E: Endpoint>: Send + Sync {
    /// Chooses a member: an index into [`cx.members()`](PickContext::members), or `None` to choose none.
    ///
    /// An index cannot refer to an endpoint outside the snapshot. Members come and go during a pick, so a picker that
    /// returns `None` while some member may be picked is asked up to three more times before the pick fails. If there
    /// are [limits](crate::Limits), it is then asked once more without them. If it chooses a member then, only the
    /// limits kept it from choosing; the pick takes that member if it has room by now, and otherwise fails as
    /// [`Saturated`](crate::PickError::Saturated).
    ///
    /// The fleet checks the choice. For an index that is out of range, or that [`may_pick`](PickContext::may_pick)
    /// forbids, it draws a usable endpoint by weight instead. [`Stats::policy_faults`](crate::Stats::policy_faults)
    /// counts indices out of range. A panic propagates to the caller of the pick and leaves no count or slot behind.
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice>;

    /// Chooses a member without a context, where all of them may be picked. `None` if the picker cannot.
    ///
    /// It is called in place of [`pick`](Self::pick) if the policy has called `View::pick_of_all`. `pick` is called if
    /// it returns `None`.
    #[doc(hidden)]
    fn pick_of_all(&self, _all: &[Member<E>], _asker: Asker<'_>, _now: Tick) -> Option<Choice> {
        None
    }

    /// Called before a pick where another picker has chosen among the same members since this one last did.
    #[doc(hidden)]
    fn resume(&self) {}

    /// Returns how the load is divided among tiers now, for [`Fleet::tiers`](crate::Fleet::tiers). For display, off the
    /// request path. Empty by default: the picker has no tiers. A picker around another one forwards it.
    fn tiers(&self) -> Vec<Tier> {
        Vec::new()
    }
}

/// The member that a picker chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    index: usize,
}

impl Choice {
    /// Chooses the member at `index` of [`PickContext::members`].
    #[must_use]
    pub const fn at(index: usize) -> Self {
        Self { index }
    }

    /// The index of the chosen member in [`PickContext::members`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.index
    }
}

/// The members and positions that a policy sees when it prepares a picker.
#[derive(Debug)]
pub struct View<'a, E: Endpoint> {
    members: &'a [Member<E>],
    cursor: Cursor,
    /// Whether this is a fleet's own view. Only then can leases be counted on the board.
    of_fleet: bool,
    /// Whether the policy has asked for the board.
    reads_board: AtomicBool,
    /// Whether the policy has said that it judges panic itself.
    judges_panic: AtomicBool,
    /// Whether the policy has said that its picker implements [`Picker::pick_of_all`].
    picks_of_all: AtomicBool,
    /// Whether this view is of a part of the members, for a policy within a policy.
    is_part: bool,
}

impl<'a, E: Endpoint> View<'a, E> {
    /// Creates a view of these members with a cursor at 0 for each shard, for tests and benchmarks of a policy. A fleet
    /// creates its own views.
    ///
    /// Take the members from a fleet ([`Fleet::members`](crate::Fleet::members)), where they can be ejected, marked and
    /// loaded, or from [`Lease::detached`](crate::Lease::detached) (`lease.member().clone()`).
    #[must_use]
    pub fn new(members: &'a [Member<E>]) -> Self {
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            of_fleet: false,
            ..Self::with_cursor(members, Cursor::new(shards, |_| 0))
        }
    }

    pub(crate) fn with_cursor(members: &'a [Member<E>], cursor: Cursor) -> Self {
        Self {
            members,
            cursor,
            of_fleet: true,
            reads_board: AtomicBool::new(false),
            judges_panic: AtomicBool::new(false),
            picks_of_all: AtomicBool::new(false),
            is_part: false,
        }
    }

    /// Prepares `inner`'s picker for a part of the members, with a cursor of that part's own. If the inner policy asks
    /// for the board, the request is passed on to the fleet.
    pub(crate) fn part(
        &self,
        inner: &dyn LoadBalancer<E>,
        members: &[Member<E>],
        cursor: Cursor,
    ) -> Box<dyn Picker<E>> {
        let view = View {
            of_fleet: self.of_fleet,
            is_part: true,
            ..View::with_cursor(members, cursor)
        };
        let picker = inner.picker(&view);
        if view.reads_board() {
            // ORDERING: Relaxed. As in `board`.
            self.reads_board.store(true, Ordering::Relaxed);
        }
        picker
    }

    /// The policy decides itself when panic makes health irrelevant, so the fleet's panic rule must not act.
    fn judge_panic(&self) {
        // ORDERING: Relaxed. As in `board`.
        self.judges_panic.store(true, Ordering::Relaxed);
    }

    /// The policy's picker implements [`Picker::pick_of_all`].
    pub(crate) fn pick_of_all(&self) {
        // ORDERING: Relaxed. As in `board`.
        self.picks_of_all.store(true, Ordering::Relaxed);
    }

    pub(crate) fn picks_of_all(&self) -> bool {
        // ORDERING: Relaxed. As in `board`.
        self.picks_of_all.load(Ordering::Relaxed)
    }

    const fn is_part(&self) -> bool {
        self.is_part
    }

    pub(crate) fn judges_panic(&self) -> bool {
        // ORDERING: Relaxed. As in `board`.
        self.judges_panic.load(Ordering::Relaxed)
    }

    /// The board: all members' requests in flight side by side, for a policy that compares many of them. Leases update
    /// it as long as a picker that asked for it is in force. `None` for a view that is not the fleet's own, as no lease
    /// updates a board there.
    pub(crate) fn board(&self) -> Option<BoardView> {
        if !self.of_fleet {
            return None;
        }
        // ORDERING: Relaxed, here and below. One thread prepares a picker; atomics only make the type `Sync`.
        self.reads_board.store(true, Ordering::Relaxed);
        BoardView::of(
            self.members
                .iter()
                .map(|member| member.core().place.as_ref()),
        )
    }

    pub(crate) fn reads_board(&self) -> bool {
        // ORDERING: Relaxed. As above.
        self.reads_board.load(Ordering::Relaxed)
    }

    /// All members with a weight above 0 that are not draining, in the order of [`PickContext::members`]. A member that
    /// is ejected now may be back when a pick comes, and the reverse.
    #[must_use]
    pub const fn members(&self) -> &'a [Member<E>] {
        self.members
    }

    /// The fleet's position in a sequence, for policies that keep one.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }
}

/// A position in a sequence, kept separately for each shard of threads.
///
/// The fleet owns the position, so it survives updates: an index that starts over with each update overloads the first
/// endpoints. A fleet starts it at random, so that many clients do not walk in step.
///
/// Threads of different shards do not share a position. A sequence is therefore exact within a shard, and off by at
/// most one round for each shard in total. Clones share the position.
#[derive(Clone, Debug)]
pub struct Cursor {
    positions: Arc<[Padded<AtomicU64>]>,
    /// The cursors of parts of the set.
    nested: Arc<Nested>,
}

impl Cursor {
    /// Creates a cursor with `shards` positions, rounded up to a power of two, each starting at `start(shard)`.
    pub(crate) fn new(shards: usize, start: impl Fn(usize) -> u64) -> Self {
        let shards = shards.next_power_of_two();
        Self {
            nested: Arc::new(Nested::new(start(0))),
            positions: (0..shards)
                .map(|shard| Padded(AtomicU64::new(start(shard))))
                .collect(),
        }
    }

    /// Clears the memory of panic in parts of the set, as the policy in force no longer judges panic by parts. Returns
    /// whether it was set.
    pub(crate) fn forgets_panic(&self) -> bool {
        self.nested.forget_panic()
    }

    /// What the fleet keeps for parts of the set.
    pub(crate) fn nested(&self) -> &Nested {
        &self.nested
    }

    /// The current position of each shard.
    fn positions(&self) -> impl Iterator<Item = u64> {
        // ORDERING: Relaxed. As in `next`.
        let load = |position: &Padded<AtomicU64>| position.0.load(Ordering::Relaxed);
        self.positions.iter().map(load)
    }

    /// The number of shards, a power of two.
    pub(crate) fn shards(&self) -> usize {
        self.positions.len()
    }

    /// Takes the next position of the caller's shard ([`PickContext::shard`]). It counts up by one and wraps after
    /// 2^64.
    #[inline]
    pub fn next(&self, shard: usize) -> u64 {
        // ORDERING: Relaxed. Each caller gets a different position; it orders no other memory access.
        self.positions[shard & (self.positions.len() - 1)]
            .0
            .fetch_add(1, Ordering::Relaxed)
    }
}

/// A policy made of a picker that needs no preparation. See [`from_picker`].
#[derive(Clone, Debug)]
pub struct FromPicker<P>(P);

/// Turns a picker that needs no preparation into a policy. Each snapshot gets a clone of the picker.
///
/// ```
/// use evenkeel::{Choice, Cluster, Fleet, PickContext, Picker, from_picker};
///
/// #[derive(Clone, Debug)]
/// struct First;
/// impl Picker<String> for First {
///     fn pick(&self, cx: &mut PickContext<'_, String>) -> Option<Choice> {
///         (0..cx.members().len()).find(|&i| cx.may_pick(i)).map(Choice::at)
///     }
/// }
///
/// let fleet = Fleet::builder()
///     .endpoints(["a", "b"].map(String::from))
///     .policy(from_picker(First))
///     .build()?;
/// assert_eq!(fleet.pick_endpoint()?.endpoint(), "a");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub const fn from_picker<P>(picker: P) -> FromPicker<P> {
    FromPicker(picker)
}

impl<E, P> LoadBalancer<E> for FromPicker<P>
where
    E: Endpoint,
    P: Picker<E> + Clone + fmt::Debug + 'static,
{
    fn picker(&self, _: &View<'_, E>) -> Box<dyn Picker<E>> {
        Box::new(self.0.clone())
    }
}
