//! Choosing an endpoint: the traits [`LoadBalancer`] and [`Picker`], and one file a policy.

mod adaptive;
mod asker;
mod context;
mod cumulative;
mod drawn;
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
use crate::shared::Readings;
use crate::sync::{Arc, AtomicU64, Ordering, Padded};
use crate::time::Tick;

pub use adaptive::Adaptive;
pub use asker::Asker;
pub use context::PickContext;
pub(crate) use context::Regard;
pub use least_connections::LeastConnections;
pub use least_response_time::LeastResponseTime;
pub use power_of_two::PowerOfTwo;
pub use random::Random;
pub use round_robin::{RoundRobin, WeightedRoundRobin};
pub use tiers::{LocalityBasis, Tier, Tiers};

use nested::Nested;

/// A policy: builds the frozen [`Picker`] that each snapshot of a fleet carries.
///
/// Object-safe for each `E`, and implemented by `Box` and `Arc` of it, so that a policy can come from
/// configuration. For a picker that prepares nothing, [`from_picker`] is shorter.
///
/// # Examples
///
/// The first usable endpoint in the order of a rank that is computed once per update:
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
    /// Prepares a picker for these members. Called with each change of the set, off the request path and
    /// under the update mutex, so it must not change the fleet it is for, nor ask it for a
    /// [`lease`](crate::Fleet::lease) by key. If it panics, the change is refused and the old set stays.
    fn picker(&self, view: &View<'_, E>) -> Box<dyn Picker<E>>;

    /// Whether its settings are in range. Asked once, when a fleet is built or given the policy; if it panics, the policy is refused.
    /// By default they are.
    ///
    /// # Errors
    ///
    /// [`BuildError::Setting`] for the first that is not.
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

/// One snapshot's decision table. On the request path: no locks, no allocation.
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
    /// An index into [`cx.members()`](PickContext::members), so that no other endpoint can be
    /// returned; `None` if the policy wants none. As members come and go, a policy that wants none while
    /// somebody may be picked is asked three times before the pick fails; and once more without
    /// [limits](crate::Limits), if there are any. If it then chooses somebody it was only for want of room, and the pick
    /// goes there, if there is room by now, or fails as [`Saturated`](crate::PickError::Saturated).
    ///
    /// The fleet holds a picker to its word: for an index out of range, or one that
    /// [`may_pick`](PickContext::may_pick) forbids, it draws a usable endpoint by weight instead (and
    /// counts the former in [`Stats::policy_faults`](crate::Stats::policy_faults)). A panic goes to
    /// the caller of the pick, and leaves nothing behind.
    fn pick(&self, cx: &mut PickContext<'_, E>) -> Option<Choice>;

    /// The choice where all may be picked, by a policy that has told the view that it answers: asked in place of
    /// [`pick`](Self::pick), which is asked after all if there is no answer.
    #[doc(hidden)]
    fn pick_of_all(&self, _all: &[Member<E>], _asker: Asker<'_>, _now: Tick) -> Option<Choice> {
        None
    }

    /// How it divides the load among tiers now, for [`Fleet::tiers`](crate::Fleet::tiers): for display, off the
    /// request path. Empty by default: it has none.
    fn tiers(&self) -> Vec<Tier> {
        Vec::new()
    }
}

/// What a picker chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    index: usize,
}

impl Choice {
    /// The member at `index` of [`PickContext::members`].
    #[must_use]
    pub const fn at(index: usize) -> Self {
        Self { index }
    }

    /// Its index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index
    }
}

/// What a policy sees when it prepares a picker.
#[derive(Debug)]
pub struct View<'a, E: Endpoint> {
    members: &'a [Member<E>],
    cursor: Cursor,
    /// Whether it is a fleet's view, which can have its leases kept on the board.
    of_fleet: bool,
    /// 1 once the policy has asked for the board.
    reads_board: AtomicU64,
    /// 1 once the policy has said that it judges panic itself.
    judges_panic: AtomicU64,
    /// 1 once the policy has said that its picker answers [`Picker::pick_of_all`].
    picks_of_all: AtomicU64,
    /// Whether it is of a part of the members, for a policy within a policy.
    is_part: bool,
}

