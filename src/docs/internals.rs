//! How a request runs from end to end, every atomic word with its protocol, and the reasons behind the design.
//!
//! # One request
//!
//! ```text
//! pick ──▶ all calm?     no endpoint is ejected, down or in slow start, and by a fresh clock reading no upkeep is due:
//!                       then only the choice is left
//!          upkeep due?   one pick claims a slice of at most 64 members
//!          probe due?    one pick looks at up to 64 members, and becomes the probe of an ejected one
//!          snapshot      one pointer: members and picker together
//!          picker.pick   one virtual call, which returns an index. If all may be picked, a built-in policy is called
//!                        without a context, which would cost as much to make as the choice
//!          may_pick?     if not: redrawn at random, at most 8 times, then one O(n) weighted draw
//!          gate.enter    one fetch_add. Its value tells whether the gate is closed or has newer data: then leave, and
//!                        start again. The seat's handle is counted; both belong to the thread's shard
//!      ◀── lease         holds one member, never the snapshot
//! … the caller's I/O …
//! record ─▶ a success with nothing to measure or to clear, while readings are reused and the window's bucket is open:
//!           leave the board, gate.leave_with_success_at_once, nothing else
//!           any other success: latency, then gate.leave_with_success, one fetch_add that leaves and counts it
//!           else: tracker.record, whose alarm ejects at once if the ledger has a slot, then gate.leave
//!           the last request out of a closed gate wakes its drains
//! upkeep ─▶ tracker.health → score; ejection by score; the fleet's usual latency; old snapshots freed
//! ```
//!
//! The crate's own terms:
//!
//! - A *shard* is a group of threads with state of its own, so that threads do not contend for cache lines.
//! - A *cell* is what one shard writes for one endpoint with each request: requests in flight and successes.
//! - A *gate* is all cells of one endpoint. A lease *enters* a cell and *leaves* the same one; closing the gate refuses
//!   entries.
//! - A *seat* is a separately counted handle to an endpoint, one per cell.
//! - The *standing* is an endpoint's place in the ejection state machine. Its *epoch* changes with every transition.
//! - The *ledger* is the fleet's count of ejected and marked-down endpoints, with the cap.
//! - The *board* is a compact array of what policies compare of all endpoints: in-flight counts, ages, costs, turns.
//! - All is *calm* while no endpoint is refused and none is in slow start, so that a pick needs no checks.
//! - A *look* is one evaluation of what was measured since the last one.
//!
//! # Modules
//!
//! A module knows only those above it: plain values (`sync`, `time`, `error`, `endpoint`, `options`, `outcome`, what
//! all `settings` have),
//! `health` (samples and ticks, not endpoints), `shared` (the clock, due-times, the ledger), `member` (one endpoint's
//! life), `balancer` (members, never the fleet), the traits `transport` and `cluster`, `caller` (a request's attempts
//! over any cluster, never the fleet), `failover` (a cluster over clusters) and `fleet`. `sim`, the simulator, uses the
//! crate like a user; no other module knows it. Two rules keep it so: a lease never calls the fleet (it writes to
//! `shared`, and the next pick reads it), and a policy never sees the fleet. Time is an argument below `fleet`, `lease`
//! and `caller`.
//!
//! # The atomic words
//!
//! | word | where | bits, from the top | protocol |
//! |---|---|---|---|
//! | cell, one per shard | `member/cell.rs` | successes 16, closed 1, generation 23, in flight 24 | all writes are read-modify-writes; the value returned by the entering one decides |
//! | open bucket | `health/window.rs` | nanoseconds, 0 while successes are moved | claimed by a swap to 0 by the thread that moves the cell's successes into the window |
//! | standing | `member/standing.rs` | epoch 24, times ejected 5, phase 3, since 32 (ms) | one compare-and-swap per transition; the thread that makes it settles the ledger |
//! | epoch, a copy in each cell | `member/cell.rs` | watched 1, epoch 24 | compare-and-swap by the thread that moved the standing to it, unless a later one is there; watched: successes are told to the tracker; set in all cells after a fault or a failed check, for good with a custom tracker; cleared by upkeep, which then looks once more whether the tracker holds anything |
//! | ledger | `shared/ledger.rs` | panic 1, down 21, limit 21, ejected 21 | a slot is taken before a member turns ejected and released after it has left that state; each change is followed by settling the panic bit |
//! | flips | `shared/ledger.rs` | flips 43 (wrapping), degraded 21 | raised after each change of an endpoint's eligibility; read before a count begins |
//! | panic judged by the policy | `shared/ledger.rs` | a flag | a plain store by the writer, which then settles panic |
//! | count of tiers | `balancer/tiers/counted.rs` | the version of flips that the loads were computed from | stored after the loads by the thread that claimed the count |
//! | loads of tiers | `balancer/tiers/plan.rs` | a part, a percentage, where a zone ends | plain stores by the thread that claimed the count; each complete in itself |
//! | panic of a tier | `balancer/nested.rs` | a flag | a swap by the thread that counted: remembers the state between the two thresholds |
//! | wanted, passing since | `member/ejecting.rs` | hundredths of a probe; ms (wrapping), 0 for none | plain stores by the thread that ejects, or that claims or ends the probe or check in flight; read for slow start after the standing has changed |
//! | invited, degraded | `member/inviting.rs` | degraded 1, invitations 7 | each is changed by one instruction that leaves the other; degraded by the writer, before it raises flips |
//! | events, five words per slot | `shared/events.rs` | turn, id, when, what, more | a slot's turn says which thread may use it next; a thread that finds another turn drops its event, or takes none |
//! | limit, beside the cell | `member/cell.rs` | 32; adapted by the thread that claimed the look | read before an entry, whose compare-and-swap on the cell's word decides |
//! | slots: of a fleet's requests, of probes, of a caller's retries | `shared/slots.rs` | a count | taken by compare-and-swap below the limit; given back by the lease, or by the end of the probe or the retry |
//! | latencies of an adaptive limit, and the words beside them | `health/concurrency.rs` | samples 20, sum 44 (64 ns) | added to by requests; taken by the thread that claimed the look by swapping its start time |
//! | evidence | `member/explain.rs` | two f32 | stored by the thread that ejects, read for display |
//! | prober | `shared/prober.rs` | nanoseconds until which active checks count as driven; whether they are ignored | plain stores by the driver; a hint, because the standing decides which thread gets a probe |
//! | probe search | `fleet/probe.rs` | taken or not, and three words that it guards | taken by one pick; the others go on |
//! | deadlines | `shared/deadlines.rs` | a list under its own mutex | listed, then `due` is lowered to it; upkeep claims `due`, then reads the list |
//! | due, two of them | `shared/due.rs` | nanoseconds | claimed by a swap to a later time before states are read; alarms store their reason, then fetch_min |
//! | window bucket, ten | `health/window.rs` | epoch 24, total 20, faults 20 | added to if it is of this time, else replaced |
//! | outcome class, seven | `member/classes.rs` | epoch 24, previous 20, current 20 | compare-and-swap loop |
//! | latency | `health/latency.rs` | stamp 32 (ms), f32 square root of nanoseconds | compare-and-swap, at most four tries |
//! | suspicion | `health/suspicion.rs` | stamp 32 (ms), f32 evidence | compare-and-swap loop: no piece of evidence is lost |
//! | refusals | `health/refusals.rs` | second 8 (wrapping), previous 12, current 12 | compare-and-swap loop; cleared by upkeep when it is over |
//! | preference for others | `member/sparing.rs` | until 16 (eighths of a second, wrapping), factor on the cost 16 | plain stores by refused requests; cleared by upkeep when it is over |
//! | consecutive faults | `health/rule.rs` | local origin 21, gateway 21, any 21 | compare-and-swap by a fault, a plain 0 by a success |
//! | rates | `shared/rates.rs`, `shared/shard.rs` | share of failures, suspects, endpoints that fail in part, judged ones, noise, one per fleet; failures of recent requests and when they were, and how far answers were from the estimates, one per shard | statistics: recomputed by upkeep, updated by each event in between |
//! | last common fault, what failed then, last overflow of the cap | `shared/rates.rs` | a tenth of the window; an f32; milliseconds; the times plus one, 0 for never | plain stores by faults; the overflow also by upkeep |
//! | thresholds of upkeep's ejections | `shared/rates.rs` | two f32, NaN if unknown | plain stores by upkeep, for explanations |
//! | capacity | `shared/capacity.rs` | endpoints in slow start after an ejection; an f32, latency in normal times; whether capacity is short | plain stores by upkeep, one thread at a time |
//! | slow start's end | `shared/mod.rs` | nanoseconds | raised before a member returns, read by each pick |
//! | snapshot | `sync.rs` | a pointer | arc-swap; writers swap under the mutex |
//! | retry bucket, ten per caller, and ten if it throttles | `caller/recent.rs` | epoch 22, retries or accepts 20, requests 22 | compare-and-swap: added to if it is of this time, else replaced |
//! | retry sum, one beside each ten | `caller/recent.rs` | retries or accepts 32, requests 32 | its compare-and-swap grants a retry; added to before the bucket, subtracted from after it |
//! | calls in flight of a throttle | `caller/throttle.rs` | sum of start times 40 (16 us), calls 24 | fetch_add by a call that is sent, fetch_sub by its end |
//! | latencies, 225 buckets if it hedges by a percentile | `caller/latencies.rs` | a count; beside them a turn, and the percentile in nanoseconds | fetch_add; every 32nd attempt recomputes the percentile, and halving is a read-modify-write per bucket |
//! | cursor | `balancer/mod.rs` | a count, one per shard | fetch_add |
//! | next of a round robin | `balancer/ready.rs` | the position's lowest 32, index 32; one per shard | a plain store by the thread that took the previous position; a thread that finds another position computes its own index |
//! | drawn for the next pick | `balancer/drawn.rs` | first 32, second 32; one per shard | a plain store by the last thread to draw; two threads of a shard may once get the same pair |
//! | randomness | `shared/shard.rs` | a count, and two precomputed numbers, one per shard | fetch_add, then plain stores: a race draws a number twice |
//! | board, one place per member | `shared/board.rs` | sum of start times 40 (16 us), requests in flight 24 | fetch_add and fetch_sub by leases picked while a policy reads it |
//! | cost and turn, beside it | `shared/board.rs` | an f32, its sign bit an invitation; 32 | plain stores; upkeep's keep the sign; the pick that clears the sign takes the invitation |
//! | a shard's notes on large fleets | `balancer/adaptive/notes.rs` | eight indices 32, the last draw 64, the time in turns 32, the usual cost | plain stores: hints, each verified like any other candidate. The time starts at the last turn that a member had, so that an update restarts nothing. For a thread that lags by more than one round of its candidates, it is the first turn among them. Each 2^29, turns and times left behind by more than that are brought forward to there, as what is 2^31 behind would seem to be ahead |
//! | last reading of the clock | `shared/shard.rs` | nanoseconds, how many uses it has, and how many are left | plain stores: in a race a reading may get the uses of the previous one |
//!
//! Wrapping fields are topmost, so they carry into nothing. Counting fields stop short of their end by as many as there
//! may be threads in between. Nothing needs sequential consistency. Each protocol of more than one step has a loom
//! model in its file, with a broken variant that fails.
//!
//! # Why it is designed so
//!
//! **A removal** publishes the snapshot without the member first and closes its gate after that. A pick that still has
//! the old snapshot enters a closed gate. The value returned by its own fetch_add says so; the pick leaves and starts
//! again, and it is bound to find the new snapshot (the close is a release, the entry an acquire). A count separate
//! from the closed flag would let such a pick slip through in between. Closing is final: an endpoint that is inserted
//! again gets another gate, so there is no flag to clear and no ABA problem.
//!
//! **A drain's deadline** needs something that reads the clock, and the crate starts no timer. So upkeep watches it,
//! and the deadline makes upkeep due. It is listed beside the registry and not in it, because the fleet may have
//! removed the endpoint and because a stuck update must not delay it. A task polled after its deadline needs no
//! wake-up.
//!
//! **A change of data** replaces the member's handle and raises the gate's generation after publishing. An entry is
//! refused if the gate is *newer* than the handle. If the gate is older, an update has published and not yet raised it,
//! and the handle is the new one.
//!
//! **Seats and cells.** A member has min(processors, 4096 / n) cells, each an allocation of its own with the window
//! that its outcomes are counted in, and as many seats. A lease holds the seat of the shard that picked it, and the
//! seat holds its cell, so the lease leaves the cell that it entered. A request writes the first 32 bytes of a cell. A
//! cell is longer than two cache lines, so with few members no two threads write the same line. A policy, too, looks at
//! members through the seats of its own thread's shard: reading another shard's seat waits for what that shard has just
//! written there. Two threads that finish in different cells of a closed gate may each see the other's request, so the
//! sum that decides which of them wakes the drain is taken inside the waiters' mutex.
//!
//! **An overloaded endpoint** ([`Outcome::Overloaded`](crate::Outcome::Overloaded)) has no fault and nothing in flight,
//! so it would be the cheapest as soon as others are busy. Refusals of the last one to two seconds are therefore
//! counted, in a word beside the rule, and compared with the requests it answers. A tenth more than the fleet's median
//! does not count, because where all queues are short each of them is full at times. If the endpoint said until when it
//! refuses, its factor is kept until then.
//!
//! **A common fault** is held against few endpoints as it begins, and against none once it is over. Window buckets up
//! to the last one in which most of a shard's requests failed, at varying endpoints, do not count towards the cost of
//! errors. Otherwise an endpoint with few requests since then would look worse than those with many, get none, and
//! look worse for longer. As it begins, the windows still show successes, and an endpoint with many requests since
//! would look worse: scores are compared with what fails at the moment. Nor do probes that fail meanwhile lengthen an
//! ejection: all endpoints that are out would stay out for long after it.
//!
//! **Early probes for a full cap.** If another endpoint should be ejected and the cap is reached, one of the ejected
//! ones may have recovered with half a minute of its ejection left. Upkeep then has them probed early: at once, and
//! each further time after twice the wait. The same is done while most requests fail everywhere, when few ejections are
//! tried: those that are out may be better than those that are in.
//!
//! **The board** shows what policies compare of all members side by side: reading 100 members through their cells reads
//! 200 cache lines. Only if a picker asks for the board do leases write to it. A lease picked before that is not on it,
//! so after a change of policy the board may show less than is in flight, until those leases have ended. The request
//! count shares a word with the sum of start times: two words could be read torn, and show an age of the size of `now`.
//! A request's cost (`health/cost.rs`: latency, more than proportionally, times errors) is computed when something new
//! is known (a measured success, a fault, upkeep) and read by each pick, because a pick has time for a product and not
//! for an exponential.
//!
//! Picks read the board in rows of 32 into arrays on the stack and compare in loops without branches: a comparison per
//! member is a branch that cannot be predicted, while vector instructions compare four at a time. A row is padded to a
//! multiple of four with entries that cost more than any member. A member with overdue requests counts at three times
//! its cost, for up to a minute (after that they are streams, or forgotten), and not by their age: by age, a member
//! that worked on a long request or held a stream open cost hundreds of times as much, and all requests went to the
//! others. What chance makes endpoints differ by (`health/noise.rs`) is measured: each shard adds up how far answers
//! are from the estimates, upkeep takes these sums and looks how old requests get. Whether a member may be picked takes
//! three loads from scattered addresses. So if some may not, rows are compared as usual, only the best candidate is
//! checked, and it is taken out if it may not be picked. The readings of a row are not of one moment; neither were
//! those of one member after another.
//!
//! **One endpoint against the fleet.** A fault is weighed by how often others fail, and that is known late, or not at
//! all, where it matters most. The fleet's mean is wrong when a zone dies: it is a third within a moment, and the dead
//! endpoints would hide behind each other. So the share is that of the endpoints that are not outliers, as of the last
//! upkeep (ten times a second). That in turn is wrong, for a second or more, when all endpoints begin to fail at once.
//! The *number* of suspects tells the two cases apart: beyond two fifths, the share is that of the shard's recent
//! requests, whatever endpoint they went to. Where a small share of requests fails everywhere, few are suspects at
//! once, so it is also told by half of the others, at least three, having failed more of the last seconds' requests
//! than twice the usual share, but no more than half: of 20 endpoints with 500 requests a second each, of which 5 %
//! failed from one moment on, six were out in the mean within two seconds, and now three (`tests/operations.rs`). Once
//! it is common, a fault stays so for as long as requests keep failing at varying endpoints, or mostly fail: a few
//! successes clear suspects, and if fewer than two fifths were suspect for a moment, the next two failures of one
//! endpoint would count as its own (half of ten were ejected within a second). Above a share of 0.8, a fault is no
//! evidence: each would prove a little, and with no success in between they would add up. A score ejects by the
//! fleet's usual values as they are when the upkeep pass ends: as a bucket leaves the window, all endpoints may be
//! worse at once than at the previous pass.
//!
//! Checks are quicker than requests. Within ten milliseconds they would eject each endpoint that failed one request,
//! before enough others had failed one. So a failed check waits until others, which answer as quickly, have been
//! checked. It is weighed by how many of those fail, and this also finds others that are as bad. One failed check per
//! endpoint waits, so an endpoint that refuses at once is not checked endlessly. Such a round of checks ends by its
//! answers, by members leaving, or by its time limit, and tells its result once to those that waited for it, however
//! late they ask. Passing checks reduce the combined evidence against an endpoint, which ends the suspicion. Evidence
//! from requests alone is kept separately, because otherwise a healthy status page would keep in rotation an endpoint
//! that fails requests. (Weighing suspects' checks against each other does not work: if five die together, all of
//! theirs fail. Checking others only if more than one endpoint is suspect is too late for a client that sends a request
//! now and then.)
//!
//! **Short of capacity.** A doubling back-off spares requests, because each probe of a dead endpoint is a failed
//! request. Its cost is the capacity of endpoints that have recovered. This does not matter if one of twenty is out,
//! nor if the others have little to do. It does if eight of twenty fail together for half a second, again and again, at
//! a load of 0.7: soon they are out for a minute, and queues of seconds at the other twelve fail ten times as many
//! requests as the faults would. What tells these cases apart is how much longer the others take. Each endpoint is
//! compared with its own latency while no more were out than can be spared; upkeep keeps that latency for each, and the
//! median ratio decides. (Comparing the median of all latencies with its earlier value would call the slow endpoints of
//! a mixed fleet busy as soon as the quick ones are out.) The estimate lags by half a second, so the first ejections
//! last as long as ever and are cut short when the shortage shows. (Assuming a shortage as soon as more than a tenth
//! are out is sooner, and costs where the others could have carried everything: five of 20 that flap in phases of 2 s
//! had 0.21 % of errors with checks instead of 0.035.) An endpoint that returns during a shortage starts its back-off
//! anew; otherwise it would be out for longer each time. The last few do not, because they can be spared. Slow start
//! relies on the others to take what a new endpoint does not, which they cannot do then, so it starts at the share that
//! is missing. The number of endpoints in slow start is as upkeep counted it.
//!
//! **The longest ejection.** A back-off spares requests, so how long it should become depends on the request rate: a
//! probe each 16 s is one request in eighty at five a second, and one in eight thousand at five hundred. So it grows up
//! to a time or to a number of requests, whichever is less: at a high rate, a recovered server is found soon. Where
//! capacity is short, each second without it costs far more than a probe, so the number is a thirtieth.
//!
//! **Invitations.** A policy that picks the least cost never learns that an endpoint it avoids has recovered. Upkeep
//! finds the one that has been idle longest, for a second at least, and marks it on the board; one pick takes the
//! invitation. Invitations accrue at one per fifty requests, or fewer where picks are so rare that sweeps are late: a
//! sweep earns no more than one in time, so that requests still go by turns. An endpoint that proved no better waits
//! twice as long, up to 16 s. Two of three go to endpoints without data, those invited least first, in the order of the
//! set, because a new endpoint among many known ones counts at the usual cost, and at low load another endpoint always
//! costs less. So the expense is bounded, and no endpoint depends on chance. An invitation stands until a pick takes
//! it, and an endpoint that has one gets no other: otherwise the spares of a priority without load, which are idle for
//! ever, would get them all.
//!
//! **An endpoint that never answers** has no latency, and counts as better than usual, so that it is tried. If its
//! requests are abandoned before patience is over, as beside hedges, nothing else becomes known of it. Where requests
//! do not overlap, it would then get nearly all of them (`tests/unanswered.rs`). So it no longer counts as new after
//! three requests without an answer, and each abandoned request raises its cost, because a caller had waited for it.
//! Where many are abandoned at endpoints that answer, too, it takes as many requests as end so there once in a thousand
//! times.
//!
//! **A success** costs one write: the fetch_add that leaves the cell also counts the success in the cell's topmost
//! field. These successes belong to the window's open bucket. The first success of another bucket claims the window,
//! moves the counted ones into the old bucket and opens the new one. A late sample, or a sample that meets a claim,
//! goes to the window directly. Successes are added to the window before they are taken from the cell, and a reader
//! reads the cell first. So it may see some twice for a moment and never too few; too few successes could eject.
//!
//! **The clock.** A reading costs as much as ten atomic writes. With one pick in 16 measured, each pick paid some 6 ns
//! of 36 for it; with one in 64, it pays one or two. While a shard's picks and records are less than a microsecond
//! apart, one in 32 of them reads the clock, which is one pick in 16, and the others use its reading. At higher rates,
//! as many use it as come within 32 us, up to 128. A pick that reads the clock is measured, and its latency is used. A
//! record never refreshes the reading: alternating with picks, it would do so every time, and no pick would be
//! measured. Faults, drops, upkeep, and all picks while an endpoint is refused or in slow start always read the clock.
//! A drop of a lease that was not measured counts for nothing. At lower rates, each pick is measured.
//!
//! Uses are counted, so a burst that ends leaves a shard up to 31 uses of an old reading, or 127 after a long and dense
//! burst; their successes are counted at the time of the burst. A thread of the shard that reads the clock for a fault
//! or a latency discards an old reading, so that what is recorded after it is counted at the time of its end. Upkeep
//! does so for all shards. Changes of the set and returns discard all readings of any age: a pick with an earlier
//! reading would not see the slow start. Only [`MonotonicClock`](crate::MonotonicClock) is reused in this way, unless a
//! user's clock opts in.
//!
//! **Panic** is computed from the ledger's word and the pick's own snapshot. The word's topmost bit decides only
//! between the threshold at which panic begins and the one at which it ends, so a bit that lags by some instructions
//! makes no difference elsewhere. A thread that has changed a count then settles the bit in the same word, and reads
//! the number of members again after that. The writer stores that number before it settles the bit, so the later of the
//! two sees the earlier one's change. The thread that flips the bit emits the event, so each change is reported once.
//!
//! **Tiers.** The priority of a pick depends on how many endpoints are eligible in each, and eligibility changes
//! without a rebuild. Keeping a count per priority at each change would require a member to know its tier, which
//! updates move. Instead each change raises one word, and a pick that finds it raised recounts: 256 members at most,
//! and the next pick continues. It claims the count by a `try_lock` and never waits. Other picks use the loads in
//! force, each a word complete in itself, so a pick that meets a half-written division uses shares between the old and
//! the new. These loads are only shares: whether a member may be picked is checked as always, so an ejection is seen at
//! once, and a late count can only send a pick elsewhere. The version is read before the first member is, so a change
//! during the count makes it stale, and none is lost.
//!
//! A leaf is a slice. The policy keeps handles of its own, sorted by priority and zone, with their indices in the
//! fleet's slice, which stays in the user's order; a fleet without tiers has none of this. The context is narrowed to
//! that slice together with the pick's random draw for slow start. The draw is mixed with a member's index in the
//! *fleet*, so a member that passes in a leaf also passes the fleet's own check. A priority of several zones has a
//! picker over all of them beside those of its zones, for when zones do not count and for panic. The positions of
//! leaves and the memory of their panic belong to the fleet's cursor, so updates and changes of policy keep them.
//!
//! **Degraded** is a flag beside the standing, not a phase of it: a degraded endpoint is judged, ejected and readmitted
//! like any other. A leaf reads the flag when a pick is for degraded or non-degraded endpoints only.
//!
//! **Events** are emitted where they happen: by a request that ends, a pick that does upkeep, an update. So they go
//! into a ring of words that takes no lock. An event that finds the ring full is dropped and counted, because making
//! room would mean waiting for the thread that writes the oldest. There is no callback, because the end of a request is
//! no place for a user's code. The endpoint's data is out of reach there, so an event carries the member's id, and the
//! key is looked up when events are taken. The end of a drain is reported by the last request to leave. The gate
//! remembers under the waiters' mutex that the report is wanted, and that mutex is taken only for the last requests of
//! a closed gate.
//!
//! **The order of a commit:** members that leave rotation give back their ledger slots; the limit is lowered, and the
//! earliest ejected are readmitted until the *ledger* is within it (an alarm may hold a slot whose member has not
//! changed its standing yet; the writer waits for those few instructions); the snapshot is published; gates are closed
//! or their generation is raised; the limit is raised; earlier ejections are resumed. So the cap holds by the old set
//! before the one store that publishes, and by the new set after it.
//!
//! **A probe** is granted on the pick's cold path. Policies never see an ejected member, so no policy can starve it of
//! its probe. A probe has an epoch, and only an outcome with that epoch decides. It has a deadline, so that a forgotten
//! one is replaced. A probe without a verdict is followed by another after the base time. A pick that avoids a member
//! is a retry and never becomes a probe. After a probe, ten picks must pass before the next, unless it succeeds, so
//! that a client with little traffic does not send all of it to dead endpoints. One pick at a time searches for a due
//! endpoint, 64 members each, starting behind the last one found. The search is repeated each interval while any
//! endpoint is ejected, because an update may have moved a member out of its way.
//!
//! **Limits.** A sum over cells cannot be compared with a limit at one instant, so an endpoint with a limit has a
//! single cell. An entry is a compare-and-swap on its word, which counts, checks the limit and detects a removal in one
//! step. A fleet-wide slot works the same way. It is taken before the pick and held by a guard until the lease has it:
//! counting afterwards would be one too many for a moment, and giving it back by the pick's result would leak it if a
//! policy panics. Every lease of a limited fleet holds a slot. A probe's slot belongs to the standing and not to the
//! lease: the thread that ends the standing's probe gives it back, and a forgotten probe leaves it to the next. A pick
//! checks for room before it enters, and chooses again if the last place was taken meanwhile; each such round is
//! another request's success. That no room is left is reported only after looking at all members, in one pass that also
//! tells [`Saturated`](crate::PickError::Saturated), which is temporary, from
//! [`AllAvoided`](crate::PickError::AllAvoided), which is not. If a policy chooses no endpoint although some have room,
//! it is asked once more as if there were no limits: what it chooses then was full. There is no queue: requests waiting
//! here would be visible to nothing, and a request that waits longer than its caller is wasted work. All limits are off
//! by default: the right number depends on the endpoint, and a wrong one fails requests. Without a limit, a request
//! tests two flags and writes nothing more. With one per endpoint, threads share its cache line, and `Adaptive` takes a
//! quarter (of ten endpoints) or a seventh (of a hundred) longer, because each endpoint's own word is read. A fleet's
//! limit adds two writes (`cargo bench --bench cycle -- --summary`, its last rows).
//!
//! **An adaptive limit** does not measure the minimal latency by pinning the limit low, which would fail requests to
//! learn. It uses what it sees while at most half of the limit is in flight, and lets that rise slowly while more is.
//! The look is claimed, so one interval shrinks a limit once. Its words are the cell's, and one allocation where it is
//! used.
//!
//! **Active checks** belong to a driver that the caller polls. Its book (which endpoint is due, which is being checked,
//! what the results say so far) is under a mutex of its own that no request takes. The book holds members by id and
//! index in the snapshot of one edition, so it keeps no endpoint alive; a tick that finds another edition rebuilds it.
//! A result acts on the member's standing as a request's does. An ejection goes by the epoch of when the check was sent
//! and by the ledger. A return works as a half-open probe's, except that the time of passing checks counts towards slow
//! start and the latency starts afresh, because no request has measured it. So there is one cap, and neither source
//! undoes by chance what the other finds. While the driver is present, only it takes half-open probes. Its presence is
//! a word that expires three seconds after its last tick, and only a hint: a pick and the driver may both consider an
//! endpoint due, and the exchange on the standing gives the probe to one of them. A check that did not bring its
//! endpoint back renews the ejection by the unhealthy interval and not by twice the last length, because the length is
//! there to spare requests. The results of an ejected endpoint's checks add up in the member's own count of wanted
//! probes, so if the driver dies, requests take over; the book only says when the next check is due. A suspect is
//! checked without a pause, except where that would have no end: if its test does not eject, the cap is reached, or
//! most endpoints are suspect. A check without a result counts as a timeout after twice its time and not after its
//! time: the caller's timer starts a moment later, and its result would always come too late.
//!
//! **The retry budget** is a window and not a token bucket, which a quiet hour would fill and the next outage would
//! spend at once. Reading ten buckets and then counting would let two threads take the last retry, so one word holds
//! their sum. It is added to first and subtracted from last, so it is never less than the buckets hold and cannot go
//! below zero. What was granted is sent before the next await, so there is nothing to give back. The caller finds out
//! before a wait that the retry would be refused, and asks again after it, because others may have been first.
//!
//! **Failover** asks clusters six questions: for a pick, for how much is eligible, for a probe, whether a member is
//! theirs, and, for a caller, whether they have a healthy choice and whether any other endpoint is left. The eligible
//! parts are added up, not multiplied by the factor: then nested failovers share requests as the same number of Envoy's
//! priorities does. The split is a golden-ratio sequence per thread: random draws produce runs, which are bursts for
//! the spare cluster, a plain counter could resonate with a caller's own rhythm, and a word shared by all threads would
//! be the only cache line that they all write. What it tells its fleets travels in the pick's options: that a probe was
//! asked for, so that nested failovers do not count a request twice, and that panic is off because there is another
//! cluster. A pick of the preferred cluster cannot be the way to probe it: with all endpoints out, it gets no picks. So
//! each request asks both clusters for a due probe, which is one load while no endpoint is refused.
//!
//! **Going away** is an immediate ejection by a detector of its own, and not a separate state. So it reuses the cap,
//! the panic rule, the probes that notice a restart, and the epochs that make the results of the other requests in
//! flight late. If it took endpoints out without a cap, as marking down does, a rolling restart that runs ahead of
//! discovery could empty a fleet. If the cap is reached, the endpoint costs more for a second instead. A removal
//! forgets it: what is inserted again is another process.
//!
//! **Hedges** race in an allocation of their own: one for a call whose plan has hedges, and one more for each hedge
//! that is sent. A call without them sends from its own future, which stays small (448 bytes for a request of one;
//! through the race it was 648, and a call took 70 ns more). A losing attempt is dropped like any future whose caller
//! is gone, and patience judges it: if it never counted, an endpoint could hang unseen while hedges answer for it; if
//! it always counted as a fault, every endpoint would be charged with its slowest twentieth. The percentile is that of
//! first attempts, including losing ones with the time they had: from answers alone, each tail that is cut off would
//! shorten the next delay and cause more hedges (`tests/hedging.rs` has such a tail). It comes from a histogram and not
//! a moving estimate: its error is known, an eighth, and there is no constant to tune. An `Err` that must not be
//! retried ends the race, as in gRPC. A hedge that is refused is not tried again in that race.
//!
//! **Throttling** asks the cluster first. Ejections alone are not a sufficient sign: a fleet whose endpoints all fail
//! alike ejects none by the default detector, and with any detector the cap leaves half of it in rotation. So
//! [`has_healthy`](crate::Cluster::has_healthy) also looks at the share of failures among the endpoints that are not
//! outliers, and at the share that endpoints refuse as overloaded, which ejects none. It is called only if the formula
//! gives more than zero. Calls count when they have ended, because a burst has no answers yet. Those in flight count by
//! their mean age, because a server that hangs ends none. At most 80 in a hundred are refused, because ejected
//! endpoints come back by requests.
//!
//! **No wait in vain.** Before a back-off, the caller asks whether any endpoint is left
//! ([`leaves_none`](crate::Cluster::leaves_none)), and checks time, slot and budget. A pick would answer this too, but
//! it moves cursors and takes a place. The caller does not wait for an overloaded endpoint, whose retry time is mostly
//! longer than the caller's.
//!
//! **Late results.** The standing's epoch changes with each transition. A lease remembers the epoch from before it
//! entered, and a result from another epoch is [`Late`](crate::SampleKind::Late): it updates counts and decides
//! nothing. A record reads the copy in its cell, which it reads anyway. Until a transition is shown there, a success
//! from before it may be counted. What decides something reads the standing itself. So does a pick, unless all is calm,
//! which it becomes again only after a return has been shown. A tracker is told of a readmission before the member
//! returns, so nothing from before can eject it again.
//!
//! **Users' code** runs outside the lock where possible: iterators, keys and weights are read before it is taken, and
//! values are dropped after it is released. Under the update mutex run only `Eq` of keys, the policy's `picker`, the
//! function that makes trackers, and the trackers' `health` and `readmitted`; the last four with panics caught. A key
//! is hashed once, outside the lock; no map growth calls back into it. `Eq` is called before anything has changed, so
//! if it panics, the old set stays in force.
//!
//! **Retired snapshots** are freed by writers and upkeep, once no reader holds them: a reader that dropped the last
//! reference to ten thousand members would stall for tens of microseconds. If each member has one seat, the array of
//! the last freed snapshot is kept and updated to the set in force. Whenever the update mutex is free it holds the same
//! seats, so it keeps no member alive that the set does not. The next change builds its array from it, by what lies
//! between the first and the last difference: a new array would increment each member's handle count once more, and
//! freeing the old one would decrement it, which at 100 000 members are as many cache misses each.
//!
//! # Memory
//!
//! An endpoint takes 575 to 629 bytes, and some 250 more with two cells, without the user's data and after changes of
//! the set (`cargo test --release --test memory -- --nocapture`; the test bounds it to 384 + 256 per cell). A cell is
//! 136 bytes: a handle's two counts, the word, its limit, the open bucket, the ten buckets of the window and the words
//! of an adaptive limit. A seat is 64: a handle's two counts, what a pick and a lease read (cell, shared state,
//! generation, weight, endpoint, state), and 8 that keep another thread's counts off its line. The rest exists once:
//! the state (standing, latency, suspicion, score, counts by class, waiting drains, shared state) some 225, the
//! endpoint's own count 16, its slot in the registry 32, its key twice with a hash 60, its place on the board 22, its
//! index in two arrays 16, and the picker's tables, at most 64 if the weights fit a table and some 130 otherwise. A
//! round robin has 128 more per shard of threads, once.
//!
//! # Departures from the initial design
//!
//! - A picker declares that it compares loads by asking its view for the board, not by a method `signals` of the
//!   policy. A picker that asks gets the board, and a user's policy does not have to know about it.
//! - A seat per shard counts handles separately; initially one handle per member was drawn.
//! - Closing a gate is final, and the generation counts editions of an endpoint's data only. That removes the draining
//!   bit and the clearing of flags from the protocol.
//! - Beyond a table, weighted round robin is not a golden-ratio sequence: that strays by 7 picks in a million, and its
//!   discrepancy, as that of any sequence of points on a line, grows with its length (Schmidt, 1972). The turns are
//!   computed, earliest deadline first, and handed out 31 at a time under a lock that no pick waits for: a pick that
//!   finds it taken goes by the golden ratio, and the next thread that takes turns sets that visit against them.
//! - A removal whose policy panics over the smaller set falls back to a weighted random picker instead of keeping the
//!   old set: a removed endpoint must not be picked.
//! - `LeastResponseTime` assumes that an endpoint that has not answered yet is as fast as the other of the pair, where
//!   others use a penalty or zero: this neither floods it nor needs a constant. The better of a pair wins with a
//!   probability, not always: with certainty, one of two nearly equal endpoints would get nothing.
//! - A probe without a verdict is not followed by another at once: an endpoint whose every answer is "too busy" would
//!   get every request of a client that sends one at a time.
//! - `PowerOfTwo` takes the first one drawn if it is idle and otherwise compares (in-flight + 1) / weight, as
//!   `LeastConnections` does. With in-flight / weight, of two endpoints of weights 1 and 100 with two requests at a
//!   time, the light one got fifty times its share (`cargo test light_endpoint`).
//! - Active checks depart from Envoy's. Endpoints start in rotation, because the cap would not hold otherwise. A pass
//!   does not end an ejection that requests caused before its time. An ejection by a check lasts and doubles like one
//!   by requests, which holds back an endpoint that flaps. Removed endpoints are gone, whatever their checks say. There
//!   are no flags for degraded or excluded. The 60 s between checks without traffic are optional. There is one kind of
//!   jitter.
//! - An adaptive limit departs from Envoy's. It has no phase at the minimum limit in which to measure. Timeouts and
//!   overload answers shrink it by their share. It does not rise while fewer than half of it are in flight.
//! - Panic ends ten percentage points above where it begins; the initial design, and Envoy, have one threshold.
//! - Left out, because nothing would use it: signals of policies and cells laid out by them, exploring choices, a
//!   narrowed context for users' policies.
//! - Members are not sorted by priority and zone in the snapshot: only `Tiers` needs it, and has its own slice.
//! - Tiers depart from Envoy's. Zones count in each priority. A priority's panic has the fleet's gap between
//!   thresholds. An empty zone counts as a zone. If only rounding leaves no zone room, the rest is divided equally
//!   among the other zones and does not go to one of all. Excluded hosts are not known (an endpoint that drains or has
//!   no weight is not in the set), nor is the health of the callers' zones. A choice uses the fleet's generator.
