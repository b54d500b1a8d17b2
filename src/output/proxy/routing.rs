//! Where the calls to one service may go, at one moment: the engine's offer, with addresses.

use crate::core::action::MoveKind;
use crate::core::id::{EndpointName, Revision, ServiceName};
use crate::core::rules::Strategy;
use crate::core::select::Candidate;
use crate::output::{ActiveConfig, Offers};
use crate::policy::model::Upstream;

/// Where the calls to one service may go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Routing {
    /// How one of the candidates is chosen.
    pub(super) strategy: Strategy,
    /// The endpoint published; `None` when the service is to fail.
    pub(super) active: Option<EndpointName>,
    /// The endpoint that was left because it was unusable, if the latest move was of that kind, and
    /// the revision of that move.
    pub(super) lost: Option<(EndpointName, Revision)>,
    /// The endpoints that have an address.
    pub(super) peers: Vec<Peer>,
}

/// One endpoint that has an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Peer {
    pub(super) name: EndpointName,
    pub(super) upstream: Upstream,
    pub(super) part: Part,
}

/// What the engine lets an endpoint do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// Take calls.
    Candidate(Candidate),
    /// Take the calls that no candidate took; lower ranks first.
    Fallback(usize),
    /// Neither.
    Nothing,
}

impl Routing {
    /// What is offered for a service; `None` before anything is.
    pub(super) fn new(
        service: &ServiceName,
        offers: &Offers,
        config: Option<&ActiveConfig>,
    ) -> Option<Self> {
        let known = offers.services.get(service)?;
        let offer = &known.offer;
        let part = |name: &EndpointName| {
            let candidate = offer.candidates.iter().find(|(one, _)| one == name);
            let rank = || offer.fallbacks.iter().position(|one| one == name);
            match candidate {
                Some((_, candidate)) => Part::Candidate(*candidate),
                None => rank().map_or(Part::Nothing, Part::Fallback),
            }
        };
        let peers = known.endpoints.iter().filter_map(|(name, endpoint)| {
            let upstream = endpoint.upstream.clone()?;
            Some(Peer { name: name.clone(), upstream, part: part(name) })
        });
        let moved = config.and_then(|config| config.services.get(service)?.moved.as_ref());
        let lost = moved.filter(|moved| moved.kind == MoveKind::Failover);
        Some(Self {
            strategy: offer.strategy,
            active: offer.active.clone(),
            lost: lost.and_then(|moved| Some((moved.from.clone()?, moved.revision))),
            peers: peers.collect(),
        })
    }
}
