//! One request from end to end, and every atomic word with its protocol.
//!
//! # One request
//!
//! ```text
//! pick ──▶ upkeep due?   claimed by one pick: a slice of at most 64 members
//!          probe due?    taken by one pick: looks at up to 64 members, takes this request to an ejected one
//!          snapshot      one pointer: members and picker together
//!          picker.pick   one virtual call; an index
//!          may_pick?     no: drawn again at random, at most 8 times, then one O(n) draw by weight
//!          gate.enter    one fetch_add, whose value tells: closed, or newer data → leave, start again
//!                        the seat's handle is counted: both belong to the thread's shard
//!      ◀── lease         holds one member, never the snapshot
//! … the caller's I/O …
//! record ─▶ latency; a success: gate.leave_well, one fetch_add that leaves and counts it
//!           else tracker.record, where an alarm ejects now, if the ledger has a slot, and gate.leave
//!           the last one out of a closed gate wakes its drains
//! upkeep ─▶ tracker.health → score; ejection by score; the fleet's usual latency; old snapshots freed
//! ```
//!
//! # The house
//!
//! A module knows only those above it: words (`sync`, `time`, `error`, `endpoint`, `options`, `outcome`), `health`
//! (samples and ticks, not endpoints), `shared` (the clock, due-times, the ledger), `member` (one endpoint's
//! life), `balancer` (members, never the fleet), the seams `transport` and `cluster`, `fleet`, and beside its
//! users `sim`, the simulator, which nobody knows. Two
//! rules keep it so: a lease never calls the fleet, it writes to `shared` and the next pick reads it; and
//! a policy never sees the fleet. Time is an argument below `fleet` and `lease`.
//!
//! # The words
//!
//! | word | where | bits, from the top | protocol |
//! |---|---|---|---|
//! | cell, one a shard | `member/cell.rs` | well 16, closed 1, generation 23, inside 24 | all writes are read-modify-writes; the value returned by the entering one decides |
//! | open bucket | `health/window.rs` | nanoseconds, 0 while successes are moved | claimed by a swap to 0, by who moves the cell's successes into the window |
//! | standing | `member/standing.rs` | epoch 24, times 5, phase 3, at 32 ms | one compare-and-swap a change; whoever makes it settles the ledger |
//! | ledger | `shared/ledger.rs` | down 21, limit 21, ejected 21 | a slot is taken before a member turns ejected, released after it has left |
//! | probe search | `fleet/probe.rs` | taken 0 or 1, and three words behind it | taken by one, the others go on |
//! | due, two of them | `shared/due.rs` | nanoseconds | claimed by a swap forward before states are read; alarms store their reason, then fetch_min |
//! | window bucket, ten | `health/window.rs` | epoch 24, total 20, faults 20 | add if of this time, else swap a new one in |
//! | latency | `health/latency.rs` | stamp 32 ms, f32 nanoseconds | swap, at most four tries |
//! | snapshot | `sync.rs` | a pointer | arc-swap; writers swap under the mutex |
//! | cursor, randomness | `balancer/mod.rs`, `shared/shard.rs` | a count, one a shard | fetch_add |
//! | board, a place a member | `shared/board.rs` | requests in flight 32 | fetch_add and fetch_sub by leases picked while a policy reads it |
//! | last reading of the clock | `shared/shard.rs` | nanoseconds, and how many picks may take it | plain stores: a race takes a reading more or less |
//!
//! Fields that wrap are topmost and carry nowhere; fields that count stop short of their end by as many
//! as there may be threads in between. Nothing needs sequential consistency. Each protocol of more than
//! one step has a loom model in its file, with a broken variant that fails.
//!
//! # Why it is so
//!
//! **A removal** publishes the snapshot without the member first, and then closes its gate. A pick that
//! still has the old snapshot enters a closed gate, is told so by its own fetch_add, leaves, and starts
//! again with a snapshot that it is bound to find (the close is a release, the entry an acquire). A count
//! apart from the closed flag would let it slip between. Closing is for good; an endpoint that is inserted
//! again has another gate, so there is no flag to clear and no ABA.
//!
//! **A change of data** replaces the member's handle and moves the gate's generation, after publishing. An
//! entry is refused if the gate is *newer* than the handle; an older gate is an update that has
//! published and not yet moved on, and the handle is the new one.
//!
//! **Seats and cells**: a member has min(processors, 4096 / n) cells, each on a line of its own with the
//! window that its outcomes are counted in, and as many seats, handles that are counted apart. A lease
//! holds the seat of the shard that picked it and leaves by its cell, so where there are few members no two
//! threads write one line. Two finishers of a closed gate in different cells may each see the other's
//! count, so the sum that decides who wakes is taken inside the waiters' mutex.
//!
//! **The board** shows the requests in flight of all members side by side, sixteen to a line, for policies that
//! compare many: a look at 100 members through their cells is a look at 200 lines. A picker that asks for it makes
//! leases write to it; others do not pay. A lease that was picked before is not on it, so after a change of
//! policy it may show less than there is, until those have ended.
//!
//! **A success** costs one write: the fetch_add that leaves also counts it in the cell's topmost field. Those
//! belong to the window's open bucket. The first success of another bucket claims the window, moves what there
//! is into the old one and opens the new one; a sample that is late, or that meets a claim, goes to the window
//! directly. They are added before they are taken, so a reader, which reads the cell first, sees some twice
//! for a moment and never too few: too few successes could eject.
//!
//! **The clock**: a reading costs as much as ten atomic writes. While a shard's picks and records are less than a
//! microsecond apart, one in 16 reads it; the others use its reading. A pick that reads is measured, and its
//! latency looked at. Faults, drops, upkeep, and all picks while anybody is refused always read. A drop of a
//! lease that was not measured says nothing. Where they come slower, each is measured. Each use counts, so a
//! burst that ends leaves up to 15 uses of an old reading to a shard: their successes are counted when the
//! burst was. Only [`MonotonicClock`](crate::MonotonicClock) is reused so, unless a clock of the user's says so too.
//!
//! **The order of a commit**: members that leave rotation give back their ledger slots; the limit is
//! lowered and the earliest ejected are let in until the *ledger* is within it (an alarm may hold a slot
//! whose member has not turned yet; the writer waits those few instructions); the snapshot is published;
//! gates are closed and renewed; the limit is raised; ejections from before are resumed. So the cap holds by the old set before, and by the new set after, the one
//! store that publishes.
//!
//! **A probe** is given by the pick's cold path; policies never see an ejected member, so none can starve it
//! of its probe. It has an epoch, and only the outcome with that epoch decides; and a deadline, so that a
//! forgotten one is replaced. One that brings no verdict is followed by another after the base time. A pick
//! that avoids somebody is a retry and never becomes a probe; and ten picks go by after a probe, unless it
//! ends well, so that a client with little traffic does not send it all to the dead. One pick at a time
//! searches, 64 members each, from behind the last it found; a search is repeated each interval while
//! anybody is ejected, as an update may have moved a member out of its way.
//!
//! **Old news**: the standing's epoch moves with each change. A lease remembers it from before it entered, and
//! a result from another epoch is [`Late`](crate::SampleKind::Late): it updates counts and decides nothing.
//! A tracker is told of a readmission before the member is back, so nothing from before can eject it again.
//!
//! **Users' code** runs unlocked where it can: iterators, keys and weights are read before the lock, values
//! are dropped after it. Under the update mutex run only `Eq` of keys, the policy's `picker`, the maker of
//! trackers, and the trackers' `health` and `readmitted`; the last four with panics caught. A key is hashed
//! once, outside; no map growth calls back into it. `Eq` is asked before anything has changed, so its
//! panic leaves the old set in force.
//!
//! **Retired snapshots** are freed by writers and upkeep, when nobody holds them: a reader that dropped the
//! last reference to ten thousand members would stall for tens of microseconds.
//!
//! # Memory
//!
//! An endpoint takes 537 to 580 bytes and 272 to 280 more for each further cell, the user's data apart
//! (`cargo test --release --test memory -- --nocapture`; the test holds it to 384 + 256 a cell). A cell is 128: the
//! word, the open bucket and ten buckets of the window, alone on its lines. A seat is 112: a handle's two counts, what
//! a pick and a lease read (endpoint, state, generation, weight, cell), and 64 that keep another thread's seat off
//! its line. The rest is there once: the state (standing, latency, score, who waits for a drain, what is shared)
//! some 180, the endpoint's own count 16, its slot in the registry 72, its key twice with a hash 60, its place on
//! the board 4, and the picker's tables, at most 64 where weights fit a table.
//!
//! # Where this departs from where it started
//!
//! - A picker says that it compares loads by asking its view for the board, not by a method `signals` of the
//!   policy: who asks gets what it asked for, and no policy of a user's has to know of it.
//! - A seat a shard counts handles apart, where one handle a member was drawn.
//! - Closing a gate is terminal, and the generation counts editions of an endpoint's data only. That takes
//!   the draining bit and the clearing of flags out of the protocol.
//! - The golden-ratio schedule is within 7 picks of exact in a million, not 3: a Kronecker sequence's
//!   discrepancy grows with the logarithm of its length (`cargo test golden_line -- --nocapture`).
//! - A removal whose policy panics over the smaller set falls back to a weighted random picker instead of
//!   keeping the old set: a removed endpoint must not be picked.
//! - `LeastResponseTime` takes an endpoint that has not answered yet to be as fast as the other of the
//!   pair, where others use a penalty or zero: no flood, and no constant to argue. The better of a pair
//!   wins with a probability, not always: with certainty, one of two nearly equal endpoints gets nothing.
//! - A probe that brings no verdict is not followed by another at once: an endpoint whose every answer is
//!   "too busy" would get every request that comes one at a time.
//! - `PowerOfTwo` takes the first drawn if it is idle and compares (in-flight + 1) / weight otherwise, as
//!   `LeastConnections` does. With in-flight / weight, of two endpoints of weights 1 and 100 with two
//!   requests at a time, the light one got fifty times its share (`cargo test light_endpoint`).
//! - Not here yet, as nothing would use it: signals of policies and the cells laid out by them, exploring
//!   choices, policies within policies (a narrowed context), the mean age of open requests, the fleet's
//!   error rate for trackers, Envoy's settings in one call.
