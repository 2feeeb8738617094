//! Real [`Caller`]s between clients and servers, one per client over its fleet. They pick, wait, retry and give up in
//! virtual time. Each call is a future that the engine polls when its attempt has ended or its timer is due.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::balancing::{
    Attempt, Balancing, CallStatus, CallStep, CheckEnded, Ending, Target, Verdict, Violation, World,
};
use super::drivers::Driven;
use super::fleets::{Client, Fleets, Server};
use super::invariants::{check_member, check_pick, is_newly_ejected};
use super::random::{Purpose, Stream};
use crate::caller::{CallPlan, Caller, CallerError, StopReason, Timer};
use crate::cluster::Cluster;
use crate::error::{BuildError, PickError};
use crate::fleet::Fleet;
use crate::member::{Lease, Member};
use crate::options::{MemberId, PickOptions};
use crate::outcome::Outcome;
use crate::sync::{Arc, Mutex};
use crate::time::{Clock, ManualClock, Tick};
use crate::transport::Transport;

/// The messages between the engine and the one call that is being polled.
#[derive(Default)]
struct Mailbox {
    /// To the call: the outcome of its attempt in flight.
    answer: Option<Outcome>,
    /// The member that was picked last.
    picked: Option<Member<Server>>,
    /// From the call: the member to which it has sent an attempt.
    sent: Option<Member<Server>>,
    /// From the call: its attempt in flight is over.
    is_over: bool,
    /// From the call: when its earliest timer is due.
    wake: Option<u64>,
}

type Mail = Arc<Mutex<Mailbox>>;

/// A client's fleet. It notes the picked member in the mailbox.
struct Watched {
    fleet: Fleet<Server>,
    mail: Mail,
}

impl Cluster for Watched {
    type Endpoint = Server;

    fn name(&self) -> &str {
        self.fleet.name()
    }

    fn pick_endpoint_with(&self, options: &PickOptions<'_>) -> Result<Lease<Server>, PickError> {
        let lease = self.fleet.pick_endpoint_with(options)?;
        self.mail.lock().picked = Some(lease.member().clone());
        Ok(lease)
    }

    fn availability(&self) -> f64 {
        self.fleet.availability()
    }

    fn pick_probe(&self) -> Option<Lease<Server>> {
        self.fleet.pick_probe()
    }

    fn is_tried(&self, members: &[MemberId]) -> bool {
        self.fleet.is_tried(members)
    }

    fn has_healthy(&self) -> bool {
        self.fleet.has_healthy()
    }

    fn leaves_none(&self, avoid: &[MemberId]) -> bool {
        self.fleet.leaves_none(avoid)
    }
}

/// The simulated network as a [`Transport`].
struct Wire(Mail);

/// A guard that reports the end of an attempt when it is dropped, so also when the caller gives up the attempt.
struct UnderWay<'a>(&'a Mail);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
    }
}

impl Transport<Server, ()> for Wire {
    type Response = ();
    type Error = Outcome;

    async fn send(&self, _: &Server, (): ()) -> Result<(), Outcome> {
        {
            let mut mail = self.0.lock();
            mail.sent = mail.picked.take();
        }
        let under_way = UnderWay(&self.0);
        let outcome = poll_fn(|_| match self.0.lock().answer.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        })
        .await;
        drop(under_way);
        match outcome {
            Outcome::Success => Ok(()),
            other => Err(other),
        }
    }

    fn classify(&self, result: &Result<(), Outcome>) -> Outcome {
        result.err().unwrap_or(Outcome::Success)
    }
}

/// Virtual time as a [`Timer`].
struct Time {
    clock: ManualClock,
    mail: Mail,
}

impl Timer for Time {
    fn now(&self) -> Tick {
        self.clock.now()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        let until = self.clock.now().after(duration);
        poll_fn(move |_| {
            if self.clock.now() >= until {
                return Poll::Ready(());
            }
            let mut mail = self.mail.lock();
            let until = until.as_nanos();
            mail.wake = Some(mail.wake.map_or(until, |wake| wake.min(until)));
            Poll::Pending
        })
    }
}

type Ended = Result<(), CallerError<Outcome>>;

/// A call in progress.
struct Call {
    future: Pin<Box<dyn Future<Output = Ended> + Send>>,
    client: usize,
    /// The member that has its attempt in flight.
    at: Option<Member<Server>>,
    /// The machines to which its attempts were sent.
    tried: Vec<u32>,
}

impl Call {
    /// Polls it, with the outcome of its attempt if that has ended. Also returns what it has put into the mailbox.
    fn poll(&mut self, mail: &Mail, answer: Option<Outcome>) -> (Poll<Ended>, Mailbox) {
        *mail.lock() = Mailbox {
            answer,
            ..Mailbox::default()
        };
        let mut cx = Context::from_waker(Waker::noop());
        let polled = self.future.as_mut().poll(&mut cx);
        (polled, std::mem::take(&mut *mail.lock()))
    }

    /// Takes in that its attempt is over, and returns the machine that had it. `was_out` tells whether the member was
    /// ejected already.
    fn end_attempt(
        &mut self,
        client: &mut Client,
        was_out: bool,
        now: Tick,
    ) -> Result<(usize, Verdict), Violation> {
        let member = self.at.take();
        let member = member.ok_or("an attempt that was not sent is over")?;
        let machine = member.endpoint().machine as usize;
        client.held[machine] -= 1;
        let ejected = is_newly_ejected(&member, was_out, now)?;
        Ok((machine, Verdict { ejected }))
    }