impl<'a, E: Endpoint> View<'a, E> {
    /// A view of these members with a cursor at 0 for each shard: for tests and benchmarks of a policy. A
    /// fleet makes its own.
    #[must_use]
    pub fn new(members: &'a [Member<E>]) -> Self {
        let shards = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            members,
            cursor: Cursor::new(shards, |_| 0),
            of_fleet: false,
            reads_board: AtomicU64::new(0),
            judges_panic: AtomicU64::new(0),
            picks_of_all: AtomicU64::new(0),
            is_part: false,
        }
    }

    pub(crate) fn with_cursor(members: &'a [Member<E>], cursor: Cursor) -> Self {
        Self {
            members,
            cursor,
            of_fleet: true,
            reads_board: AtomicU64::new(0),
            judges_panic: AtomicU64::new(0),
            picks_of_all: AtomicU64::new(0),
            is_part: false,
        }
    }

    /// What the policy prepares for a part of the members, with a position of that part's own. What it asks of the
    /// view is asked of the fleet.
    pub(crate) fn part(
        &self,
        inner: &dyn LoadBalancer<E>,
        members: &[Member<E>],
        cursor: Cursor,
    ) -> Box<dyn Picker<E>> {
        let view = View {
            members,
            cursor,
            of_fleet: self.of_fleet,
            reads_board: AtomicU64::new(0),
            judges_panic: AtomicU64::new(0),
            picks_of_all: AtomicU64::new(0),
            is_part: true,
        };
        let picker = inner.picker(&view);
        if view.reads_board() {
            // ORDERING: Relaxed. As in `board`.
            self.reads_board.store(1, Ordering::Relaxed);
        }
        picker
    }

    /// The policy decides itself when health counts for nothing, so the fleet's rule is not to.
    pub(crate) fn judge_panic(&self) {
        // ORDERING: Relaxed. As in `board`.
        self.judges_panic.store(1, Ordering::Relaxed);
    }

    /// The policy's picker answers [`Picker::pick_of_all`].
    pub(crate) fn pick_of_all(&self) {
        // ORDERING: Relaxed. As in `board`.
        self.picks_of_all.store(1, Ordering::Relaxed);
    }

    pub(crate) fn picks_of_all(&self) -> bool {
        // ORDERING: Relaxed. As in `board`.
        self.picks_of_all.load(Ordering::Relaxed) != 0
    }

    pub(crate) const fn is_part(&self) -> bool {
        self.is_part
    }

    pub(crate) fn judges_panic(&self) -> bool {
        // ORDERING: Relaxed. As in `board`.
        self.judges_panic.load(Ordering::Relaxed) != 0
    }

    /// The members' requests in flight side by side, for a policy that compares many. As long as its picker
    /// is in force, leases keep them. `None` for a view that is not the fleet's own: nobody keeps them there.
    pub(crate) fn board(&self) -> Option<Readings> {
        if !self.of_fleet {
            return None;
        }
        // ORDERING: Relaxed, here and below. One thread prepares a picker; the type is shared to be shareable.
        self.reads_board.store(1, Ordering::Relaxed);
        Readings::of(
            self.members
                .iter()
                .map(|member| member.core().place.as_ref()),
        )
    }

    pub(crate) fn reads_board(&self) -> bool {
        // ORDERING: Relaxed. As above.
        self.reads_board.load(Ordering::Relaxed) != 0
    }

    /// All members with a weight above 0 that are not draining, in the order in which
    /// [`PickContext::members`] has them. Some may be ejected now and not when a pick comes.
    #[must_use]
    pub const fn members(&self) -> &'a [Member<E>] {
        self.members
    }

    /// The position in a sequence, for policies that keep one.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor.clone()
    }
}

/// A position in a sequence, one for each shard of threads. It belongs to the fleet and survives
/// updates: an index that starts over with each update overloads whoever comes first. A fleet starts it
/// at random, so that many clients do not walk in step.
///
/// Threads of different shards do not share a position, so a sequence is exact for each thread, and
/// within one round a thread in total. Clones share it.
#[derive(Clone, Debug)]
pub struct Cursor {
    positions: Arc<[Padded<AtomicU64>]>,
    /// Those of parts of the set.
    nested: Arc<Nested>,
}

impl Cursor {
    /// A cursor for `shards` shards, a power of two, each starting where `start` says.
    pub(crate) fn new(shards: usize, start: impl Fn(usize) -> u64) -> Self {
        let shards = shards.next_power_of_two();
        Self {
            nested: Arc::new(Nested::new(start(0))),
            positions: (0..shards)
                .map(|shard| Padded(AtomicU64::new(start(shard))))
                .collect(),
        }
    }

    /// Whether it was panic in a part of the set, as was last told; it is not any more, as nobody counts by parts now.
    pub(crate) fn forgets_panic(&self) -> bool {
        self.nested.any_panics.set(false)
    }

    /// What is kept for the parts of the set.
    pub(crate) fn nested(&self) -> &Nested {
        &self.nested
    }

    /// Where each shard is.
    fn positions(&self) -> impl Iterator<Item = u64> {
        // ORDERING: Relaxed. As in `next`.
        let load = |position: &Padded<AtomicU64>| position.0.load(Ordering::Relaxed);
        self.positions.iter().map(load)
    }

    /// How many shards there are, a power of two.
    pub(crate) fn shards(&self) -> usize {
        self.positions.len()
    }

    /// Takes the next position for the caller's shard ([`PickContext::shard`]). It counts up by one and
    /// wraps after 2^64.
    #[inline]
    pub fn next(&self, shard: usize) -> u64 {
        // ORDERING: Relaxed. Each caller gets another position; nothing is ordered by it.
        self.positions[shard & (self.positions.len() - 1)]
            .0
            .fetch_add(1, Ordering::Relaxed)
    }
}

/// A picker that needs no preparation, as a policy. See [`from_picker`].
#[derive(Clone, Debug)]
pub struct FromPicker<P>(P);

/// Makes a policy of a picker that prepares nothing; each snapshot gets a clone.
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
