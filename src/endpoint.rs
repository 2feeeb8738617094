//! What is balanced over: [`Endpoint`], its [`Weight`], and [`Target`] for those who need no type of
//! their own.

use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;

use crate::sync::Arc;

/// Something a request can be sent to. Bring your own type; it carries your data (a pool, a zone).
///
/// A fleet reads [`key`](Self::key) and [`weight`](Self::weight) once, when the endpoint is handed in; [`Tiers`](crate::Tiers) read
/// [`priority`](Self::priority) and [`locality`](Self::locality) with each change of the set.
/// To change a weight or the data, hand in an endpoint with the same key: its in-flight count, latency,
/// health and ejection stay.
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
    /// Identity across membership updates. Never derive it from the weight: a changed weight would then
    /// be another endpoint, and its health would be lost.
    type Key: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static;

    /// This endpoint's identity.
    fn key(&self) -> Self::Key;

    /// Share of traffic relative to the others. 0 takes no new traffic and stays known: a drain by
    /// weight. Defaults to 1.
    fn weight(&self) -> Weight {
        Weight::ONE
    }

    /// Which tier it belongs to, for a policy that has tiers ([`Tiers`](crate::Tiers)): 0 is used first, and the next
    /// ones as far as those before cannot carry the load. Numbers may be left out. Other policies do not ask.
    /// Defaults to 0, Envoy's `priority`.
    ///
    /// Asked for by the policy while it prepares for a change of the set, under the update mutex: it must not
    /// change the fleet. A panic refuses the change.
    fn priority(&self) -> u32 {
        0
    }

    /// The name of the zone that it stands in, for a policy that knows zones ([`Tiers`](crate::Tiers)). Asked for
    /// as [`priority`](Self::priority) is. Defaults to `""`, which is a zone like any other.
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

/// A share of traffic, in units of the user's choosing; only ratios count.
///
/// Beyond a ratio of 65 536 the lighter one is treated as if it had 1/65 536 of the heaviest, so that
/// nobody with a weight is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    /// No new traffic.
    pub const ZERO: Self = Self(0);
    /// The default.
    pub const ONE: Self = Self(1);

    /// A weight of `units`.
    #[must_use]
    pub const fn new(units: u32) -> Self {
        Self(units)
    }

    /// Its units.
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

/// An endpoint made of a key, some data, a weight, a priority and a zone, when a type of your own is not worth it.
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
    /// A target of weight 1 and priority 0, in the zone `""`.
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

    /// The same with another weight.
    #[must_use]
    pub fn with_weight(mut self, weight: impl Into<Weight>) -> Self {
        self.weight = weight.into();
        self
    }

    /// The same with another [priority](Endpoint::priority).
    #[must_use]
    pub const fn with_priority(mut self, priority: u32) -> Self {
        self.priority = priority;
        self
    }

    /// The same in a [zone](Endpoint::locality). An `Arc<str>` is shared by all that stand there.
    #[must_use]
    pub fn with_locality(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.locality = Some(zone.into());
        self
    }

    /// What it carries.
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
