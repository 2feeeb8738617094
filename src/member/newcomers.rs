//! Members made together.

use super::{Edition, Gate, Member, Phase, Seat, State, Tracker};
use crate::endpoint::{Endpoint, Weight};
use crate::shared::{Place, Shared};
use crate::sync::Arc;

/// A member's first seat, and its other seats. A seat is a handle to the member for the use of some shards of threads.
pub(crate) type Seats<E> = (Member<E>, Box<[Member<E>]>);

/// What a member is made from.
pub(crate) struct Newcomer<E> {
    pub(crate) endpoint: E,
    pub(crate) weight: Weight,
    pub(crate) tracker: Tracker,
    pub(crate) place: Place,
}

impl<E: Endpoint> Member<E> {
    /// Makes members with this many cells each, a power of two, unless limits allow only one.
    pub(crate) fn newcomers(
        shared: &Arc<Shared>,
        cells: usize,
        newcomers: Vec<Newcomer<E>>,
    ) -> Vec<Seats<E>> {
        let (limits, window) = (&shared.limits, shared.ejection.window);
        let state_of = |place, gate, tracker| {
            Arc::new(State::new(
                shared.clone(),
                Some(place),
                gate,
                tracker,
                Phase::In,
            ))
        };
        let newcomers = newcomers.into_iter();
        if cells > 1 && limits.of_endpoint().is_none() {
            let gates = Gate::several(newcomers.len(), cells, window);
            let states = newcomers.zip(gates).map(|(new, gate)| {
                let state = state_of(new.place, gate, new.tracker);
                (state, Arc::new(new.endpoint), new.weight)
            });
            return Self::shard_by_shard(cells, &states.collect::<Vec<_>>());
        }
        // What one request touches lies together.
        let seats = newcomers.map(|new| {
            let gate = match limits.of_endpoint() {
                None => Gate::new(1, window),
                Some(limit) => Gate::limited(limit, limits.rule(), window),
            };
            let state = state_of(new.place, gate, new.tracker);
            Self::seats(new.endpoint, new.weight, 0, &state)
        });
        seats.collect()
    }

    /// The seats of members. What one shard of threads writes, as here the seats and before them the cells, is
    /// allocated for all members before that of the next shard. In most allocators it then lies together, apart from
    /// what other threads write: processors fetch lines in pairs, and a seat or a cell is not a whole number of pairs.
    fn shard_by_shard(cells: usize, states: &[(Arc<State>, Arc<E>, Weight)]) -> Vec<Seats<E>> {
        let mut shards = (0..cells).map(|cell| {
            let seats = states
                .iter()
                .map(|(state, endpoint, weight)| Self::seat(cell, endpoint, *weight, 0, state));
            seats.collect::<Vec<_>>().into_iter()
        });
        let firsts = shards.next().unwrap_or_default();
        let mut others: Vec<_> = shards.collect();
        let seats = firsts.map(|first| {
            let others = others.iter_mut().filter_map(Iterator::next);
            (first, others.collect())
        });
        seats.collect()
    }

    /// One seat for each cell of the member's gate: the first, and the others.
    pub(crate) fn seats(
        endpoint: E,
        weight: Weight,
        generation: u64,
        state: &Arc<State>,
    ) -> Seats<E> {
        let endpoint = Arc::new(endpoint);
        let seat = |cell| Self::seat(cell, &endpoint, weight, generation, state);
        (seat(0), (1..state.gate.cells()).map(seat).collect())
    }

    /// The seat for this cell of the member's gate.
    fn seat(
        cell: usize,
        endpoint: &Arc<E>,
        weight: Weight,
        generation: u64,
        state: &Arc<State>,
    ) -> Self {
        Self(Arc::new(Seat {
            cell: state.gate.cell(cell).clone(),
            shared: state.shared.clone(),
            edition: Edition::new(generation, state.gate.cells() == 1),
            weight,
            endpoint: endpoint.clone(),
            state: state.clone(),
            other_cell: state.gate.other_of_two(cell).cloned(),
        }))
    }
}
