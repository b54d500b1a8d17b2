//! Names to addresses, through the system's resolver.
//!
//! The system's resolver blocks and may hang for minutes. Each name has at most one call in
//! flight, which everybody who asks for it shares, and all names together have at most
//! [`CALLS_MAX`]: a resolver that hangs costs a bounded number of threads, and one name that
//! hangs does not use up the calls of the others.
//!
//! Every attempt asks anew, and the last good answer of each name is held for [`HOLD`]: while the
//! resolver fails, is silent or denies a name it knew just now, endpoints are still probed where
//! they were. So an outage of the resolver neither blinds us nor looks like one of the endpoints.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::core::outcome::Outcome;
use crate::probe::finding::{Finding, Step};

/// Resolver calls in flight, and so threads that a hung resolver can hold.
const CALLS_MAX: usize = 32;

/// How long the last good answer of a name is held.
const HOLD: Duration = Duration::from_secs(30);
/// Names whose answers are held; more than a policy plausibly has.
const HELD_MAX: usize = 16 * 1024;

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;
type Answer = Step<Arc<[IpAddr]>>;
type Call = watch::Receiver<Option<Answer>>;
type Calls = Arc<Mutex<BTreeMap<String, Call>>>;
type Held = Arc<Mutex<BTreeMap<String, (Arc<[IpAddr]>, Instant)>>>;

/// The addresses of a name.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// At least one.
    pub(super) addresses: Arc<[IpAddr]>,
    /// Why they are of an earlier answer, if they are.
    pub(super) doubt: Option<Finding>,
}

/// Resolves names, with a bound on the calls in flight.
#[derive(Clone)]
pub(super) struct Resolver {
    lookup: Arc<Lookup>,
    slots: Arc<Semaphore>,
    calls: Calls,
    hold: Duration,
    held: Held,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("free", &self.slots.available_permits())
            .finish_non_exhaustive()
    }
}

impl Resolver {
    /// The one that the rest of the system uses: hosts file, name service switch, DNS.
    pub(super) fn system() -> Self {
        Self::new(Arc::new(system_lookup), HOLD)
    }

    pub(super) fn new(lookup: Arc<Lookup>, hold: Duration) -> Self {
        let slots = Arc::new(Semaphore::new(CALLS_MAX));
        Self { lookup, slots, calls: Calls::default(), hold, held: Held::default() }
    }

    /// The addresses of `host`, or those it had just now; the resolver has `patience` to answer
    /// when there are such, and else as long as the system gives it.
    pub(super) async fn find(&self, host: &str, patience: Duration) -> Step<Found> {
        let Some(held) = self.held(host) else {
            return Ok(Found { addresses: self.resolve(host).await?, doubt: None });
        };
        let asked = timeout(patience, self.resolve(host)).await;
        match asked.unwrap_or_else(|_silent| Err(Finding::local("no answer from the resolver"))) {
            Ok(addresses) => Ok(Found { addresses, doubt: None }),
            Err(doubt) => Ok(Found { addresses: held, doubt: Some(doubt) }),
        }
    }

    fn held(&self, host: &str) -> Option<Arc<[IpAddr]>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (addresses, since) = held.get(host)?;
        (since.elapsed() < self.hold).then(|| Arc::clone(addresses))
    }

    fn keep(&self, host: &str, addresses: &Arc<[IpAddr]>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= HELD_MAX {
            held.retain(|_, (_, since)| since.elapsed() < self.hold);
        }
        if held.len() < HELD_MAX || held.contains_key(host) {
            held.insert(host.to_owned(), (Arc::clone(addresses), Instant::now()));
        }
    }

    /// The addresses of `host`, IPv4 first; waits as long as the system does.
    async fn resolve(&self, host: &str) -> Answer {
        let mut call = self.join_or_start(host);
        let answer = call.wait_for(Option::is_some).await;
        answer.ok().and_then(|answer| answer.clone()).unwrap_or_else(|| Err(failed()))
    }

    fn join_or_start(&self, host: &str) -> Call {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        match calls.get(host) {
            Some(call) if call.has_changed().is_ok() => call.clone(),
            Some(_) | None => {
                let (answer, call) = watch::channel(None);
                calls.insert(host.to_owned(), call.clone());
                // A task of its own: who asked first may reach its deadline first.
                drop(tokio::spawn(self.clone().call(host.to_owned(), answer)));
                call
            }
        }
    }

    async fn call(self, host: String, answer: watch::Sender<Option<Answer>>) {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        let (lookup, name) = (Arc::clone(&self.lookup), host.clone());
        let found = tokio::task::spawn_blocking(move || {
            let found = lookup(&name);
            // Until here the call holds its slot, also when nobody waits for it any more.
            drop(slot);
            found
        });
        let found = found.await.map_or_else(|_panicked| Err(failed()), sort);
        if let Ok(addresses) = &found {
            self.keep(&host, addresses);
        }
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&host);
        answer.send_replace(Some(found));
    }
}

