//! What requests are balanced over: [`Endpoint`], its [`Weight`], and [`Target`], a ready-made endpoint type.

use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;

use crate::sync::Arc;

/// Something a request can be sent to. Implement it for a type of your own, which carries your data (a connection pool,
/// a zone).
///
/// A fleet reads [`key`](Self::key) and [`weight`](Self::weight) once, when the endpoint is handed in.
/// [`Tiers`](crate::Tiers) reads [`priority`](Self::priority) and [`locality`](Self::locality) at each change of the
/// set. To change an endpoint's weight or data, hand in an endpoint with the same key: in-flight count, latency, health
/// and ejection are kept.
///
/// # Examples
///
/// ```
/// use evenkeel::{Endpoint, Weight};
/// use std::net::SocketAddr;
///
/// struct Backend {
///     address: SocketAddr,
///     cores: u32,
///     zone: String,
/// }
///
/// impl Endpoint for Backend {
///     type Key = SocketAddr;
///     fn key(&self) -> SocketAddr {
///         self.address
///     }
///     fn weight(&self) -> Weight {
///         Weight::new(self.cores)
///     }
///     fn locality(&self) -> &str {
///         &self.zone
///     }
/// }
///
/// let backend = Backend { address: ([10, 0, 0, 1], 80).into(), cores: 4, zone: "eu-1".into() };
/// assert_eq!(backend.weight(), Weight::new(4));
/// assert_eq!(backend.locality(), "eu-1");
/// ```
pub trait Endpoint: Send + Sync + 'static {
    /// The endpoint's identity across membership updates. Never derive it from the weight: an endpoint with a changed
    /// weight would then be a different endpoint, and its health would be lost.
    type Key: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static;

    /// Returns this endpoint's identity.
    fn key(&self) -> Self::Key;

    /// Returns this endpoint's share of traffic relative to the others. Defaults to 1.
    ///
    /// An endpoint of weight 0 takes no new traffic and stays known, which drains it by weight.
    fn weight(&self) -> Weight {
        Weight::ONE
    }

    /// Returns the priority this endpoint belongs to, for a policy with priorities ([`Tiers`](crate::Tiers)). Defaults
    /// to 0.
    ///
    /// Priority 0 is used first; each further one gets the load that the priorities before it cannot carry, as with
    /// Envoy's `priority`. Numbers may be skipped. Other policies do not read it.
    ///
    /// The policy calls this while it prepares for a change of the set, under the update mutex, so an implementation
    /// must not change the fleet. If it panics, the change is refused.
    fn priority(&self) -> u32 {
        0
    }

    /// Returns the name of the zone this endpoint is in, for a policy with zones ([`Tiers`](crate::Tiers)). Defaults to
    /// `""`, which is a zone like any other. It is called as [`priority`](Self::priority) is.
    fn locality(&self) -> &str {
        ""
    }
}

impl Endpoint for SocketAddr {
    type Key = Self;
    fn key(&self) -> Self {
        *self
    }
}

impl Endpoint for &'static str {
    type Key = Self;
    fn key(&self) -> Self {
        self
    }
}

impl Endpoint for String {
    type Key = Self;
    fn key(&self) -> Self {
        self.clone()
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => { $(
        impl<E: Endpoint + ?Sized> Endpoint for $pointer {
            type Key = E::Key;
            fn key(&self) -> E::Key {
                (**self).key()
            }
            fn weight(&self) -> Weight {
                (**self).weight()
            }
            fn priority(&self) -> u32 {
                (**self).priority()
            }
            fn locality(&self) -> &str {
                (**self).locality()
            }
        }
    )* };
}

forward!(Arc<E>, Box<E>);

/// A share of traffic in units of your choice; only ratios count.
///
/// Ratios are limited to 65 536: a lighter endpoint is treated as if it had 1/65 536 of the heaviest weight, so that
/// every endpoint with a weight above 0 gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// Takes no new traffic.
    pub const ZERO: Self = Self(0);
    /// The default weight.
    pub const ONE: Self = Self(1);

    /// Creates a weight of `units`.
    #[must_use]
    pub const fn new(units: u32) -> Self {
        Self(units)
    }

    /// Returns the number of units.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

impl From<u32> for Weight {
    fn from(units: u32) -> Self {
        Self(units)
    }
}

/// An endpoint made of a key, some data, a weight, a priority and a zone, for when a type of your own is not worth it.
///
/// ```
/// use evenkeel::{Endpoint, Target};
///
/// let target = Target::new("eu-1", "http://10.0.0.1").with_weight(3).with_priority(1).with_locality("eu");
/// assert_eq!((target.key(), target.priority(), target.locality()), ("eu-1", 1, "eu"));
/// assert_eq!(*target.data(), "http://10.0.0.1");
/// ```
#[derive(Clone, Debug)]
pub struct Target<K, T> {
    key: K,
    data: T,
    weight: Weight,
    priority: u32,
    locality: Option<Arc<str>>,
}

impl<K, T> Target<K, T> {
    /// Creates a target of weight 1 and priority 0, in the zone `""`.
    #[must_use]
    pub const fn new(key: K, data: T) -> Self {
        Self {
            key,
            data,
            weight: Weight::ONE,
            priority: 0,
            locality: None,
        }
    }

    /// Sets the weight.
    #[must_use]
    pub fn with_weight(mut self, weight: impl Into<Weight>) -> Self {
        self.weight = weight.into();
        self
    }

    /// Sets the [priority](Endpoint::priority).
    #[must_use]
    pub const fn with_priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the [zone](Endpoint::locality). Targets in one zone can share an `Arc<str>`.
    #[must_use]
    pub fn with_locality(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.locality = Some(zone.into());
        self
    }

    /// Returns the data of this target.
    pub const fn data(&self) -> &T {
        &self.data
    }
}

impl<K, T> Endpoint for Target<K, T>
where
    K: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    type Key = K;
    fn key(&self) -> K {
        self.key.clone()
    }
    fn weight(&self) -> Weight {
        self.weight
    }
    fn priority(&self) -> u32 {
        self.priority
    }
    fn locality(&self) -> &str {
        self.locality.as_deref().unwrap_or_default()
    }
}
