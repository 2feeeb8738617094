//! The tables, and the checks of the promises.

use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::{Member, MemberState};
use tokio::time::sleep;

use crate::client::{Backend, Client, Tally, lock, milliseconds};
use crate::{REQUESTS_A_STEP, STEP, TOLERANCE};

/// Watches the callers: prints the tables, and keeps the totals and the broken promises.
pub(crate) struct Show {
    pub(crate) client: Arc<Client>,
    pub(crate) total: Tally,
    pub(crate) broken: Vec<String>,
}

/// One line of a table; shares in percent.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) wanted: f64,
    pub(crate) had: f64,
    pub(crate) faults: usize,
}

impl Show {
    pub(crate) fn members(&self) -> Vec<Member<Backend>> {
        self.client.fleet.members()
    }

    pub(crate) fn promise(&mut self, kept: bool, broken: impl Into<String>) {
        if !kept {
            let broken = broken.into();
            println!("   BROKEN: {broken}");
            self.broken.push(broken);
        }
    }

    /// Waits until an endpoint is in this state. Checks the promise that this takes at most `most` since `since`.
    pub(crate) async fn wait_for(
        &mut self,
        name: &str,
        state: MemberState,
        since: Instant,
        most: Duration,
    ) {
        let is = |it: &Member<Backend>| it.endpoint().name == name && it.state() == state;
        while !self.members().iter().any(is) && since.elapsed() < most {
            sleep(Duration::from_millis(1)).await;
        }
        let took = since.elapsed();
        let within = format!("{} ms, at most {most:?}", milliseconds(took));
        println!("   {name} is {state} after {within}");
        self.promise(took < most, format!("{name} is not {state}"));
    }

    /// Lets traffic flow for a step, then prints the table and adds its numbers to the total.
    pub(crate) async fn flow(&mut self) -> Vec<Row> {
        let started = Instant::now();
        let picked = |member: &Member<Backend>| lock(&member.endpoint().tally).picked;
        while started.elapsed() < STEP
            || self.members().iter().map(picked).sum::<u64>() < REQUESTS_A_STEP
        {
            sleep(Duration::from_millis(10)).await;
        }
        self.table()
    }

    /// A step from empty tallies. Checks the promise that no request fails.
    pub(crate) async fn calm(&mut self) -> Vec<Row> {
        self.sweep();
        let rows = self.flow().await;
        let faults: usize = rows.iter().map(|row| row.faults).sum();
        self.promise(faults == 0, format!("{faults} faults in a calm step"));
        rows
    }

    /// A step under weighted round robin with all endpoints in. Also checks each endpoint's share.
    pub(crate) async fn even(&mut self) {
        for row in self.calm().await {
            let (had, wanted) = (row.had, row.wanted);
            let off = format!("{} had {had:.2} % and not {wanted:.2} %", row.name);
            self.promise((wanted - had).abs() <= TOLERANCE, off);
        }
    }

    /// Adds the current tallies to the total. Returns how many faults they contain.
    pub(crate) fn sweep(&mut self) -> usize {
        let before = self.total.faults.len();
        for member in self.members() {
            let tally = std::mem::take(&mut *lock(&member.endpoint().tally));
            self.total.add(tally);
        }
        self.total.faults.len() - before
    }

    pub(crate) fn table(&mut self) -> Vec<Row> {
        println!(
            "   endpoint  weight  share wanted      had  in flight   p50 ms   p99 ms  faults  \
             score  state"
        );
        let members = self.members();
        let tally = |of: &Member<Backend>| std::mem::take(&mut *lock(&of.endpoint().tally));
        let tallies: Vec<Tally> = members.iter().map(tally).collect();
        let weight = |of: &Member<Backend>| match of.state() {
            MemberState::Ready | MemberState::Up => f64::from(of.weight().get()),
            _ => 0.0,
        };
        let weights: f64 = members.iter().map(weight).sum();
        let picks: u64 = tallies.iter().map(|tally| tally.picked).sum();
        let mut rows = Vec::new();
        for (member, mut tally) in members.iter().zip(tallies) {
            let name = member.endpoint().name;
            let wanted = 100.0 * weight(member) / weights.max(1.0);
            let had = 100.0 * tally.picked as f64 / picks.max(1) as f64;
            let faults = tally.faults.len();
            let [p50, p99] = tally.quantiles();
            let (weight, in_flight) = (member.weight().get(), member.in_flight());
            let (score, state) = (member.score(), member.state());
            println!(
                "   {name:<8}  {weight:>6}  {wanted:>10.1} %  {had:>5.1} %  {in_flight:>9}  \
                 {p50:>7}  {p99:>7}  {faults:>6}  {score:>5.2}  {state}"
            );
            rows.push(Row {
                name,
                wanted,
                had,
                faults,
            });
            self.total.add(tally);
        }
        rows
    }
}
