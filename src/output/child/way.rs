//! The way through a CONNECT proxy, as variables of the server's process.
//!
//! Invariants
//! 1. What stands in our own environment is the operator's, and is kept.
//! 2. A server is sent through a proxy only if it can be told whom to trust there: without the
//!    authority's certificate every call would fail, and none has to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::output::door::Door;
use crate::policy::model::Child;
use crate::policy::secret::Secret;

/// The variables whose values name files that must be there.
const FILES: [&str; 4] =
    ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// What a server is told of the way.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Way {
    pub(super) variables: BTreeMap<String, Secret>,
    /// What to say about it.
    pub(super) remarks: Vec<Remark>,
}

/// What an operator should know of the way.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Remark {
    /// A variable stands in our environment already.
    Kept(String),
    /// A file is not there.
    Missing(String),
    /// There is more than one way, and a process can be told of one only.
    Another(String),
}

impl Remark {
    fn say(&self) {
        match self {
            Self::Kept(name) => tracing::warn!(
                variable = name,
                help = "unset it where the proxy is to be used, or name the proxy in it yourself",
                "the variable is set already and is kept: the server may not take the way \
                 through the proxy"
            ),
            Self::Missing(file) => tracing::error!(
                file,
                help = "the folder of `ca_file` must be there, under the same path, where the server runs",
                "the server is not sent through the proxy: the authority's certificate is missing"
            ),
            Self::Another(service) => tracing::warn!(
                service,
                help = "name the services of this server in `[child]`, or with --service",
                "a server can be told of one proxy only; this service's is not used"
            ),
        }
    }
}

/// The way for a server, said in the log once for whatever is to be known of it.
pub(super) fn told(child: &Child, doors: &[Door]) -> BTreeMap<String, Secret> {
    static SAID: Mutex<Vec<Remark>> = Mutex::new(Vec::new());
    let way = way(child, doors, |name| std::env::var_os(name).is_some());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    for remark in way.remarks.iter().filter(|remark| !said.contains(remark)) {
        remark.say();
    }
    *said = way.remarks;
    way.variables
}

fn way(child: &Child, doors: &[Door], is_own: impl Fn(&str) -> bool) -> Way {
    let is_wanted =
        |door: &&Door| child.services.is_empty() || child.services.contains(&door.service);
    let mut wanted = doors.iter().filter(is_wanted);
    let Some(door) = wanted.next() else { return Way::default() };
    let mut remarks: Vec<Remark> =
        wanted.map(|door| Remark::Another(door.service.as_str().to_owned())).collect();
    let missing = |(name, value): &(&String, &String)| {
        FILES.contains(&name.as_str()) && !Path::new(value.as_str()).is_file()
    };
    if let Some((_, file)) = door.variables.iter().find(missing) {
        return Way { remarks: vec![Remark::Missing(file.clone())], ..Way::default() };
    }
    let mut variables = BTreeMap::new();
    for (name, value) in &door.variables {
        // Programs differ in which spelling they look at first.
        let spellings = [name.clone(), name.to_lowercase(), name.to_uppercase()];
        if spellings.iter().any(|name| is_own(name)) {
            remarks.push(Remark::Kept(name.to_uppercase()));
        } else {
            variables.insert(name.clone(), Secret::from(value.as_str()));
        }
    }
    remarks.sort();
    remarks.dedup();
    Way { variables, remarks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::ServiceName;

    fn door(service: &str, file: &Path) -> Door {
        let pairs = [
            ("HTTPS_PROXY", "http://127.0.0.1:3128".to_owned()),
            ("https_proxy", "http://127.0.0.1:3128".to_owned()),
            ("NODE_EXTRA_CA_CERTS", file.display().to_string()),
        ];
        let variables = pairs.map(|(name, value)| (name.to_owned(), value)).into();
        Door { service: ServiceName::new(service), variables }
    }

    fn names(way: &Way) -> Vec<&str> {
        way.variables.keys().map(String::as_str).collect()
    }

    #[test]
    fn what_an_operator_has_set_is_kept_in_either_spelling() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let doors = [door("search", file.path())];
        let all = way(&Child::default(), &doors, |_| false);
        assert_eq!(names(&all), ["HTTPS_PROXY", "NODE_EXTRA_CA_CERTS", "https_proxy"]);
        assert_eq!(all.remarks, []);
        for own in ["HTTPS_PROXY", "https_proxy"] {
            let left = way(&Child::default(), &doors, |name| name == own);
            assert_eq!(names(&left), ["NODE_EXTRA_CA_CERTS"]);
            assert_eq!(left.remarks, [Remark::Kept("HTTPS_PROXY".to_owned())]);
        }
    }

    #[test]
    fn without_the_certificate_a_server_is_not_sent_through_the_proxy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let none = way(&Child::default(), &[door("search", &file)], |_| false);
        assert_eq!(none.variables, BTreeMap::new());
        assert_eq!(none.remarks, [Remark::Missing(file.display().to_string())]);
    }

    #[test]
    fn a_server_is_told_of_the_proxy_of_its_own_service_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let doors = [door("graph", file.path()), door("search", file.path())];
        let of = |services: &[&str]| Child {
            services: services.iter().map(|name| ServiceName::new(name)).collect(),
            ..Child::default()
        };
        let one = way(&of(&["search"]), &doors, |_| false);
        assert_eq!((one.variables.len(), one.remarks.len()), (3, 0));
        assert_eq!(way(&of(&["other"]), &doors, |_| false), Way::default());
        let both = way(&of(&[]), &doors, |_| false);
        assert_eq!(both.remarks, [Remark::Another("search".to_owned())]);
    }
}