fn system_lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

fn sort(found: io::Result<Vec<IpAddr>>) -> Answer {
    let mut addresses = found.map_err(|error| explain(&error))?;
    if addresses.is_empty() {
        return Err(Finding::new(Outcome::Dns, "name has no address"));
    }
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(addresses.into())
}

/// Tells a name that does not exist from a resolver that cannot say.
///
/// The standard library keeps no code, only the C library's text, which is in English as long as
/// nobody calls `setlocale`. Text of an unknown library counts as the name's fault: a dead name
/// that looks like our own fault would never be failed away from.
fn explain(error: &io::Error) -> Finding {
    const OURS: [&str; 4] = ["Temporary failure", "Try again", "System error", "Memory allocation"];
    const NO_ADDRESS: [&str; 2] = ["No address associated", "no usable address"];
    let text = error.to_string();
    let says = |part: &&str| text.contains(*part);
    if error.raw_os_error().is_some() || OURS.iter().any(says) {
        failed()
    } else if NO_ADDRESS.iter().any(says) {
        Finding::new(Outcome::Dns, "name has no address")
    } else {
        Finding::new(Outcome::Dns, "name does not resolve")
    }
}

fn failed() -> Finding {
    Finding::local("resolver failed")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn says(text: &str) -> Outcome {
        explain(&io::Error::other(format!("failed to lookup address information: {text}"))).outcome
    }

    #[test]
    fn a_resolver_that_cannot_say_is_our_own_fault() {
        assert_eq!(says("Temporary failure in name resolution"), Outcome::Local);
        assert_eq!(says("Try again"), Outcome::Local);
        assert_eq!(explain(&io::Error::from_raw_os_error(24)).outcome, Outcome::Local);
    }

    #[test]
    fn a_name_that_does_not_exist_is_the_endpoints() {
        assert_eq!(says("Name or service not known"), Outcome::Dns);
        assert_eq!(says("Name does not resolve"), Outcome::Dns);
        assert_eq!(says("No address associated with hostname"), Outcome::Dns);
        assert_eq!(says("something else entirely"), Outcome::Dns);
    }

    #[tokio::test]
    async fn ipv4_comes_first() {
        let resolver = Resolver::new(Arc::new(|_| Ok(vec![V6, V4])), HOLD);
        assert_eq!(*resolver.resolve("example.com").await.unwrap(), [V4, V6]);
    }

    #[tokio::test]
    async fn a_hung_resolver_holds_a_bounded_number_of_threads() {
        let calls = Arc::new(AtomicUsize::new(0));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let counter = Arc::clone(&calls);
        let resolver = Resolver::new(
            Arc::new(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
                // Ends for all of them when the test drops its side.
                held.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
                Ok(vec![V4])
            }),
            HOLD,
        );
        let patience = Duration::from_millis(1);
        for round in 0..200 {
            let name = format!("host-{}.example.com", round % 100);
            let asked = timeout(patience, resolver.resolve(&name)).await;
            assert!(asked.is_err(), "the resolver hangs");
        }
        assert_eq!(resolver.slots.available_permits(), 0);
        assert!(calls.load(Ordering::SeqCst) <= CALLS_MAX);
        drop(release);
        assert_eq!(*resolver.resolve("host-0.example.com").await.unwrap(), [V4]);
        for name in 0..100 {
            resolver.resolve(&format!("host-{name}.example.com")).await.unwrap();
        }
        assert!(resolver.calls.lock().unwrap().is_empty(), "nothing is kept");
    }

    #[tokio::test]
    async fn those_who_ask_for_one_name_share_a_call() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let resolver = Resolver::new(
            Arc::new(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
                held.lock().unwrap().recv().ok();
                Ok(vec![V4])
            }),
            HOLD,
        );
        let ask = |resolver: Resolver| async move { resolver.resolve("example.com").await };
        let first = tokio::spawn(ask(resolver.clone()));
        let second = tokio::spawn(ask(resolver.clone()));
        while resolver.calls.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let third = tokio::spawn(ask(resolver.clone()));
        tokio::task::yield_now().await;
        drop(release);
        for asked in [first, second, third] {
            assert_eq!(*asked.await.unwrap().unwrap(), [V4]);
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_lookup_that_panics_is_our_own_fault() {
        let resolver = Resolver::new(Arc::new(|_| panic!("a bug")), HOLD);
        let asked = resolver.resolve("example.com").await;
        assert_eq!(asked.unwrap_err().outcome, Outcome::Local);
    }

    type Said = Arc<Mutex<io::Result<Vec<IpAddr>>>>;

    /// A resolver that answers as told.
    fn told(hold: Duration) -> (Resolver, Said) {
        let answer: Said = Arc::new(Mutex::new(Ok(vec![V4])));
        let said = Arc::clone(&answer);
        let lookup = move |_: &str| match &*said.lock().unwrap() {
            Ok(addresses) => Ok(addresses.clone()),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        (Resolver::new(Arc::new(lookup), hold), answer)
    }

    async fn found(resolver: &Resolver) -> Step<(Vec<IpAddr>, Option<Outcome>)> {
        let found = resolver.find("example.com", HOLD).await?;
        Ok((found.addresses.to_vec(), found.doubt.map(|doubt| doubt.outcome)))
    }

    #[tokio::test]
    async fn a_good_answer_is_held_while_the_resolver_fails_or_denies_the_name() {
        let (resolver, answer) = told(HOLD);
        assert_eq!(found(&resolver).await, Ok((vec![V4], None)));
        *answer.lock().unwrap() = Err(io::Error::other("Temporary failure in name resolution"));
        assert_eq!(found(&resolver).await, Ok((vec![V4], Some(Outcome::Local))));
        *answer.lock().unwrap() = Err(io::Error::other("Name or service not known"));
        assert_eq!(found(&resolver).await, Ok((vec![V4], Some(Outcome::Dns))));
        *answer.lock().unwrap() = Ok(Vec::new());
        assert_eq!(found(&resolver).await, Ok((vec![V4], Some(Outcome::Dns))));
        *answer.lock().unwrap() = Ok(vec![V6]);
        assert_eq!(found(&resolver).await, Ok((vec![V6], None)), "asked anew each time");
    }

    #[tokio::test]
    async fn an_answer_is_not_held_for_ever() {
        let (resolver, answer) = told(Duration::ZERO);
        assert_eq!(found(&resolver).await, Ok((vec![V4], None)));
        *answer.lock().unwrap() = Err(io::Error::other("Temporary failure in name resolution"));
        assert_eq!(found(&resolver).await.unwrap_err().outcome, Outcome::Local);
        *answer.lock().unwrap() = Err(io::Error::other("Name or service not known"));
        assert_eq!(found(&resolver).await.unwrap_err().outcome, Outcome::Dns);
    }

    #[tokio::test]
    async fn a_silent_resolver_is_waited_for_no_longer_than_there_is_patience() {
        let asked = AtomicUsize::new(0);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let lookup = move |_: &str| {
            if asked.fetch_add(1, Ordering::SeqCst) > 0 {
                held.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
            }
            Ok(vec![V4])
        };
        let resolver = Resolver::new(Arc::new(lookup), HOLD);
        assert_eq!(found(&resolver).await, Ok((vec![V4], None)));
        let patience = Duration::from_millis(1);
        let found = resolver.find("example.com", patience).await.unwrap();
        assert_eq!(*found.addresses, [V4]);
        assert_eq!(found.doubt.unwrap().detail, "no answer from the resolver");
        let unknown = timeout(patience, resolver.find("other.example.com", patience)).await;
        assert!(unknown.is_err(), "who was never found is waited for");
        drop(release);
    }

    #[tokio::test]
    async fn what_is_held_is_bounded() {
        let (resolver, _answer) = told(HOLD);
        let addresses: Arc<[IpAddr]> = [V4].into();
        for name in 0..=HELD_MAX {
            resolver.keep(&format!("host-{name}"), &addresses);
        }
        assert_eq!(resolver.held.lock().unwrap().len(), HELD_MAX);
        assert!(resolver.held("host-0").is_some());
        assert!(resolver.held(&format!("host-{HELD_MAX}")).is_none());
    }
}