    /// Takes in that an attempt was sent to this member, and returns its machine.
    fn send_attempt(
        &mut self,
        client: &mut Client,
        member: Member<Server>,
        world: &World,
    ) -> Result<usize, Violation> {
        let machine = member.endpoint().machine;
        check_pick(machine, &self.tried, world)?;
        self.tried.push(machine);
        client.held[machine as usize] += 1;
        check_member(client, &member, world.now)?;
        self.at = Some(member);
        Ok(machine as usize)
    }
}

/// All clients with a fleet and a [`Caller`] each.
pub(super) struct Callers {
    fleets: Fleets,
    callers: Vec<Caller<Watched, Wire>>,
    mail: Mail,
    /// The calls in progress, by [`Attempt::call`].
    calls: Vec<Option<Call>>,
}

impl Callers {
    /// Creates a caller for each client's fleet.
    pub(super) fn new(fleets: Fleets, plan: &CallPlan, seed: u64) -> Result<Self, BuildError> {
        if let Some(hedge) = &plan.hedge {
            let expected = "unset: a simulated call has one attempt at a time";
            return Err(BuildError::setting("CallPlan::hedge", hedge, expected));
        }
        let mail = Mail::default();
        let caller = |number: usize| {
            let cluster = Watched {
                fleet: fleets.clients[number].fleet.clone(),
                mail: mail.clone(),
            };
            let time = Time {
                clock: fleets.clock.clone(),
                mail: mail.clone(),
            };
            let seed = Stream::new(seed, Purpose::Waits, number as u64).next();
            Caller::new(cluster, Wire(mail.clone()), plan.clone().seed(seed), time)
        };
        Ok(Self {
            callers: (0..fleets.clients.len())
                .map(caller)
                .collect::<Result<_, _>>()?,
            fleets,
            mail,
            calls: Vec::new(),
        })
    }

    /// Polls a call, with the outcome of its attempt if that has ended, and checks the invariants of the members
    /// involved.
    fn resume(
        &mut self,
        number: u32,
        answer: Option<Outcome>,
        world: &World,
    ) -> Result<CallStep, Violation> {
        let now = Tick::from_nanos(world.now);
        self.fleets.clock.set(now);
        let call = self.calls.get_mut(number as usize).and_then(Option::as_mut);
        let call = call.ok_or("a call that there is not goes on")?;
        let client = &mut self.fleets.clients[call.client];
        client.touched = true;
        let is_out = |member: &Member<Server>| member.core().standing.get().is_ejected();
        let was_out = call.at.as_ref().is_some_and(is_out);
        let (polled, mail) = call.poll(&self.mail, answer);
        let mut step = CallStep::default();
        if mail.is_over {
            step.ended = Some(call.end_attempt(client, was_out, now)?);
        }
        if let Some(member) = mail.sent {
            step.status = CallStatus::Sent(call.send_attempt(client, member, world)?);
        }
        let over = step.ended.map(|(machine, _)| machine as u32);
        if let Some(over) = over.and_then(|machine| client.fleet.member(&machine)) {
            check_member(client, &over, world.now)?;
        }
        step.wake = mail.wake;
        if let Poll::Ready(ended) = polled {
            let denied =
                matches!(&ended, Err(error) if error.reason == StopReason::BudgetExhausted);
            let success = ended.is_ok();
            step.status = CallStatus::Ended { success, denied };
            step.wake = None;
            self.calls[number as usize] = None;
        }
        Ok(step)
    }
}

impl Balancing for Callers {
    fn pick(&mut self, _: &Attempt, _: &World) -> Result<Target, Violation> {
        Err("a caller picks by itself".into())
    }

    fn ended(&mut self, _: &Ending, _: &World) -> Result<Verdict, Violation> {
        Err("a caller's attempts end in its calls".into())
    }

    fn calls(&self) -> bool {
        true
    }

    fn begin(&mut self, attempt: &Attempt, world: &World) -> Result<CallStep, Violation> {
        let (number, client) = (attempt.call, attempt.client as usize);
        let caller = self.callers[client].clone();
        let call = Call {
            future: Box::pin(async move { caller.call(()).await }),
            client,
            at: None,
            tried: Vec::new(),
        };
        let at = number as usize;
        if at >= self.calls.len() {
            self.calls.resize_with(at + 1, || None);
        }
        self.calls[at] = Some(call);
        self.resume(number, None, world)
    }

    fn resume(
        &mut self,
        call: u32,
        ended: Option<Outcome>,
        world: &World,
    ) -> Result<CallStep, Violation> {
        self.resume(call, ended, world)
    }

    fn replaced(&mut self, old: usize, new: usize, world: &World) -> Result<(), Violation> {
        self.fleets.replaced(old, new, world)
    }

    fn tick(&mut self, world: &World) -> usize {
        self.fleets.tick(world)
    }

    fn out_for(&self, machines: &[u32], world: &World) -> Vec<u64> {
        self.fleets.out_for(machines, world)
    }

    fn check(&mut self, world: &World) -> Result<(), Violation> {
        self.fleets.check(world)
    }

    fn check_all(&mut self, world: &World) -> Result<(), Violation> {
        self.fleets.check_all(world)
    }

    fn check_timeout(&self) -> Option<u64> {
        self.fleets.check_timeout()
    }

    fn checks_due(&mut self, world: &World) -> Driven {
        self.fleets.checks_due(world)
    }

    fn check_ended(
        &mut self,
        number: u32,
        outcome: Outcome,
        world: &World,
    ) -> Result<CheckEnded, Violation> {
        self.fleets.check_ended(number, outcome, world)
    }
}
