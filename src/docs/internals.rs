//! One request from end to end, and every atomic word with its protocol.
//!
//! # One request
//!
//! ```text
//! pick ──▶ all calm?     the ledger's word, until when somebody warms up, and by a fresh reading whether upkeep is due: then
//!                       there is nothing to do but to choose
//!          upkeep due?   claimed by one pick: a slice of at most 64 members
//!          probe due?    taken by one pick: looks at up to 64 members, takes this request to an ejected one
//!          snapshot      one pointer: members and picker together
//!          picker.pick   one virtual call; an index. Where all may be picked, a policy of the crate's is asked without a
//!                        context, which takes as long to make as a choice
//!          may_pick?     no: drawn again at random, at most 8 times, then one O(n) draw by weight
//!          gate.enter    one fetch_add, whose value tells: closed, or newer data → leave, start again
//!                        the seat's handle is counted: both belong to the thread's shard
//!      ◀── lease         holds one member, never the snapshot
//! … the caller's I/O …
//! record ─▶ a success with nothing to measure or to make good, while readings are used again and the window's bucket is
//!           open: it leaves the board, and gate.leave_well_at_once, nothing else
//!           else latency; a success: gate.leave_well, one fetch_add that leaves and counts it
//!           else tracker.record, where an alarm ejects now, if the ledger has a slot, and gate.leave
//!           the last one out of a closed gate wakes its drains
//! upkeep ─▶ tracker.health → score; ejection by score; the fleet's usual latency; old snapshots freed
//! ```
//!
//! # The house
//!
//! A module knows only those above it: words (`sync`, `time`, `error`, `endpoint`, `options`, `outcome`), `health`
//! (samples and ticks, not endpoints), `shared` (the clock, due-times, the ledger), `member` (one endpoint's
//! life), `balancer` (members, never the fleet), the seams `transport` and `cluster`, `caller` (a request's attempts
//! over any cluster, never the fleet) and `failover` (a cluster over clusters), `fleet`, and beside its users `sim`, the simulator, which nobody knows. Two
//! rules keep it so: a lease never calls the fleet, it writes to `shared` and the next pick reads it; and
//! a policy never sees the fleet. Time is an argument below `fleet`, `lease` and `caller`.
//!
//! # The words
//!
//! | word | where | bits, from the top | protocol |
//! |---|---|---|---|
//! | cell, one a shard | `member/cell.rs` | well 16, closed 1, generation 23, inside 24 | all writes are read-modify-writes; the value returned by the entering one decides |
//! | open bucket | `health/window.rs` | nanoseconds, 0 while successes are moved | claimed by a swap to 0, by who moves the cell's successes into the window |
//! | standing | `member/standing.rs` | epoch 24, times 5, phase 3, at 32 ms | one compare-and-swap a change; whoever makes it settles the ledger |
//! | epoch, a copy in each cell | `member/cell.rs` | 24 | compare-and-swap by who has turned the standing to it, unless a later one is there |
//! | ledger | `shared/ledger.rs` | panics 1, down 21, limit 21, ejected 21 | a slot is taken before a member turns ejected, released after it has left; who has changed it settles the panic bit after |
//! | flips | `shared/ledger.rs` | flips 43 (wrapping), degraded 21 | raised after each change of somebody's eligibility; who counts reads it before |
//! | judged by policy | `shared/ledger.rs` | 0 or 1 | a plain store by the writer, who settles panic then |
//! | count of tiers | `balancer/tiers/counted.rs` | the version of flips that loads are of | stored after the loads, by whoever has claimed the count |
//! | loads of tiers | `balancer/tiers/plan.rs` | a part, a percentage, where a zone ends | plain stores by who has claimed the count; each complete in itself |
//! | panic of a tier | `balancer/nested.rs` | 0 or 1 | a swap by who has counted: a memory between the two thresholds |
//! | wanted, passing since | `member/ejecting.rs` | hundredths of a probe; ms (wrapping), 0 for not | plain stores by who ejects, or claims or ends the probe or check that is out; read for slow start after the standing has turned |
//! | invited, degraded | `member/inviting.rs` | degraded 1, invitations 7 | each changed by one instruction that leaves the other; degraded by the writer, before it raises flips |
//! | events, five words a slot | `shared/events.rs` | turn, id, when, what, more | a slot's turn says whose it is; who finds it not theirs drops the event, or takes none |
//! | limit, beside the cell | `member/cell.rs` | 32; adapted by who has claimed the look | read before an entry, whose compare-and-swap on the cell's word decides |
//! | slots: of a fleet's requests, of probes | `shared/slots.rs` | a count | taken by compare-and-swap below the limit; given back by the lease, or by who ends the probe |
//! | latencies of an adaptive limit, and words beside it | `health/concurrency.rs` | samples 20, sum 44 (64 ns) | added to by requests, taken by who has claimed the look by a swap of its start |
//! | evidence | `member/explain.rs` | two f32 | stored by who ejects, read for display |
//! | prober | `shared/prober.rs` | nanoseconds until which somebody checks out of band; whether in vain | plain stores by the driver; a hint, as the standing decides who gets a probe |
//! | probe search | `fleet/probe.rs` | taken 0 or 1, and three words behind it | taken by one, the others go on |
//! | deadlines | `shared/deadlines.rs` | a list under a mutex of its own | listed, then `due` is lowered to it; upkeep claims `due`, then looks |
//! | due, two of them | `shared/due.rs` | nanoseconds | claimed by a swap forward before states are read; alarms store their reason, then fetch_min |
//! | window bucket, ten | `health/window.rs` | epoch 24, total 20, faults 20 | add if of this time, else swap a new one in |
//! | outcome class, seven | `member/classes.rs` | epoch 24, before 20, present 20 | swap until it is in |
//! | latency | `health/latency.rs` | stamp 32 ms, f32 root of nanoseconds | swap, at most four tries |
//! | suspicion | `health/suspicion.rs` | stamp 32 ms, f32 evidence | swap until it is in: each piece of evidence adds up |
//! | refusals | `health/refusals.rs` | second 8 (wrapping), before 12, present 12 | swap until it is in; forgotten by upkeep when it is over |
//! | how others are preferred | `member/sparing.rs` | until 16 (eighths of a second, wrapping), how many times the cost 16 | plain stores by who is refused; forgotten by upkeep when it is over |
//! | rows | `health/rule.rs` | local origin 21, gateway 21, any 21 | swap by a fault, a plain 0 by a success |
//! | trend | `shared/trend.rs`, `shared/shard.rs` | the share that fails, suspects, judged, one a fleet; the last requests' failures, one a shard | statistics: upkeep counts anew, between that each event adds |
//! | when all failed, when the cap held somebody | `shared/trend.rs` | a tenth of the window; milliseconds; each and one, 0 for never | plain stores by faults |
//! | where upkeep ejects | `shared/trend.rs` | two f32, NaN if it is not known | plain stores by upkeep, for explanations |
//! | capacity | `shared/capacity.rs` | how many are back in slow start; an f32, latency in calm; whether it is short | plain stores by upkeep, one at a time |
//! | slow start's end | `shared/mod.rs` | nanoseconds | raised before a member is back, read by each pick |
//! | snapshot | `sync.rs` | a pointer | arc-swap; writers swap under the mutex |
//! | retry bucket, ten a caller, and ten if it throttles | `caller/recent.rs` | epoch 22, retries or accepts 20, requests 22 | compare-and-swap: add if of this time, else a new one in |
//! | retry sum, one beside each ten | `caller/recent.rs` | retries or accepts 32, requests 32 | a retry is granted by its compare-and-swap; added to before the bucket, taken from after it |
//! | retries under way, one a caller | `caller/slots.rs` | a count | compare-and-swap below the limit; fetch_sub when dropped |
//! | latencies, 225 if it hedges by a percentile | `caller/latencies.rs` | a count; beside them a turn, and the percentile in nanoseconds | fetch_add; whose turn it is works the percentile out, and halves each by a read-modify-write |
//! | cursor | `balancer/mod.rs` | a count, one a shard | fetch_add |
//! | next of a round robin | `balancer/ready.rs` | the position's lowest 32, index 32; one a shard | a plain store by who took the position before; who finds another position there works out its own |
//! | drawn for the next pick | `balancer/drawn.rs` | first 32, second 32; one a shard | a plain store by who drew last; two threads of a shard may have the same, once |
//! | randomness | `shared/shard.rs` | a count, and two numbers that are ready, one a shard | fetch_add, then plain stores: a race draws a number twice |
//! | board, a place a member | `shared/board.rs` | sum of starts 40 (16 us), requests in flight 24 | fetch_add and fetch_sub by leases picked while a policy reads it |
//! | cost, turn, beside it | `shared/board.rs` | an f32, its sign an invitation; 32 | plain stores, upkeep's keep the sign; whoever clears the sign has the invitation |
//! | what a shard's picks remember of many | `balancer/adaptive/notes.rs` | eight indices 32, the last draw 64, the time in turns 32, what is usual | plain stores: hints, each looked at like any other; the time begins at the last turn that a member had, so that an update starts nothing over, and of a thread that lags by more than a round of whom it would choose it is the first turn of all |
//! | last reading of the clock | `shared/shard.rs` | nanoseconds, how many uses it has, and how many are left | plain stores: by a race a reading may get the uses of the one before |
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
//! **A drain's deadline** needs somebody who looks at the clock, and the crate starts no timer: it is upkeep's, and makes upkeep
//! due. It is listed beside the registry and not in it, as the fleet may have removed the endpoint, and as an update that
//! is stuck must not keep it waiting. A task that is polled after its deadline does not need to be woken.
//!
//! **A change of data** replaces the member's handle and moves the gate's generation, after publishing. An
//! entry is refused if the gate is *newer* than the handle; an older gate is an update that has
//! published and not yet moved on, and the handle is the new one.
//!
//! **Seats and cells**: a member has min(processors, 4096 / n) cells, each an allocation of its own with the
//! window that its outcomes are counted in, and as many seats, handles that are counted apart. A lease
//! holds the seat of the shard that picked it, and the seat its cell, so it leaves by that; what a request writes is the first
//! 32 bytes of a cell, which is more than two lines long, so where there are few members no two
//! threads write one line. A policy, too, looks at members through the seats of the picking thread's shard: to read
//! another's waits for what that one has just written there. Two finishers of a closed gate in different cells may each see the other's
//! count, so the sum that decides who wakes is taken inside the waiters' mutex.
//!
//! **What an endpoint refuses** ([`Outcome::Overloaded`](crate::Outcome::Overloaded)) is no fault, and leaves nothing in flight: it made it the cheapest as soon as others had something
//! to do. So refusals of the last second or two are counted in a word beside the rule, in room that was there, and held against what it answers; a tenth more than
//! the fleet's median does not count, as where all queues are short each is full at times. Who has said until when keeps its factor until then.
//!
//! **What all had** is held against nobody when it is over: the buckets of the window up to the last in which most of what a shard sent failed, here and there, are left out of what errors
//! cost. Whoever had few requests since would be held to them beside others that had many, get none, and be held to them for longer.
//!
//! **A place that is wanted**: where somebody is to be ejected and the cap is reached, one of those that are out may be well by now, with half a minute of its time left. Upkeep has
//! them tried, at twice the time each time.
//!
//! **The board** shows what policies compare of all members side by side: a look at 100 members through their
//! cells is a look at 200 lines. A picker that asks for it makes
//! leases write to it; others do not pay. A lease that was picked before is not on it, so after a change of
//! policy it may show less than there is, until those have ended. The count of requests shares a word with the sum of their
//! starts: two words would be torn, and show an age of the size of `now`. What a request costs (`health/cost.rs`: latency, out of proportion, times errors) is worked out by who knows
//! something new, a measured success, a fault or upkeep, and read by each pick: a pick has time for a product, not for an exponential.
//! Picks read it in rows of 32, into arrays on the stack, and compare in plain loops without branches: one member after the other each
//! comparison is a branch that nobody foretells, and a processor compares four at a time. So a row is filled up to a multiple of four, with nobodies that cost more than
//! anybody. Whose requests are overdue counts for three times its cost, up to a minute (then they are streams, or forgotten), and not for their age: with that, one that worked on a long request, or held a
//! stream open, cost hundreds of times as much, and all went to the others. Whether a member may be picked is three loads from anywhere, so where not all
//! may, rows are compared as ever, and only whoever would be the best is asked about, and taken out if it may not. The readings of a row are not of one moment; neither
//! were those of one member after the other.
//!
//! **One endpoint against the fleet.** A fault is weighed by how often others fail, and that is known late or not at all where it is needed
//! most. The mean over the fleet is wrong where a zone dies: it is a third within a moment, and the dead would hide behind each
//! other. So the share is of those that do not stand out (as of the last upkeep, ten times a second); and that is wrong where all begin to fail at once,
//! for a second or more. What tells the two apart is *how many* are under suspicion: beyond two fifths it is the share
//! among the last requests of the shard, whatever endpoint they went to. Once it is beyond, it is for as long as they fail here and there, or mostly: a few
//! successes clear suspects, and with fewer than two fifths of them for a moment the next two failures of one would be its own (half of ten
//! were out in a second). Above a share of 0.8 a fault tells nothing: each would be proof of a little, and with no success between them they add up. And a score
//! ejects by what is usual when the look is over: as a bucket of the window goes, all may be worse at once than they were at the last.
//! Checks are quicker than requests: within ten milliseconds they would take out whoever has failed one request, before enough others have had
//! one to fail. So a failed one waits until others have been looked at, who answer as quickly; how many of those fail is what it is
//! held against, and whoever is as bad is found by it. One miss of each waits, so one that is refused at once is not asked without end; a look ends by what
//! has come, by who has gone, or by its time, and tells those that have waited for it once, however late they ask. Checks that pass take back what is held against
//! an endpoint by all that is known, which ends the doubt; what requests alone say is kept beside it, or a page that is well would keep in whoever fails them. (To hold suspects' checks against each other does not tell: where five die together all of those
//! fail. To look at others only where more than one is in doubt is too late for a client that sends a request now and then.)
//!
//! **Short of capacity.** A back-off that doubles spares requests, as each probe of a dead endpoint fails one; what it costs, the capacity of an
//! endpoint that has healed, does not count where one of twenty is out, nor where the others have little to do. Where eight of twenty fail together
//! for half a second, again and again, at 0.7 of what all can carry, it does: soon they are out for a minute, and a queue of seconds at the other twelve
//! fails ten times what the faults would. What tells the two apart is how long the others take: each against what it took while no more were
//! out than can be spared, so upkeep keeps that of each, and the median of those tells. (The median of all latencies against what that was before
//! says that the slow of a mixed fleet are busy as soon as the quick are out.) It is late by half a second, as estimates are; so the first ejections last as long as ever, and are
//! cut short when it is seen. (To take it for short as soon as more than a tenth are out is sooner, and costs where the others could
//! have carried all: five of 20 that flap by 2 s had 0.21 % of errors with checks for 0.035.) Who comes back then begins anew, or it would be out for
//! longer each time; the last few do not, as they can be spared. Slow start asks the others to take what the new do not, which they cannot
//! then; so it begins at what is missing. How many are in slow start is as upkeep counts.
//!
//! **How long at most.** What a back-off spares is requests, so how long it should become is a question of how many there are: at five a second a
//! probe each 16 s is one request in eighty, at five hundred one in eight thousand. So it grows to a time or to a number of requests, whichever is
//! less: who sends many finds out soon that a server is back.
//!
//! **Invitations.** A policy that picks the least cost never learns that an endpoint it avoids has healed. Upkeep looks for the one that has been idle
//! for the longest, a second at least, and marks it on the board; one pick takes it. They are saved up from one request in fifty, and an endpoint
//! that was no better waits twice as long, up to 16 s. Two of three go to those of whom nothing is known, in the order of the set those that were invited
//! least: a new one among many that are known costs what is usual, and where little is to do there is always one that costs less. So what it costs is bounded, and nobody waits for chance. An invitation stands until somebody
//! comes, and who has one gets no other: the spares of a priority that has no load are idle for ever, and would have them all.
//!
//! **A success** costs one write: the fetch_add that leaves also counts it in the cell's topmost field. Those
//! belong to the window's open bucket. The first success of another bucket claims the window, moves what there
//! is into the old one and opens the new one; a sample that is late, or that meets a claim, goes to the window
//! directly. They are added before they are taken, so a reader, which reads the cell first, sees some twice
//! for a moment and never too few: too few successes could eject.
//!
//! **The clock**: a reading costs as much as ten atomic writes. Where one pick in 16 was measured, each paid some 6 ns of 36 for it; where it is
//! one in 64, one or two. While
//! a shard's picks and records are less than a
//! microsecond apart, one in 32 reads it, which is one pick in 16; the others use its reading. Where they are thicker still, as many use
//! it as come in 32 us, up to 128. A pick that reads is measured, and its
//! latency looked at. A record never brings the others a reading: in turns with picks it would do so every time, and no pick would be
//! measured. Faults, drops, upkeep, and all picks while anybody is refused or in slow start always read. A drop of a
//! lease that was not measured says nothing. Where picks and records come slower than that, each pick is measured. Each use counts, so a
//! burst that ends leaves up to 31 uses of an old reading to a shard, 127 if it was long and thick: their successes are counted when the
//! burst was. Whoever of the shard reads the clock for a fault or a latency finds that the reading is old, and ends that: what is
//! recorded after it is counted when it ends. Upkeep does so for all shards. Changes of the set and returns end all readings, of whatever age: a pick by one
//! from before would see no slow start. Only [`MonotonicClock`](crate::MonotonicClock) is reused so, unless a clock of the user's says so too.
//!
//! **Panic** is read off the ledger's word and the pick's own snapshot; only between the threshold at which it begins and
//! the one at which it is over does the word's topmost bit decide, so a bit that is late by some instructions makes
//! no difference elsewhere. Whoever has changed what is counted settles the bit in the same word after, and
//! looks at the number of members again after that, as the writer stores it before settling too: the later of
//! two knows what the earlier did. Who turns it tells so, so each turn is told once.
//!
//! **Tiers.** Which priority a pick goes to depends on how many are eligible in each, and eligibility changes without a rebuild. To keep a
//! count for each priority at each change, a member would have to know its tier, which updates move; so there is one word that each change
//! raises, and the pick that finds it raised counts anew: 256 members at most, and the next one goes on. It claims the count by a
//! `try_lock` and never waits; others go by the loads in force, which are words each complete in itself, so a pick that meets a
//! division half written goes by shares between the two. Those loads are only shares: whether a member may be picked is looked at as ever, so an
//! ejection is seen at once and a late count can only make a pick go elsewhere. The version is read before the first
//! member is looked at, so a change that comes meanwhile makes the count stale, and none is lost.
//!
//! A leaf is a slice: the policy keeps handles of its own, sorted by priority and zone, and their places in the fleet's slice, which stays in
//! the user's order; a fleet without tiers has none of it. The context is narrowed to that slice with what the pick has drawn for slow start, and
//! that is mixed with a member's place in the *fleet*: what a leaf lets through, the fleet's own look lets through. A priority of
//! several zones has a picker of all beside those of its zones, for where zones do not count and for panic. Positions of leaves, and the
//! memory of their panic, belong to the fleet's cursor, so updates and changes of policy keep them.
//!
//! **Degraded** is a flag beside the standing, not a phase of it: a degraded endpoint is judged, ejected and brought back like any other, and a leaf
//! looks at the flag when a pick is for one kind.
//!
//! **Events** are told where they happen: by a request that ends, a pick that does upkeep, an update. So they go into
//! a ring of words that takes no lock; one that finds it full is dropped and counted, as to make room is to wait
//! for who is writing the oldest. No callback: a request's end is no place for code of the user's. An
//! endpoint's data is out of reach there, so an event carries the member's id, and who takes it looks the key up.
//! A drain's end is told by who leaves last, for which the gate remembers, under the waiters' mutex, that it is
//! wanted; that mutex is taken for the last ones of a closed gate only.
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
//! **Limits.** A sum over cells cannot be compared with a limit at one instant, so an endpoint that has a limit has one cell, and
//! an entry is a compare-and-swap on its word: that counts, refuses and is refused by a removal in one. The same for a
//! fleet's slot, which is taken before the pick and travels in a guard until the lease has it: to count after would be one too
//! many for a moment, and to give back by the pick's result would lose it where a policy panics. Every lease of a limited fleet
//! holds one. A probe's slot goes with the standing and not with the lease: who ends the standing's
//! probe gives it back, and a forgotten one leaves it to the next. A pick looks for room before it enters, and chooses again
//! where the last place went meanwhile; each such round is somebody else's success. That none is left is said after a look
//! at all, in one pass that also tells [`Saturated`](crate::PickError::Saturated), which passes, from
//! [`AllAvoided`](crate::PickError::AllAvoided), which does not. A policy that chooses nobody while somebody has room is asked
//! once more as if there were no limits: whom it wants then was full. There is no queue: what waits here is seen by nobody, and
//! whoever waits longer than its caller is work for nothing. All limits are off by default: the right number is the endpoint's,
//! and a wrong one fails requests. Without a limit a request asks two flags and writes nothing more; with one per endpoint
//! threads share its line, `Adaptive` takes a quarter (of ten) or a seventh (of a hundred) longer, as each endpoint's own word is read, and a fleet's limit adds
//! two writes (`cargo bench --bench cycle -- --summary`, its last rows).
//!
//! **An adaptive limit** measures no least latency by pinning the limit low, which fails requests to learn. It takes what is
//! seen while at most half of the limit is in flight, and lets that rise slowly while more is. The look is claimed, so one
//! interval shrinks a limit once; its words are the cell's and one allocation where it is used.
//!
//! **Active checks** are a driver's that the caller polls. Its book (who is due, who is being checked, what
//! the results say so far) is under a mutex of its own that no request takes; it holds members by id and place in
//! the snapshot of one edition, so it keeps no endpoint, and a tick that finds another edition makes the book
//! anew. A result acts on the member's standing as a request's does: an ejection by the epoch of when the check was
//! sent and by the ledger, a return as the half-open probe's, but that the passes' time counts for its slow start and its
//! latency is taken for new, as no request has shown it. So there is one cap, and what the one finds out
//! the other cannot undo by chance. While the driver is there, it alone takes half-open probes. That it is there is a
//! word that runs out three seconds after its last tick, and only a hint: a pick and the driver may both take
//! somebody to be due, and the exchange on the standing gives the probe to one. A check that did not bring its endpoint
//! back renews the ejection by the unhealthy interval and not by twice the last length: the length is to
//! spare requests. What checks of an ejected endpoint add up to is the member's own count of probes that are wanted, so
//! that a driver which dies leaves it to requests; the book only says when the next is due. A suspect is checked without a
//! pause, but for where that would have no end: where its test does not eject, or the cap is reached, or most are
//! suspect. A check without a word counts as a timeout after twice its time, not after its time: the
//! caller's timer runs from a moment later, and its word would come too late each time.
//!
//! **The retry budget** is a window and not a bucket of tokens, which a quiet hour would fill and the next outage spend at
//! once. Looking at ten buckets and then counting would let two threads take the last retry, so one word holds their
//! sum. It is added to first and taken from last, so it is never less than the buckets hold and cannot run below zero.
//! What was granted is sent before the next await, so there is nothing to give back. That a retry would be refused is
//! seen before the wait for it; who has waited is asked again, as others may have been first.
//!
//! **Failover** knows clusters by six questions: a pick, how much is eligible, a probe, whether a member is theirs, and for a caller whether they
//! have a healthy choice and any other left. How much is
//! eligible is added up, not multiplied by the factor: then nested ones share as so many of Envoy's priorities do. The split
//! is a golden-ratio sequence for each thread, as runs by chance would be bursts for the spare cluster and a plain counter
//! would fall in with the rhythm of a caller's; one word shared by all threads would be the only line that they all write. What
//! it tells its fleets travels in the pick's options: that a probe was asked for, so that nested ones do not count a
//! request twice, and that panic is off as there is somewhere else to go. A pick of the preferred cluster is not the way to probe it:
//! all out, it gets none. So each request asks both for a due probe, which is one load while nobody is refused.
//!
//! **Going away** is an ejection at once, by a detector of its own, and not a state beside: so the cap, the panic rule, the
//! probes that notice a restart, and the epochs that make the word of the other requests in flight old news are those
//! there are. Out without a cap, as a mark down is, a rolling restart that runs ahead of discovery could empty a fleet. Who
//! meets the cap costs more for a second instead. It is forgotten by a removal: what is inserted again is another process.
//!
//! **Hedges** race in a box of their own, one a call whose plan has hedges and one more for each that is sent. A call without them sends from its own
//! future, which stays small (448 bytes for a request of one; through the race it was 648, and a call took 70 ns more). A loser is dropped like any future whose caller is gone, and patience judges it: one that
//! always counted for nothing would let an endpoint hang unseen while hedges answer for it, and one that always counted as
//! a fault would charge every endpoint with its slowest twentieth. The percentile is of first attempts,
//! those that lose counted with the time they had: of answers alone, each tail that is cut off would make the next delay shorter
//! and more hedges (`tests/hedging.rs` has a tail like that). A histogram and not a
//! moving estimate, as an error that is known, an eighth, and no constant to tune. An `Err` that must not be
//! retried ends the race; gRPC says so too. A hedge that is refused is not asked for again in that race.
//!
//! **Throttling** asks the cluster first. Its own signs are not enough: a fleet whose every endpoint fails alike ejects
//! nobody by the default detector, and the cap leaves half of it in by any; so
//! [`has_healthy`](crate::Cluster::has_healthy) looks at the share of failures among those that do not stand out as well. It is
//! asked only where the formula gives more than zero. At most 80 in a hundred are refused, as ejected
//! endpoints come back by requests.
//!
//! **No wait for nothing**: before a back-off the caller asks whether any endpoint is left
//! ([`leaves_none`](crate::Cluster::leaves_none)), time, slot and budget. A pick would answer too, but it
//! moves cursors and takes a place. Whoever is overloaded is not waited for: its time is mostly longer than the caller's.
//!
//! **Old news**: the standing's epoch moves with each change. A lease remembers it from before it entered, and
//! a result from another epoch is [`Late`](crate::SampleKind::Late): it updates counts and decides nothing. It reads the
//! copy in its cell, which it reads anyhow. Until a change is shown there, a success from before it may be counted; what decides
//! something asks the standing itself, and so does a pick unless all is calm, which it is again after a return has been shown.
//! A tracker is told of a readmission before the member is back, so nothing from before can eject it again.
//!
//! **Users' code** runs unlocked where it can: iterators, keys and weights are read before the lock, values
//! are dropped after it. Under the update mutex run only `Eq` of keys, the policy's `picker`, the maker of
//! trackers, and the trackers' `health` and `readmitted`; the last four with panics caught. A key is hashed
//! once, outside; no map growth calls back into it. `Eq` is asked before anything has changed, so its
//! panic leaves the old set in force.
//!
//! **Retired snapshots** are freed by writers and upkeep, when nobody holds them: a reader that dropped the
//! last reference to ten thousand members would stall for tens of microseconds. Where each member has one seat, the array of
//! the last one freed is kept and brought in step with the set in force: whenever the update mutex is free it is
//! the same seats, so it keeps nobody that the set does not. The next change makes its array of it, by what stands between
//! the first and the last that differ: a new one would count each member's handle once more, and freeing the old
//! one once less, which at 100 000 members are as many misses of the cache each.
//!
//! # Memory
//!
//! An endpoint takes 575 to 629 bytes, and some 250 more where there are two cells, the user's data apart and after changes
//! of the set (`cargo test --release --test memory -- --nocapture`; the test holds it to 384 + 256 a cell). A cell is 136:
//! a handle's two counts, the word, its limit, the open bucket, ten buckets of the window and what an adaptive limit follows.
//! A seat is 64: a handle's two counts, what
//! a pick and a lease read (cell, what is shared, generation, weight, endpoint, state), and 8 that keep another thread's counts
//! off its line. The rest is there once: the state (standing, latency, suspicion, score, counts by class, who waits for a drain, what is shared)
//! some 225, the endpoint's own count 16, its slot in the registry 32, its key twice with a hash 60, its place on
//! the board 22, where it stands in two arrays 16, and the picker's tables, at most 64 where weights fit a table.
//! A round robin has 128 more for each shard of threads, once.
//!
//! # Where this departs from where it started
//!
//! - A picker says that it compares loads by asking its view for the board, not by a method `signals` of the
//!   policy: who asks gets what it asked for, and no policy of a user's has to know of it.
//! - A seat a shard counts handles apart, where one handle a member was drawn.
//! - Closing a gate is terminal, and the generation counts editions of an endpoint's data only. That takes
//!   the draining bit and the clearing of flags out of the protocol.
//! - The golden-ratio schedule is within 7 picks of exact in a million, not 3: a Kronecker sequence's
//!   discrepancy grows with the logarithm of its length (`cargo test golden_line -- --nocapture`). So does that of any sequence of points
//!   on a line (Schmidt, 1972); a schedule that stays within one visit remembers each member's (earliest deadline first), under a lock.
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
//! - Active checks depart from Envoy's: endpoints start in, as the cap would not hold else; a pass does not end
//!   an ejection that requests caused before its time; an ejection by a check lasts and doubles like one by
//!   requests, which holds back an endpoint that flaps; removed endpoints are gone, whatever their checks say; no
//!   flags for degraded or excluded; 60 s between checks without traffic only on demand; jitter of one kind.
//! - An adaptive limit departs from Envoy's: no time at the least limit in which to measure; timeouts and answers of too much
//!   to do shrink it by their share; it does not rise while fewer than half of it are in flight.
//! - Panic is left ten percentage points above where it is entered; the start, and Envoy, have one threshold.
//! - Not here yet, as nothing would use it: signals of policies and the cells laid out by them, exploring
//!   choices, a narrowed context for policies of users.
//! - Members are not sorted by priority and zone in the snapshot: only `Tiers` needs it, and has its own slice.
//! - Tiers depart from Envoy's: zones count in each priority; a priority's panic has the fleet's gap; an empty zone counts as a zone; where nobody
//!   has room by rounding alone, the rest goes to the other zones alike, and not to one of all; who is excluded is not known (who
//!   drains or has no weight is not in the set), nor whether the callers' zones are well. A choice is made by the fleet's generator.
